"""A server on the data that an old version wrote: its keys, tasks, files and apps, and new work beside them."""

from ..steps import FORM, Command, Http, Step, form, get, post
from .apps import PLAIN, deploy, packed
from .faces import PLAIN as NO_EMBEDDING
from .photos import BLACK, FACE, b64

TASKS = ("done", "failed", "file", "b", "faces", "classify", "waits", "cancelled", "stopped")
KEY = {"Authorization": "Bearer {{old.key}}"}
ADMIN = {"X-API-Key": "{{old.admin}}"}
SDK_B = {**KEY, "User-Agent": "inference-sdk-py/0.6.1"}


def steps() -> list[Step]:
    """All of them."""
    return [*_too_slow(), *_keys(), *_tasks(), *_files(), *_apps(), *_new_work(), *_other_settings()]


def _old(name: str, path: str, method: str = "GET", **headers: str) -> Http:
    return Http(f"old data/{name}", method, path, None, headers or KEY)


def _keys() -> list[Step]:
    return [
        get("old data/no key", "/tasks"),
        get("old data/unknown key", "/tasks", headers={"X-API-Key": "mien_wrong"}),
        _old("info", "/info"),
        _old("apps need admin", "/apps/test/nothing", "DELETE"),
        _old("admin may", "/apps/test/nothing", "DELETE", **ADMIN),
        Command("old data/keys list", ["keys", "list"]),
    ]


def _tasks() -> list[Step]:
    found: list[Step] = []
    for task in TASKS:
        path = f"/tasks/{{{{old.{task}}}}}"
        found += [
            _old(f"task {task}", path),
            _old(f"task {task} as sdk 0.6.1", f"{path}/status", **SDK_B),
            _old(f"logs of {task}", f"{path}/logs"),
            _old(f"files of {task}", f"{path}/files"),
        ]
        if task in ("done", "failed", "stopped"):
            found.append(_old(f"stream of {task}", f"{path}/stream"))
    return [
        *found,
        _old("first page", "/tasks?limit=1&status=completed"),
        _old("queued", "/tasks?status=queued"),
        _old("cancel the waiting one", "/tasks/{{old.waits}}/cancel", "POST"),
        _old("the waiting one, cancelled", "/tasks/{{old.waits}}"),
        _old("delete one", "/tasks/{{old.b}}", "DELETE"),
        _old("the deleted one", "/tasks/{{old.b}}"),
    ]


def _files() -> list[Step]:
    return [
        _old("file records", "/files"),
        _old("file record", "/files/{{old.text}}"),
        _old("file record without content", "/files/{{old.later}}"),
        get("old data/public file", "{{old.face_path}}"),
        get("old data/file by its old signature", "{{old.text_path}}"),
        get("old data/file that a task made", "{{old.made_path}}", headers={"Range": "bytes=0-9"}),
        get("old data/file without signature", "/files/{{old.text}}/note.txt"),
        Http("old data/put to an old URL", "PUT", "{{old.later_path}}", b"late"),
        _old("file record after the upload", "/files/{{old.later}}"),
        _old("delete a file", "/files/{{old.later}}", "DELETE"),
    ]


def _apps() -> list[Step]:
    return [
        _old("apps", "/apps"),
        _old("app", "/apps/test/kit"),
        _old("app of two versions", "/apps/test/plain"),
        _old("roll back", "/apps/test/plain/rollback", "POST", **ADMIN),
        Command("old data/apps list", ["apps", "list"]),
    ]


def _new_work() -> list[Step]:
    def run(name: str, app: str, given: object, **more: object) -> Http:
        return post(f"old data/{name}", "/run?wait=true", {"app": app, "input": given, **more}, headers=KEY)

    text = {"do": "file", "file": "{{server}}{{old.text_path}}"}
    again = packed({"inf.yml": "name: plain\nnamespace: test\n", "inference.py": PLAIN})
    return [
        # first, as it makes the environment of the app that follows, unless this machine has it already
        deploy("an old version again", again, headers=ADMIN),
        run("run the old app", "test/kit", {"text": "new"}),
        run("run the old app on an old file", "test/kit", text),
        run("old idempotency key", "test/kit", {"text": "other"}, idempotency_key="old-key"),
        run("faces of an old file", "mien/faces", {"image": "{{server}}{{old.face_path}}", "max_faces": 1}),
        run("classify without a model", "mien/classify", {"image": f"data:image/png;base64,{b64(BLACK)}"}),
        Http("old data/new file", "POST", "/files", form(("file", b"new", "new.txt")), {"Content-Type": FORM, **KEY}),
    ]


def _other_settings() -> list[Step]:
    """What the first server is not set to."""
    image = {"images": {"data": [b64(FACE), "!"]}, **NO_EMBEDDING}
    face = {"service": "face_detection", "payload": b64(FACE), "correlation_id": "c"}
    return [
        post("old data/status words ok", "/extract", image, headers=KEY),
        post("old data/crops have a status", "/extract", {**image, "embed_only": True}, headers=KEY),
        post("old data/no age model", "/extract", {**image, "extract_ga": True, "detect_masks": True}, headers=KEY),
        post("old data/strict metadata", "/v1/infer", {**face, "metadata": {"colour": "blue"}}, headers=KEY),
        post("old data/no such service", "/v1/infer", {**face, "service": "embedding"}, headers=KEY),
        _old("services", "/v1/tasks"),
        _old("config", "/v1/config"),
    ]


def _too_slow() -> list[Step]:
    """They end while the others are under way."""
    return [
        Http(
            "old data/body too slow", "POST", "/extract", b"{", {"Content-Type": "application/json", **KEY}, stalls=True
        ),
        Http(
            "old data/infer body too slow",
            "POST",
            "/v1/infer",
            b"{",
            {"Content-Type": "application/json", **KEY},
            stalls=True,
        ),
        Http(
            "old data/form too slow",
            "POST",
            "/multipart/extract",
            b"--frontier",
            {"Content-Type": FORM, **KEY},
            stalls=True,
        ),
    ]
