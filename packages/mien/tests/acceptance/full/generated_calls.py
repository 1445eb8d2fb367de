"""Calls through a client that was generated from the OpenAPI document: run with its Python, with a server's URL.

Prints what the answers say as JSON. Nothing of this project is imported here.
"""

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

from mien_generated import AuthenticatedClient, models
from mien_generated.api.detection_recognition import extract, multipart_extract
from mien_generated.api.files import create_files, get_file
from mien_generated.api.inference import infer
from mien_generated.api.tasks import get_task, list_tasks, run
from mien_generated.types import File


def main(url: str, photo: bytes) -> dict[str, Any]:
    client = AuthenticatedClient(base_url=url, token="none is needed", timeout=60)
    encoded = base64.b64encode(photo).decode()
    faces = extract.sync(
        client=client, body=models.ExtractRequest(images=models.Images(data=[encoded]), return_landmarks=True)
    )
    form = models.MultipartExtractBody(file=[File(io.BytesIO(photo), "a.jpg", "image/jpeg")], extract_ga=False)
    uploaded = multipart_extract.sync(client=client, body=form)
    result = infer.sync(client=client, body=models.InferBody(service="face_detection", payload=encoded))
    stored = create_files.sync(
        client=client, body=models.CreateFilesFilesBody(file=File(io.BytesIO(photo), "a.jpg", "image/jpeg"))
    )
    task = run.sync(
        client=client,
        body=models.RunParams(app="mien/faces", input_={"image": stored.data.uri}, metadata=None),
        wait="true",
    )
    page = list_tasks.sync(client=client, app="mien/faces", status="completed", limit=1)
    nothing = get_task.sync(client=client, task_id="unknown")
    return {
        "kinds": [type(one).__name__ for one in (faces, uploaded, result, stored, task, page, nothing)],
        "faces": [len(faces.data[0].faces), len(uploaded.data[0].faces), task.data.output["count"]],
        "landmarks": len(faces.data[0].faces[0].landmarks),
        "vector": len(faces.data[0].faces[0].vec),
        "result": json.loads(base64.b64decode(result.data.result))["count"],
        "file": [stored.data.size, get_file.sync(client=client, file_id=stored.data.id).data.ready],
        "task": [task.data.status_name, task.data.created_at.year >= 2026, page.data.items[0].id == task.data.id],
        "error": nothing.error.code,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]).read_bytes())))  # noqa: T201
