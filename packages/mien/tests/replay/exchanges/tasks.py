"""Tasks: run, watched, listed, cancelled, in every dialect; sessions and webhooks."""

from typing import Any

from ..steps import JSON, Delivered, Http, Step, get, post
from .photos import BLACK, FACE, b64

SDK_A = {"User-Agent": "inference-sdk-py/0.6.0"}
SDK_B = {"User-Agent": "inference-sdk-py/0.6.1"}
SDK_PROBLEMS = {"User-Agent": "inference-sdk-py/0.7.8"}
BARE = {"X-API-Version": "2"}
SSE = {"Accept": "text/event-stream"}
LINES = {"Accept": "application/x-ndjson"}
DIALECTS: dict[str, tuple[str, dict[str, str]]] = {
    "no hint": ("", {}),
    "prefix 0.5": ("/compat/0.5", {}),
    "prefix latest": ("/compat/latest", {}),
    "sdk 0.6.0": ("", SDK_A),
    "sdk 0.6.1": ("", SDK_B),
    "sdk 0.7.8": ("", SDK_PROBLEMS),
    "bare": ("", BARE),
    "ndjson": ("", LINES),
    "our client": ("", {"User-Agent": "mien-inferencesh/0.1"}),
}
FULLY = ("no hint", "prefix 0.5", "bare", "ndjson")


def steps() -> list[Step]:
    """While there is no key."""
    return [*_builtin(), *_deployed(), *_dialects(), *_wrong(), *_sessions(), *_lists()]


def run(
    name: str,
    app: str,
    given: Any,
    *,
    query: str = "?wait=true",
    path: str = "/run",
    headers: Any = None,
    capture: dict[str, str] | None = None,
    live: bool = False,
    **params: Any,
) -> Http:
    """`POST /run`, waiting for the task's end."""
    value = {"app": app, "input": given, **params}
    return post(f"tasks/{name}", f"{path}{query}", value, headers=headers or {}, capture=capture or {}, live=live)


def _builtin() -> list[Step]:
    uri = f"data:image/jpeg;base64,{b64(FACE)}"
    black = f"data:image/png;base64,{b64(BLACK)}"
    return [
        run("faces of a data URI", "mien/faces", {"image": black}),
        run(
            "faces of a file",
            "mien/faces",
            {"image": "{{file.face_uri}}", "max_faces": 1},
            capture={"task.faces": "data.id"},
        ),
        run("faces of a File map", "mien/faces", {"image": {"uri": "{{file.face_uri}}"}}),
        run("classify", "mien/classify", {"image": black, "top_k": 2}),
        run("embed a text", "mien/embed", {"text": "a fox"}),
        run("embed an image", "mien/embed", {"image": black}),
        run("faces too large an input", "mien/faces", {"image": uri}),
        run("embed neither", "mien/embed", {}),
        run(
            "classify nothing",
            "mien/classify",
            {"image": "data:image/png;base64,AAAA"},
            capture={"task.failed": "data.id"},
        ),
        run("classify a path", "mien/classify", {"image": "/etc/passwd"}),
        run("classify wrong field", "mien/classify", {"image": black, "top_k": 0}),
        run("faces with a session", "mien/faces", {"image": black}, session="new"),
        run("faces of another variant", "mien/faces", {"image": black}, variant="big"),
    ]


