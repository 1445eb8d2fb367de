"""API keys and pages of other origins: from here on the server has keys."""

from ..steps import JSON, Command, Http, Step, as_json, get
from .photos import BLACK, b64

ROUTES = (
    ("POST", "/extract"),
    ("POST", "/multipart/extract"),
    ("POST", "/compare"),
    ("POST", "/draw_detections"),
    ("POST", "/multipart/draw_detections"),
    ("GET", "/info"),
    ("GET", "/metrics"),
    ("POST", "/v1/infer"),
    ("GET", "/v1/nodes"),
    ("GET", "/v1/nodes/local/capabilities"),
    ("GET", "/v1/tasks"),
    ("GET", "/v1/metrics"),
    ("GET", "/v1/config"),
    ("POST", "/run"),
    ("POST", "/apps/run"),
    ("GET", "/tasks"),
    ("POST", "/tasks/list"),
    ("GET", "/tasks/{{task.cold}}"),
    ("DELETE", "/tasks/{{task.cold}}"),
    ("GET", "/tasks/{{task.cold}}/status"),
    ("GET", "/tasks/{{task.cold}}/logs"),
    ("GET", "/tasks/{{task.cold}}/files"),
    ("GET", "/tasks/{{task.cold}}/stream"),
    ("POST", "/tasks/{{task.cold}}/cancel"),
    ("GET", "/files"),
    ("POST", "/files"),
    ("GET", "/files/{{file.text}}"),
    ("DELETE", "/files/{{file.text}}"),
    ("GET", "/models"),
    ("POST", "/models/mask/load"),
    ("POST", "/models/mask/unload"),
    ("GET", "/apps"),
    ("POST", "/apps"),
    ("GET", "/apps/test/kit"),
    ("DELETE", "/apps/test/kit"),
    ("POST", "/apps/test/kit/rollback"),
    ("GET", "/sessions"),
    ("GET", "/sessions/{{session.one}}"),
    ("DELETE", "/sessions/{{session.one}}"),
    ("POST", "/sessions/{{session.one}}/keepalive"),
)
OPEN = (
    "/livez",
    "/readyz",
    "/health",
    "/v1/health",
    "/docs",
    "/v1/nodes/watch",
    "/nothing",
    "{{text_path}}",
    "{{face_path}}",
    "/files/{{file.text}}/note.txt",
    "/",
)
ADMIN = (
    ("POST", "/apps"),
    ("POST", "/apps/test/nothing/rollback"),
    ("DELETE", "/apps/test/nothing"),
    ("POST", "/models/yunet/unload"),
)
SECRET = r"(mien_[\w-]+)"


def steps() -> list[Step]:
    """All of them."""
    return [*_keys(), *_without(), *_with(), *_origins(), *_revoked()]


def _keys() -> list[Step]:
    return [
        Command(
            "access/keys create",
            ["keys", "create", "infer only"],
            capture={"key.infer": SECRET, "key.infer_id": r"key (\w+) for"},
        ),
        Command(
            "access/keys create with scopes",
            ["keys", "create", "both", "--scope", "infer", "--scope", "admin"],
            capture={"key.both": SECRET, "key.both_id": r"key (\w+) for"},
        ),
        Command(
            "access/keys create, admin only",
            ["keys", "create", "root", "--scope", "admin"],
            capture={"key.admin": SECRET, "key.admin_id": r"key (\w+) for"},
        ),
        Command("access/keys list", ["keys", "list"]),
        Command("access/keys create, unknown scope", ["keys", "create", "x", "--scope", "all"]),
        Command("access/keys revoke unknown", ["keys", "revoke", "00000000"]),
    ]


def _without() -> list[Step]:
    forms = {
        "wrong bearer": {"Authorization": "Bearer mien_wrong"},
        "wrong header": {"X-API-Key": "mien_wrong"},
        "basic": {"Authorization": "Basic bWllbjp4"},
        "bearer of nothing": {"Authorization": "Bearer"},
        "lower-case bearer": {"Authorization": "bearer mien_wrong"},
        "empty header": {"X-API-Key": ""},
    }
    return [
        *(Http(f"access/no key: {method} {_shown(path)}", method, path) for method, path in ROUTES),
        *(get(f"access/open: {_shown(path)}", path) for path in OPEN),
        *(get(f"access/{name}", "/info", headers=headers) for name, headers in forms.items()),
        get("access/no key, for sdk 0.7.8", "/tasks", headers={"User-Agent": "inference-sdk-py/0.7.8"}),
        Http("access/unknown path with another method", "POST", "/nothing"),
    ]


