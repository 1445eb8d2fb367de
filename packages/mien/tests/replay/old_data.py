"""A data folder that version 0.1.0 wrote: API keys, tasks of every end, files and blobs, an app, secrets.

Every later version opens it. Written by running, from the repository's root,

    .venv/bin/python -m packages.mien.tests.replay.old_data --server-python .venv/bin/python --version 0.1.0

which a release with another layout of its data does for itself, beside the older ones.
"""

import argparse
import json
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

from .exchanges import files, tasks
from .exchanges.apps import KIT, MANIFEST, PLAIN, deploy, packed
from .exchanges.photos import BLACK, FACE, b64
from .player import Commands, Running, with_images
from .steps import FORM, Command, Http, Step, form, get, post

HERE = Path(__file__).parent
ARCHIVE = HERE / "data-0.1.0.tar.gz"
KNOWN = HERE / "data-0.1.0.json"
SETTINGS = {
    "age_model": "none",
    "gender_model": "none",
    "mask_model": "none",
    "text_model": "none",
    "threads": "2",
    "offline": "true",
    "file_url_seconds": "3000000000",
    "app_secrets": '{"TOKEN": "s3cr3t-token"}',
    "app_memory": "536870912",
    "task_grace": "0.5",
}


def with_old_data(folder: Path) -> Path:
    """Put the old data into a server's folder."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def known_of_old() -> dict[str, str]:
    """Ids, paths and the keys of the old data, by the names that its exchanges use."""
    known: dict[str, str] = json.loads(KNOWN.read_text())
    return known


def steps() -> list[Step]:
    """What fills the folder."""
    kit = {"inf.yml": MANIFEST, "inference.py": KIT}
    older = {"inf.yml": "name: plain\nnamespace: test\n", "inference.py": PLAIN}
    text = ("file", files.CONTENT, "note.txt", "text/plain")
    face = ("file", FACE, "face one.jpg")
    key = r"(mien_[\w-]+)"
    headers = {"Content-Type": FORM}
    run = tasks.run
    return [
        deploy("kit", packed(kit), capture={"old.kit": "data.version_id"}),
        deploy("plain", packed(older), capture={"old.plain": "data.version_id"}),
        deploy("plain, newer", packed({**older, "inf.yml": "name: plain\nnamespace: test\ndescription: newer\n"})),
        Http(
            "text",
            "POST",
            "/files",
            form(text),
            headers,
            capture={"old.text": "data.id", "old.text_path": "data.uri", "old.text_uri": "data.uri"},
        ),
        Http(
            "face",
            "POST",
            "/files",
            form(face, ("public", "true")),
            headers,
            capture={"old.face": "data.id", "old.face_path": "data.uri", "old.face_uri": "data.uri"},
        ),
        post(
            "empty record",
            "/files",
            {"filename": "later.txt"},
            capture={"old.later": "data.0.id", "old.later_path": "data.0.upload_url"},
        ),
        run(
            "done",
            "test/kit",
            {"text": "a", "times": 3},
            priority=3,
            metadata={"k": 1},
            capture={"old.done": "data.id"},
        ),
        run("failed", "test/kit", {"do": "fail", "text": "b"}, capture={"old.failed": "data.id"}),
        run(
            "file",
            "test/kit",
            {"do": "file", "file": "{{old.text_uri}}"},
            idempotency_key="old-key",
            capture={"old.file": "data.id", "old.made_path": "data.output.file"},
        ),
        run("table B", "test/kit", {"text": "c"}, headers=tasks.SDK_B, capture={"old.b": "data.id"}),
        run("faces", "mien/faces", {"image": "{{old.face_uri}}"}, capture={"old.faces": "data.id"}),
        run(
            "classify",
            "mien/classify",
            {"image": f"data:image/png;base64,{b64(BLACK)}", "top_k": 2},
            capture={"old.classify": "data.id"},
        ),
        run(
            "waits",
            "test/plain",
            {"text": "d"},
            query="",
            run_at="2200-01-01T00:00:00Z",
            capture={"old.waits": "data.id"},
        ),
        run(
            "to cancel",
            "test/plain",
            {"text": "e"},
            query="",
            run_at="2200-01-01T00:00:00Z",
            capture={"old.cancelled": "data.id"},
        ),
        Http("cancel", "POST", "/tasks/{{old.cancelled}}/cancel"),
        run("long", "test/kit", {"text": "f", "seconds": 600}, query="", capture={"old.stopped": "data.id"}),
        get("long runs", "/tasks/{{old.stopped}}", until="data.log_count"),
        Http("cancel it", "POST", "/tasks/{{old.stopped}}/cancel"),
        get("it is cancelled", "/tasks/{{old.stopped}}", until="data.finished_at"),
        Command("infer key", ["keys", "create", "old infer"], capture={"old.key": key, "old.key_id": r"key (\w+) for"}),
        Command(
            "admin key",
            ["keys", "create", "old both", "--scope", "infer", "--scope", "admin"],
            capture={"old.admin": key, "old.admin_id": r"key (\w+) for"},
        ),
    ]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server-python", type=Path, default=Path(sys.executable))
    parser.add_argument("--version", required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mien-old-") as name:
        folder = with_images(Path(name))
        python = asked.server_python.absolute()
        with (
            closing(Commands(python)) as commands,
            closing(Running(python, commands, folder, SETTINGS, server=True)) as running,
        ):
            _, known = running.played(steps(), {})
        with tarfile.open(HERE / f"data-{asked.version}.tar.gz", "w:gz") as archive:
            archive.add(folder / "data", "data", filter=_plain)
    (HERE / f"data-{asked.version}.json").write_text(json.dumps(known, indent=1) + "\n")
    return 0


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Nobody's in particular, and only files that hold state."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry if entry.isdir() or entry.isfile() else None


if __name__ == "__main__":
    sys.exit(main())