def _deployed() -> list[Step]:
    return [
        run("cold", "test/kit", {"text": "one"}, capture={"task.cold": "data.id"}),
        run(
            "warm, in lines",
            "test/kit",
            {"text": "a", "times": 3},
            metadata={"k": [1, {"x": None}]},
            priority=7,
            capture={"task.warm": "data.id"},
        ),
        run("through /apps/run", "test/kit", {"text": "b"}, path="/apps/run", capture={"task.apps_run": "data.id"}),
        run("other function", "test/kit:other", {"text": "c"}),
        run(
            "function as a field",
            "test/kit@{{app.kit}}",
            {"text": "d"},
            function="other",
            infra="private",
            workers=["w"],
        ),
        run("by version field", "test/kit", {"text": "e"}, version="latest"),
        run("fails", "test/kit", {"do": "fail", "text": "yes"}, capture={"task.error": "data.id"}),
        run("gives a secret's length", "test/kit", {"do": "secret"}),
        run("gives too much", "test/kit", {"do": "large"}),
        run(
            "takes and gives a file",
            "test/kit",
            {"do": "file", "file": "{{file.text_uri}}"},
            capture={"task.file": "data.id", "made_path": "data.output.file"},
        ),
        get("tasks/read the file it made", "{{made_path}}"),
        get("tasks/its files", "/tasks/{{task.file}}/files", capture={"file.made": "data.0.id"}),
        run("output into input", "test/kit", {"do": "file", "file": "{{server}}{{made_path}}"}),
        run(
            "not waiting",
            "test/kit",
            {"text": "f"},
            query="",
            run_at="2200-01-01T00:00:00Z",
            capture={"task.later": "data.id"},
        ),
        run("idempotent", "test/kit", {"text": "g"}, idempotency_key="key-1"),
        run("idempotent again", "test/kit", {"text": "g"}, headers={"Idempotency-Key": "key-1"}),
        run("idempotency conflict", "test/kit", {"text": "h"}, idempotency_key="key-1"),
        run("two idempotency keys", "test/kit", {}, idempotency_key="key-1", headers={"Idempotency-Key": "key-2"}),
        run("bare", "test/kit", {"text": "i"}, headers=BARE),
        run("as sdk 0.6.1", "test/kit", {"text": "j"}, headers=SDK_B, capture={"task.b": "data.id"}),
        run(
            "streamed as SSE",
            "test/kit",
            {"text": "k", "times": 2, "seconds": 0.02},
            query="",
            headers=SSE,
            live=True,
            stream=True,
        ),
        run(
            "streamed in lines", "test/kit", {"text": "l", "times": 2}, query="", headers=LINES, live=True, stream=True
        ),
        run("stream wanted, no stream accepted", "test/kit", {"text": "m"}, stream=True),
        run("with a webhook", "test/kit", {"text": "n"}, webhook="{{web}}/hook", capture={"task.hook": "data.id"}),
        Delivered("tasks/webhook", "/hook"),
        run("greedy", "test/greedy", {"text": "o"}),
        post(
            "tasks/as a service",
            "/v1/infer?decode=1",
            {"service": "kit_service", "payload": b64(b"p"), "correlation_id": "c"},
        ),
        post(
            "tasks/as a service, other function",
            "/v1/infer?decode=1",
            {"service": "kit_service", "task": "other", "payload": b64(b"p"), "correlation_id": "c"},
        ),
        post(
            "tasks/as a service that fails",
            "/v1/infer",
            {"service": "kit_service", "payload": b64(b"p"), "metadata": {"do": "fail"}, "correlation_id": "c"},
        ),
        Http("tasks/delete", "DELETE", "/tasks/{{task.apps_run}}"),
        Http("tasks/delete again", "DELETE", "/tasks/{{task.apps_run}}"),
        Http("tasks/delete a waiting one", "DELETE", "/tasks/{{task.later}}"),
        Http("tasks/cancel a waiting one", "POST", "/tasks/{{task.later}}/cancel"),
        Http("tasks/cancel an ended one", "POST", "/tasks/{{task.cold}}/cancel"),
        get("tasks/cancelled one", "/tasks/{{task.later}}"),
        Http("tasks/stream of a cancelled one", "GET", "/tasks/{{task.later}}/stream"),
    ]


