"""Types as JSON Schema (2020-12, that of OpenAPI 3.1), each under its own name in `components/schemas`."""

from types import GenericAlias, UnionType
from typing import Any, get_args

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from mien.http.openapi.operation import Binary, Described, Enveloped, Form, Stream

PREFIX = "#/components/schemas/"
BINARY: dict[str, Any] = {"type": "string", "format": "binary"}


class Components:
    """The schemas that a document refers to."""

    def __init__(self) -> None:
        self.schemas: dict[str, Any] = {}

    def of(self, described: Described) -> dict[str, Any]:
        """The schema of a type, mostly a reference. Raises ValueError if two types have one name."""
        if isinstance(described, Binary):
            return BINARY | ({"description": described.about} if described.about else {})
        if isinstance(described, Stream):
            about = {"description": described.about} if described.about else {}
            return {"type": "string", **about, "x-itemSchema": self.of(described.of)}
        if isinstance(described, UnionType):
            return {"anyOf": [self.of(one) for one in get_args(described)]}
        if isinstance(described, Enveloped):
            return self._enveloped(described)
        if isinstance(described, Form):
            return self._form(described)
        if isinstance(described, type) and issubclass(described, BaseModel):
            return self._of_model(described)
        (schema,), found = msgspec.json.schema_components([described], ref_template=PREFIX + "{name}")
        for name, component in found.items():
            self._add(name, _with_items(component))
        flat: dict[str, Any] = _with_items(schema)
        return flat

    def parameters(self, described: Described, place: str) -> list[dict[str, Any]]:
        """Each field of the type as a parameter; `place`: query or header."""
        schema = self._flat(described)
        return [
            {
                "name": name.replace("_", "-").title() if place == "header" else name,
                "in": place,
                "required": name in schema.get("required", ()),
                **({"description": field.pop("description")} if "description" in field else {}),
                "schema": field,
            }
            for name, field in ((name, _never_null(field)) for name, field in schema["properties"].items())
        ]

    def _enveloped(self, described: Enveloped) -> dict[str, Any]:
        name = f"{_name(described.data)}{_name(described.envelope)}"
        outer = self._flat(described.envelope)
        self._add(
            name, {**outer, "title": name, "properties": {**outer["properties"], "data": self.of(described.data)}}
        )
        return {"$ref": f"{PREFIX}{name}"}

    def _of_model(self, model: type[BaseModel]) -> dict[str, Any]:
        _, found = models_json_schema([(model, "validation")], ref_template=PREFIX + "{model}")
        for name, component in found["$defs"].items():
            self._add(name, component)
        return {"$ref": f"{PREFIX}{model.__name__}"}

    def _form(self, form: Form) -> dict[str, Any]:
        schema = self._flat(form.fields)
        files = {
            name: {"type": "array", "items": BINARY, "minItems": 1, "description": about}
            if form.many
            else BINARY | {"description": about}
            for name, about in form.files.items()
        }
        required = [next(iter(files)), *schema.get("required", ())]
        fields = {name: _never_null(field) for name, field in schema["properties"].items()}
        return {"type": "object", "properties": files | fields, "required": required}

    def _flat(self, described: Described) -> dict[str, Any]:
        """The schema itself instead of a reference to it."""
        other = Components()
        name = other.of(described)["$ref"].removeprefix(PREFIX)
        schema: dict[str, Any] = other.schemas.pop(name)
        for inner, component in other.schemas.items():
            self._add(inner, component)
        return schema

    def _add(self, name: str, component: dict[str, Any]) -> None:
        if self.schemas.setdefault(name, component) != component:
            raise ValueError(f"two types of the document are called {name}")


def _never_null(field: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field that is sent as text, which is left out where JSON may have null. The documentation's page
    would fill in "null", and "string" for a text without a default: what it fills in as empty, it leaves out."""
    kinds: list[dict[str, Any]] = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
    kept = {name: value for name, value in field.items() if (name, value) != ("default", None)}
    if len(kinds) != 1:
        return kept | ({"anyOf": kinds, "example": ""} if kinds else {})
    del kept["anyOf"]
    empty = {"example": ""} if kinds[0].get("type") == "string" and "enum" not in kinds[0] else {}
    return empty | kinds[0] | kept


def _with_items(schema: Any) -> Any:
    """Arrays of anything with `items`, which generators want."""
    if isinstance(schema, list):
        return [_with_items(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _with_items(value) for key, value in schema.items()}
    return {"items": {}} | found if schema.get("type") == "array" else found


def _name(described: Described) -> str:
    """`Task` for a type, `TaskList` for a list of it, `TaskOrFile` for either of two."""
    if isinstance(described, UnionType):
        return "Or".join(map(_name, get_args(described)))
    if isinstance(described, GenericAlias):
        return f"{_name(get_args(described)[0])}List"
    name: str = described.__name__
    return name
