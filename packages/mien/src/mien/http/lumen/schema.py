"""`POST /v1/infer` for OpenAPI only: requests are parsed in `request` and responses made in `response`."""

from typing import Any

from pydantic import BaseModel, Field

from mien.http.openapi import body_of


class InferBody(BaseModel):
    """Body of `POST /v1/infer` in JSON or MessagePack."""

    service: str = Field(description="A service's name; with `_stream` at its end the answer is streamed.")
    task: str = Field(default="", description="Selects a model of the service; empty: its default.")
    payload: str | list[str] = Field(description="Base64 of the bytes; a list of these is a batch.")
    correlation_id: str = Field(default="", description="Comes back in the answer; made if it is missing.")
    metadata: dict[str, str] = Field(default={}, description="Parameters of the task; `timeout_ms` sets a deadline.")
    payload_mime: str = Field(default="", description="The payload's media type; found in its bytes if missing.")


class InferData(BaseModel):
    """The whole result."""

    correlation_id: str
    is_final: bool
    result: str = Field(description="Base64 of the result's bytes.")
    meta: dict[str, str]
    seq: int
    total: int
    offset: int
    result_mime: str
    result_schema: str
    result_json: Any = Field(default=None, description="The decoded result, with `?decode=1` only.")


class InferAnswer(BaseModel):
    """Answer of `POST /v1/infer` to a service without `_stream`."""

    success: bool
    data: InferData


INFER_BODY = body_of(InferBody)
INFER_BODY["requestBody"]["content"] |= {
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["payload"],
            "properties": {
                "payload": {"type": "array", "items": {"type": "string", "format": "binary"}},
                **{name: {"type": "string"} for name in ("service", "task", "correlation_id", "metadata")},
            },
        }
    },
}
INFER_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": InferAnswer,
        "description": "The result, or with `_stream` a stream of events.",
        "content": {
            kind: {"schema": {"type": "string"}}
            for kind in ("application/octet-stream", "text/event-stream", "application/x-ndjson")
        },
    }
}