def _dialects() -> list[Step]:
    found: list[Step] = []
    for name, (prefix, headers) in DIALECTS.items():
        for task in ("cold", "b", "error") if name in FULLY else ("error",):
            found.append(get(f"tasks/{task} for {name}", f"{prefix}/tasks/{{{{task.{task}}}}}", headers=headers))
        found += [
            get(f"tasks/status for {name}", f"{prefix}/tasks/{{{{task.error}}}}/status", headers=headers),
            get(f"tasks/list for {name}", f"{prefix}/tasks?limit=1&status=failed", headers=headers),
            get(f"tasks/unknown for {name}", f"{prefix}/tasks/nobody", headers=headers),
            post(
                f"tasks/wrong run for {name}",
                f"{prefix}/run",
                {"app": "test/kit", "input": {"times": "x"}},
                headers=headers,
            ),
        ]
        if name in FULLY:
            found.append(get(f"tasks/stream for {name}", f"{prefix}/tasks/{{{{task.warm}}}}/stream", headers=headers))
    return [
        *found,
        get("tasks/built in", "/tasks/{{task.faces}}"),
        get("tasks/built in that failed", "/tasks/{{task.failed}}"),
        get("tasks/logs", "/tasks/{{task.warm}}/logs"),
        get("tasks/logs after", "/tasks/{{task.warm}}/logs?after=1&limit=1"),
        get("tasks/logs, wrong number", "/tasks/{{task.warm}}/logs?after=x"),
        get("tasks/logs, wrong limit", "/tasks/{{task.warm}}/logs?limit=0"),
        get("tasks/logs of nobody", "/tasks/nobody/logs"),
        get("tasks/files of nobody", "/tasks/nobody/files"),
        get("tasks/stream of nobody", "/tasks/nobody/stream"),
        get("tasks/stream resumed", "/tasks/{{task.warm}}/stream", headers={"Last-Event-ID": "1.1.0", **LINES}),
        get("tasks/stream resumed by query", "/tasks/{{task.warm}}/stream?after=1.1.0", headers=SSE),
        get("tasks/stream, wrong cursor", "/tasks/{{task.warm}}/stream?after=x"),
        get("tasks/stream, cursor from the future", "/tasks/{{task.warm}}/stream?after=9999.1.1"),
        get("tasks/doubled slashes", "//tasks//{{task.cold}}/status"),
        Http("tasks/HEAD", "HEAD", "/tasks/{{task.cold}}"),
        Http("tasks/cancel nobody", "POST", "/tasks/nobody/cancel"),
        Http("tasks/delete nobody", "DELETE", "/tasks/nobody"),
        Http("tasks/method", "PUT", "/tasks"),
        Http("tasks/run by GET", "GET", "/run"),
        get("tasks/with a slash at its end", "/tasks/"),
    ]


def _wrong() -> list[Step]:
    params: dict[str, dict[str, Any]] = {
        "infra": {"infra": "moon"},
        "webhook": {"webhook": "ftp://x"},
        "webhook no url": {"webhook": "x"},
        "priority": {"priority": 101},
        "priority as text": {"priority": "high"},
        "timeout": {"timeout": 0},
        "retries": {"retries": -1},
        "deadline": {"deadline": "tomorrow"},
        "run_at": {"run_at": -1},
        "key too long": {"idempotency_key": "x" * 201},
        "session": {"session": "sess_nobody"},
        "session_timeout": {"session": "new", "session_timeout": -1},
        "variant": {"variant": "small"},
        "function": {"function": "nothing"},
        "version": {"version": "zzz"},
        "unknown version": {"version": "ffffff"},
        "metadata": {"metadata": [1]},
        "workers": {"workers": "w"},
        "setup": {"setup": {"name": 1}},
        "unknown field": {"colour": "blue", "run_at": "2200-01-01T00:00:00Z"},
    }
    inputs: dict[str, Any] = {
        "types": {"text": 1, "times": "x"},
        "no map": [1],
        "unknown field": {"colour": 1, "do": 3},
        "missing file": {"file": "{{server}}/files/00000000000000000000000000/x"},
        "too large": {"text": "x" * 21_000},
    }
    bodies = {"no JSON": b"{", "a list": b"[]", "empty": b"", "nested": b'{"app":' + b"[" * 70 + b"]" * 70 + b"}"}
    apps = {"unknown": "test/nothing", "no name": "Not A Name", "empty": "", "a number": 7, "three parts": "a/b/c"}
    return [
        *(run(f"wrong {name}", "test/kit", {}, query="", **given) for name, given in params.items()),
        *(run(f"wrong input: {name}", "test/kit", given, query="") for name, given in inputs.items()),
        *(Http(f"tasks/body: {name}", "POST", "/run", body, {"Content-Type": JSON}) for name, body in bodies.items()),
        *(post(f"tasks/app: {name}", "/run", {"app": app}) for name, app in apps.items()),
        Http("tasks/body: too large", "POST", "/run", b" " * 1_100_000, {"Content-Type": JSON}),
        post(
            "tasks/body: fields wrong, problem",
            "/run",
            {"app": "test/kit", "input": {"times": "x"}},
            headers=SDK_PROBLEMS,
        ),
    ]


