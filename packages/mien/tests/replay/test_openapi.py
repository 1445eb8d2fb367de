"""The OpenAPI document says what the server answers: every recorded exchange is held against it."""

import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import openapi_spec_validator
import pytest
from jsonschema.validators import Draft202012Validator

from mien.app import create_app
from mien.http.openapi.operation import describe, operation_of
from mien.settings import Settings

from . import storage, unmask
from .record import RECORDED

METHODS = {"get", "post", "put", "delete"}
PREFIX = re.compile("^/compat/(0.5|latest)(?=/)")
NOT_ROUTED = {405, 307}
"""Statuses that the router itself answers with, before any operation."""


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    found: dict[str, Any] = create_app(settings).openapi()
    return found


class Operations:
    """Finds the operation of a request, and validates answers."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._components = document["components"]
        self._known = [
            (method.upper(), _pattern(path), operation)
            for path, operations in sorted(document["paths"].items(), key=lambda pair: pair[0].count("{"))
            for method, operation in operations.items()
        ]

    def of(self, method: str, path: str) -> dict[str, Any] | None:
        return next(
            (found for known, pattern, found in self._known if known == method and pattern.fullmatch(path)), None
        )

    def wrong(self, operation: dict[str, Any], answer: dict[str, Any]) -> Iterator[str]:
        """What the operation does not say of the answer."""
        response = operation["responses"].get(str(answer["status"]))
        if response is None:
            yield f"status {answer['status']} is not documented"
            return
        whole = str(answer["headers"].get("content-type", ""))
        content = response.get("content", {})
        kind = whole if whole in content else whole.partition(";")[0]
        if answer["body"] is None:
            return
        if kind not in content and "*/*" not in content:
            yield f"{answer['status']}: media type {kind!r} is not documented"
            return
        schema = content.get(kind, content.get("*/*"))["schema"]
        for value in unmask.objects(answer["body"]):
            yield from self._invalid(schema.get("x-itemSchema", schema), value)

    def _invalid(self, schema: dict[str, Any], value: Any) -> Iterator[str]:
        if schema.get("format") == "binary":
            return
        validator = Draft202012Validator({**schema, "components": self._components})
        error = jsonschema.exceptions.best_match(validator.iter_errors(value))
        if error is not None:
            yield f"{error.json_path}: {error.message[:300]}"


def _pattern(path: str) -> re.Pattern[str]:
    """What was sent to a path such as `/tasks/{task_id}`; two of the parameters may contain slashes."""
    return re.compile(re.sub(r"\\\{(\w+)\\\}", lambda found: ".+" if found[1] in ("name", "reference") else "[^/]+",
                             re.escape(path)) + "/?")  # fmt: skip


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    openapi_spec_validator.validate(document)


def test_every_schema_is_used_and_every_reference_leads_to_one(document: dict[str, Any]) -> None:
    referred = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert referred == set(document["components"]["schemas"])


def test_every_operation_has_answers_and_words(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        assert set(operations) <= METHODS
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["description"], where
            assert operation["tags"], where
            assert "default" in operation["responses"], where
            good = operation["responses"].get("200", {}).get("content", {})
            assert good or path == "/v1/nodes/watch", where
            assert all(media["schema"] for media in good.values()), where
            assert ("requestBody" in operation) == _takes_a_body(method, path), where


def _takes_a_body(method: str, path: str) -> bool:
    return method in ("post", "put") and not path.endswith(("/cancel", "/rollback", "/keepalive", "/load", "/unload"))


def test_every_recorded_answer_is_documented(document: dict[str, Any]) -> None:
    operations = Operations(document)
    wrong, checked = [], 0
    for answer in storage.read(RECORDED):
        method, _, target = answer["sent"].partition(" ")
        path = PREFIX.sub("", target.partition("?")[0])
        if answer.get("status") in (None, *NOT_ROUTED) or (operation := operations.of(method, path)) is None:
            continue
        checked += 1
        wrong += [f"{answer['name']} ({answer['sent']}): {what}" for what in operations.wrong(operation, answer)]
    assert wrong == []
    assert checked > 800


def test_an_answer_that_is_not_as_documented_is_noticed(document: dict[str, Any]) -> None:
    operations = Operations(document)
    operation = operations.of("GET", "/livez")
    assert operation is not None
    headers = {"content-type": "application/json"}
    good = {"status": 200, "headers": headers, "body": {"json": {"status": "ok"}}}
    assert list(operations.wrong(operation, good)) == []
    for bad in (
        {**good, "status": 418},
        {**good, "headers": {"content-type": "text/html"}},
        {**good, "body": {"json": {"status": "bad"}}},
        {**good, "body": {"json": {}}},
    ):
        assert list(operations.wrong(operation, bad)) != []


def test_a_handler_without_a_description_is_named() -> None:
    async def handler() -> None: ...

    with pytest.raises(KeyError, match=r"handler has no @describe"):
        operation_of(handler)
    assert operation_of(describe(list[str])(handler)).content


def test_uploads_are_file_fields(document: dict[str, Any]) -> None:
    """Swagger UI and generators offer a file for `format: binary` within a form."""
    for path, field in (("/multipart/extract", "file"), ("/files", "file"), ("/v1/infer", "payload")):
        form = document["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
        binary = form["properties"][field].get("items", form["properties"][field])
        assert binary["format"] == "binary"
        assert field in form["required"]


def test_the_filters_of_a_listing_are_documented(document: dict[str, Any]) -> None:
    parameters = document["paths"]["/tasks"]["get"]["parameters"]
    names = {parameter["name"] for parameter in parameters if parameter["in"] == "query"}
    filters = {"status", "app", "function", "session_id", "created_after", "created_before", "cursor", "limit"}
    assert names == filters
    assert set(document["components"]["schemas"]["TaskFilters"]["properties"]) == filters


def test_what_the_recording_replaced_has_its_type_again() -> None:
    assert unmask.value({"a": "<float>", "b": {"floats": {"first": [1.0]}}}) == {"a": 0.5, "b": [1.0]}
