"""Index the faces of a folder of photos, and find the photos of a person.

    python examples/index_folder.py ~/Photos                    # writes ~/Photos/faces.jsonl
    python examples/index_folder.py ~/Photos --find anna.jpg    # the photos with a face like the one in anna.jpg

The index has one line per photo. A second run adds new photos. You can interrupt it at any time and continue later.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ifr_clients import IFRClient, IFRError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".avif"}


def read_index(index: Path) -> Iterator[dict[str, Any]]:
    """The lines of the index, without an incomplete last one."""
    if index.exists():
        for line in index.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)


def add_new_photos(client: IFRClient, folder: Path, index: Path) -> int:
    """Append every photo of the folder that is not in the index; returns the number of failures."""
    known = list(read_index(index))
    index.write_text("".join(json.dumps(line) + "\n" for line in known))
    names = {line["photo"] for line in known}
    photos = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    new = [path for path in photos if str(path.relative_to(folder)) not in names]

    failures = 0
    results = client.extract_many(new, mode="data", progress=True, raw_response=False)
    with index.open("a") as out:
        for path, result in zip(new, results, strict=True):
            if not result.ok:
                failures += 1
                print(f"{path}: {result.reason}", file=sys.stderr)
                continue
            faces = [{"bbox": face.bbox, "prob": face.prob, "vec": face.vec} for face in result.faces or ()]
            out.write(json.dumps({"photo": str(path.relative_to(folder)), "faces": faces}) + "\n")
            out.flush()
    return failures


def find(client: IFRClient, index: Path, image: Path) -> list[tuple[float, str]]:
    """Cosine and name of the photos with a face that matches the largest one in `image`, best match first."""
    threshold = client.server_info(show=False)["models"].get("same_threshold", 0.4)
    (wanted,) = client.extract([image], mode="data", limit_faces=1, raw_response=False).data
    if not wanted.faces:
        raise SystemExit(f"{image}: {wanted.reason or 'no face found'}")
    vector = wanted.faces[0].vec or []
    found = []
    for line in read_index(index):
        cosines = [sum(a * b for a, b in zip(vector, face["vec"], strict=True)) for face in line["faces"]]
        if cosines and max(cosines) >= threshold:
            found.append((max(cosines), line["photo"]))
    return sorted(found, reverse=True)


def main() -> int:
    """Returns the exit code: 0, or 1 if a photo could not be used."""
    parser = argparse.ArgumentParser(description="Index the faces of a folder of photos.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--find", type=Path, metavar="IMAGE", help="list the photos with this face")
    parser.add_argument("--index", type=Path, help="the index (default: faces.jsonl in the folder)")
    parser.add_argument("--host", default="http://localhost")
    parser.add_argument("--port", type=int, default=18081)
    arguments = parser.parse_args()
    index = arguments.index or arguments.folder / "faces.jsonl"
    try:
        with IFRClient(arguments.host, arguments.port) as client:
            if arguments.find is None:
                return 1 if add_new_photos(client, arguments.folder, index) else 0
            for cosine, photo in find(client, index, arguments.find):
                print(f"{cosine:.2f}  {photo}")
            return 0
    except IFRError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
