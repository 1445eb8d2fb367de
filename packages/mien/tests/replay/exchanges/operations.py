"""Liveness, readiness, metrics, documentation, and what no route answers."""

from ..steps import Http, Step, get


def steps() -> list[Step]:
    """Before anything else was asked, while counts are known."""
    found: list[Step] = []
    for path in ("/livez", "/readyz", "/health", "/info", "/v1/health", "/v1/nodes", "/v1/tasks", "/v1/config"):
        found.append(get(f"operations{path}", path))
    for path in ("/v1/health/", "/v1/nodes/", "/v1/tasks/", "/v1/config/", "/v1/metrics/", "/livez/", "/info/"):
        found.append(get(f"operations{path} with a slash at its end", path))
    for path in (
        "/livez",
        "/readyz",
        "/health",
        "/info",
        "/v1/health",
        "/v1/nodes",
        "/v1/tasks",
        "/v1/config",
        "/v1/metrics",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/v1/nodes/local/capabilities",
    ):
        found.append(Http(f"operations{path} HEAD", "HEAD", path))
    return [
        *found,
        get("operations/v1/metrics", "/v1/metrics"),
        get("operations/metrics", "/metrics"),
        get("operations/docs", "/docs"),
        get("operations/redoc", "/redoc"),
        get("operations/root", "/"),
        get("operations/oauth2", "/docs/oauth2-redirect"),
        get("operations/favicon", "/static-offline-docs/favicon.png"),
        get("operations/capabilities of this server", "/v1/nodes/local/capabilities"),
        get("operations/capabilities by name", "/v1/nodes/mien/capabilities"),
        get("operations/capabilities of an unknown node", "/v1/nodes/nobody/capabilities"),
        get("operations/watch without upgrade", "/v1/nodes/watch"),
        get("operations/unknown path", "/nothing/here"),
        get("operations/doubled slashes", "//v1//health"),
        get("operations/prefix alone", "/compat/0.5"),
        get("operations/prefix before another route", "/compat/latest/livez"),
        get("operations/percent in path", "/v1/nodes/%2e%2e/capabilities"),
        get("operations/own request id", "/nothing", headers={"X-Request-Id": "my-id-1"}),
        get("operations/insane request id", "/nothing", headers={"X-Request-Id": "my id"}),
        *(
            Http(f"operations/{method} on a GET route", method, "/info")
            for method in ("POST", "PUT", "DELETE", "PATCH")
        ),
        *(
            Http(f"operations/{method} on a POST route", method, "/extract")
            for method in ("GET", "HEAD", "PUT", "OPTIONS")
        ),
        *(Http(f"operations/{method} infer", method, "/v1/infer") for method in ("GET", "HEAD", "PUT", "OPTIONS")),
        Http("operations/odd method", "BREW", "/info"),
        *_models(),
    ]


def _models() -> list[Step]:
    """Loaded and unloaded, and as they were in the end."""
    found: list[Step] = [get("operations/models", "/models")]
    for what, name in (
        ("unload", "mask"),
        ("unload", "mask"),
        ("load", "mask"),
        ("load", "mask"),
        ("unload", "gender"),
        ("load", "age"),
        ("unload", "yunet"),
        ("load", "yunet"),
        ("load", "sface"),
        ("load", "clip"),
        ("load", "default"),
        ("load", "imagenet_labels"),
        ("load", "nothing"),
        ("unload", "clip"),
    ):
        number = sum(step.name.startswith(f"operations/models {what} {name}") for step in found)
        again = " again" if number else ""
        found.append(Http(f"operations/models {what} {name}{again}", "POST", f"/models/{name}/{what}"))
    return [*found, get("operations/models in the end", "/models")]
