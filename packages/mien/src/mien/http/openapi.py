"""OpenAPI for handlers that take the raw request."""

from typing import Any

from pydantic import BaseModel

TEXT: dict[str, Any] = {"type": "string"}
NUMBER: dict[str, Any] = {"type": "number"}


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` that documents `model` as the request body, in JSON and MessagePack."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    inlined = _inlined(schema, definitions)
    media = {"schema": inlined}
    return {"requestBody": {"required": True, "content": {"application/json": media, "application/msgpack": media}}}


def json_body(schema: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` that documents a JSON request body which the handler parses itself."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _inlined(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, dict):
        if "$ref" in node:
            return _inlined(definitions[node["$ref"].rsplit("/", 1)[1]], definitions)
        return {key: _inlined(value, definitions) for key, value in node.items()}
    return [_inlined(item, definitions) for item in node] if isinstance(node, list) else node