def _sessions() -> list[Step]:
    joined = {"session": "{{session.one}}"}
    return [
        get("sessions/none", "/sessions"),
        run(
            "session opened",
            "test/kit",
            {"text": "s"},
            session="new",
            session_timeout=600,
            capture={"session.one": "data.session_id"},
        ),
        run("session goes on", "test/kit", {"text": "s"}, **joined),
        run("session of another app", "test/plain", {"text": "s"}, **joined),
        run("session of another variant", "test/kit", {"text": "s"}, variant="big", **joined),
        run("session of another setup", "test/kit", {"text": "s"}, setup={"name": "x"}, **joined),
        get("sessions/list", "/sessions"),
        get("sessions/show", "/sessions/{{session.one}}"),
        get("sessions/show, bare", "/sessions/{{session.one}}", headers=BARE),
        Http("sessions/keepalive", "POST", "/sessions/{{session.one}}/keepalive"),
        get("sessions/its tasks", "/tasks?session_id={{session.one}}"),
        Http("sessions/end", "DELETE", "/sessions/{{session.one}}"),
        Http("sessions/end again", "DELETE", "/sessions/{{session.one}}"),
        Http("sessions/keepalive after the end", "POST", "/sessions/{{session.one}}/keepalive"),
        run("session that was ended", "test/kit", {"text": "s"}, **joined),
        get("sessions/unknown", "/sessions/sess_nobody"),
        Http("sessions/end unknown", "DELETE", "/sessions/sess_nobody"),
        Http("sessions/keepalive unknown", "POST", "/sessions/sess_nobody/keepalive"),
    ]


def _lists() -> list[Step]:
    queries = {
        "of an app": "app=mien/faces",
        "by status names": "status=completed,failed&limit=2",
        "by number": "status=11&limit=2",
        "dispatched": "status=dispatched",
        "by function": "function=other",
        "of an unknown app": "app=test/nothing",
        "created before": "created_before=2020-01-01T00:00:00Z",
        "created after, a number": "created_after=1&limit=1",
        "wrong status": "status=done",
        "wrong number": "status=99",
        "wrong limit": "limit=201",
        "no limit": "limit=&app=mien/embed",
        "wrong time": "created_after=yesterday",
        "wrong cursor": "cursor=x",
        "wrong app": "app=a/b/c",
    }
    bodies: dict[str, Any] = {
        "empty": {},
        "statuses": {"status": ["completed", 11], "limit": 2},
        "wrong": {"created_after": [1]},
        "list": [1],
    }
    return [
        *(
            get(f"tasks/list: {name}", f"/tasks?{query}&limit=1" if "limit" not in query else f"/tasks?{query}")
            for name, query in queries.items()
        ),
        *(
            post(
                f"tasks/list by body: {name}",
                "/tasks/list",
                {"limit": 1, **value} if isinstance(value, dict) else value,
            )
            for name, value in bodies.items()
        ),
        get("tasks/first page", "/tasks?limit=2", capture={"page_cursor": "data.next_cursor"}),
        get("tasks/second page", "/tasks?limit=2&cursor={{page_cursor}}"),
        get("tasks/list, bare", "/tasks?limit=1", headers=BARE),
    ]


def last_steps() -> list[Step]:
    """What may take a worker away, and a full queue."""
    later = {"run_at": "2200-01-01T00:00:00Z"}
    return [
        run("long one", "test/kit", {"text": "x", "seconds": 600}, query="", capture={"task.long": "data.id"}),
        get("tasks/long one runs", "/tasks/{{task.long}}", until="data.log_count", recorded=False),
        Http("tasks/delete a running one", "DELETE", "/tasks/{{task.long}}"),
        Http("tasks/cancel a running one", "POST", "/tasks/{{task.long}}/cancel"),
        get("tasks/running one cancelled", "/tasks/{{task.long}}", until="data.finished_at"),
        Http("tasks/cancel again", "POST", "/tasks/{{task.long}}/cancel"),
        run("time is up", "test/kit", {"text": "x", "seconds": 600}, timeout=0.2),
        run("deadline passed", "test/kit", {"text": "x"}, deadline=1),
        run("worker exits", "test/kit", {"do": "exit"}, retries=0),
        *(
            run(f"fills the schedule, {number}", "mien/faces", {"image": "data:,"}, query="", **later)
            for number in range(9)
        ),
        run("schedule is full", "mien/faces", {"image": "data:,"}, query="", **later),
        run("schedule is full, problem", "mien/faces", {"image": "data:,"}, query="", headers=SDK_PROBLEMS, **later),
    ]
