"""OpenAPI of bodies that handlers read themselves."""

from typing import Any

_TEXT, _NUMBER = {"type": "string"}, {"type": "number"}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


RUN_BODY = _json(
    {
        "type": "object",
        "required": ["app"],
        "properties": {
            "app": {**_TEXT, "description": "[namespace/]name[@version][:function]"},
            "input": {},
            "setup": {},
            "variant": _TEXT,
            "infra": {"enum": ["cloud", "private", "private_first"]},
            "function": _TEXT,
            "workers": {"type": "array", "items": _TEXT},
            "webhook": _TEXT,
            "session": _TEXT,
            "session_timeout": _NUMBER,
            "run_at": {},
            "deadline": {},
            "timeout": _NUMBER,
            "retries": {"type": "integer"},
            "priority": {"type": "integer"},
            "idempotency_key": _TEXT,
            "metadata": {"type": "object"},
        },
    }
)
LIST_BODY = _json(
    {
        "type": "object",
        "properties": {
            "status": {},
            "app": _TEXT,
            "function": _TEXT,
            "session_id": _TEXT,
            "created_after": {},
            "created_before": {},
            "cursor": _TEXT,
            "limit": {"type": "integer"},
        },
    }
)
FILES_BODY = _json(
    {
        "type": "object",
        "properties": {
            "files": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "filename": _TEXT,
                        "content_type": _TEXT,
                        "size": {"type": "integer"},
                        "path": _TEXT,
                        "public": {"type": "boolean"},
                    },
                },
            }
        },
    }
)