def _with() -> list[Step]:
    key = {"Authorization": "Bearer {{key.infer}}"}
    asked = {"service": "classification", "payload": b64(BLACK), "correlation_id": "c"}
    return [
        get("access/bearer", "/v1/health", headers=key),
        get("access/bearer for info", "/info", headers=key),
        get("access/header for info", "/info", headers={"X-API-Key": "{{key.infer}}"}),
        get("access/lower-case bearer of a key", "/sessions", headers={"Authorization": "bearer {{key.infer}}"}),
        get("access/bearer wins over header", "/sessions", headers={**key, "X-API-Key": "mien_wrong"}),
        get("access/admin lacks infer", "/info", headers={"X-API-Key": "{{key.admin}}"}),
        get(
            "access/admin lacks infer, for sdk 0.7.8",
            "/tasks",
            headers={"X-API-Key": "{{key.admin}}", "User-Agent": "inference-sdk-py/0.7.8"},
        ),
        *(Http(f"access/infer lacks admin: {method} {path}", method, path, headers=key) for method, path in ADMIN),
        *(
            Http(f"access/admin may: {method} {path}", method, path, headers={"X-API-Key": "{{key.admin}}"})
            for method, path in ADMIN
        ),
        *(
            Http(f"access/both may: {method} {path}", method, path, headers={"X-API-Key": "{{key.both}}"})
            for method, path in ADMIN
        ),
        Http("access/infer with a key", "POST", "/v1/infer", as_json(asked), {"Content-Type": JSON, **key}),
        get("access/task of before", "/tasks/{{task.cold}}/status", headers=key),
        get("access/content with a key", "/files/{{file.text}}/note.txt", headers=key),
        get("access/content with a wrong key", "/files/{{file.text}}/note.txt", headers={"X-API-Key": "mien_wrong"}),
        Command("access/command without a key", ["tasks", "list"]),
        Command("access/command with a key", ["tasks", "cancel", "{{task.cold}}", "--api-key", "{{key.infer}}"]),
        Command("access/command with a key in its environment", ["nodes", "list"], {"MIEN_API_KEY": "{{key.infer}}"}),
        Command(
            "access/command that lacks admin",
            ["apps", "rm", "test/kit", "--url", "{{server}}"],
            {"MIEN_API_KEY": "{{key.infer}}"},
        ),
        Command("access/doctor", ["doctor"], {"MIEN_TEXT_MODEL": "none", "MIEN_IMAGE_MODEL": "none"}),
    ]


def _origins() -> list[Step]:
    found: list[Step] = []
    for origin in ("https://a.example", "https://b.example"):
        for method, path in (("POST", "/extract"), ("PUT", "/files/x/y"), ("DELETE", "/tasks/x"), ("PATCH", "/info")):
            headers = {
                "Origin": origin,
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": "authorization, content-type, x-own",
            }
            found.append(Http(f"access/preflight {method} {path} from {origin}", "OPTIONS", path, headers=headers))
    key = {"X-API-Key": "{{key.infer}}"}
    return [
        *found,
        get("access/known origin", "/info", headers={"Origin": "https://a.example", **key}),
        get("access/known origin, error", "/nothing", headers={"Origin": "https://a.example", **key}),
        get("access/known origin, no key", "/info", headers={"Origin": "https://a.example"}),
        Http(
            "access/known origin, infer error",
            "POST",
            "/v1/infer",
            b"{",
            {"Origin": "https://a.example", "Content-Type": JSON, **key},
        ),
    ]


def _revoked() -> list[Step]:
    return [
        Command("access/keys revoke", ["keys", "revoke", "{{key.infer_id}}"]),
        get("access/revoked key", "/info", headers={"X-API-Key": "{{key.infer}}"}),
        Command("access/keys list after revoking", ["keys", "list"]),
        get("access/metrics at the end", "/metrics", headers={"X-API-Key": "{{key.both}}"}),
    ]


def _shown(path: str) -> str:
    return path.replace("{{", "").replace("}}", "")
