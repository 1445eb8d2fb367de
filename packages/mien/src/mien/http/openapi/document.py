"""The whole document: every route of an application with what its handler declared."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.routing import BaseRoute

from mien.errors import MienError, Unavailable
from mien.http.media import JSON
from mien.http.openapi.components import Components
from mien.http.openapi.examples import add_example
from mien.http.openapi.operation import Described, Enveloped, Operation, operation_of
from mien.http.route import Route

VERSION = "3.1.0"
SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "`X-API-Key: KEY`"},
}
PATH_PARAMETERS = {
    "task_id": "Id of a task.",
    "file_id": "Id of a file.",
    "name": "The file's name, as its URLs have it; it may contain slashes.",
    "reference": "`[namespace/]name[@version]` of an app.",
    "session_id": "Id of a session.",
    "node_id": "Id or name of a node; this server is `local`.",
}


def document(title: str, version: str, description: str, routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """The OpenAPI document of the routes that are in the schema.

    Raises KeyError for a handler or path parameter without a description, ValueError for a name that is not unique.
    """
    components = Components()
    paths: dict[str, dict[str, Any]] = {}
    ids: set[str] = set()
    for context, method in _documented(routes):
        if context.name is None or context.name in ids:
            raise ValueError(f"two operations are called {context.name}")
        ids.add(context.name)
        paths.setdefault(context.path_format or "", {})[method.lower()] = _operation(context, components)
    return {
        "openapi": VERSION,
        "info": {"title": title, "version": version, "description": description},
        "paths": paths,
        "components": {"schemas": dict(sorted(components.schemas.items())), "securitySchemes": SECURITY},
    }


def _documented(routes: Iterable[BaseRoute]) -> Iterator[tuple[RouteContext, str]]:
    for context in iter_route_contexts(list(routes)):
        route = context.original_route
        if isinstance(route, APIRoute) and route.include_in_schema:
            yield from ((context, method) for method in sorted(context.methods or ()) if method != "HEAD")


def _operation(context: RouteContext, components: Components) -> dict[str, Any]:
    route = context.original_route
    assert isinstance(route, Route), f"{context.path} is no {Route.__name__}"  # noqa: S101 - a mistake in this program
    operation = operation_of(route.endpoint)
    parameters = [*_path_parameters(route)]
    if operation.query is not None:
        parameters += components.parameters(operation.query, "query")
    for headers in (operation.headers, route.headers):
        if headers is not None:
            parameters += components.parameters(headers, "header")
    found: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.name.replace("_", " ").capitalize(),
        "description": inspect.cleandoc(route.endpoint.__doc__ or ""),
        "tags": list(context.tags),
    }
    if parameters:
        found["parameters"] = parameters
    if operation.body:
        content = _content(operation.body, components)
        found["requestBody"] = {"required": operation.body_required, "content": content}
    found["responses"] = _responses(route, operation, components)
    if operation.scope is not None:
        found["security"] = [{"bearer": []}, {"key": []}, {}]
        found["description"] += f"\n\nNeeds a key with the scope `{operation.scope}`, once there are keys."
    add_example(found)
    return found


def _path_parameters(route: APIRoute) -> Iterator[dict[str, Any]]:
    for name in route.param_convertors:
        described = PATH_PARAMETERS[name]
        yield {"name": name, "in": "path", "required": True, "description": described, "schema": {"type": "string"}}


def _responses(route: Route, operation: Operation, components: Components) -> dict[str, Any]:
    content = _content(operation.content, components)
    if route.envelope is not None and JSON in content:
        bare = operation.content[JSON]
        either = [components.of(described) for described in (Enveloped(route.envelope, bare), bare)]
        content[JSON] = {"schema": {"anyOf": either}}
    errors = {kind: {"schema": components.of(route.error_type)} for kind in route.error_media_types}
    found: dict[str, Any] = {"200": {"description": "Success.", "content": content}} if content else {}
    for status, answer in operation.others.items():
        found[str(status)] = {"description": answer.about} | (
            {"content": _content(answer.content, components)} if answer.content else {}
        )
    for status, kinds in _by_status((*operation.errors, Unavailable)).items():
        about = " ".join(f"`{kind.code}`: {inspect.cleandoc(kind.__doc__ or '').splitlines()[0]}" for kind in kinds)
        found.setdefault(str(status), {"description": about, "content": deepcopy(errors)})
    found["default"] = {"description": "Any other error.", "content": errors}
    return dict(sorted(found.items()))


def _by_status(errors: Iterable[type[MienError]]) -> dict[int, list[type[MienError]]]:
    found: dict[int, list[type[MienError]]] = {}
    for kind in dict.fromkeys(errors):
        found.setdefault(kind.status, []).append(kind)
    return found


def _content(content: Mapping[str, Described], components: Components) -> dict[str, Any]:
    return {kind: {"schema": components.of(described)} for kind, described in content.items()}
