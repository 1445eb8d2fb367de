"""The base models of an app's input, output and setup."""

import math
import sys
import typing
from typing import Any

from pydantic import AliasChoices, BaseModel, GetJsonSchemaHandler, model_validator
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from infsh._file import File
from infsh._meta import OutputMeta


class _Ordered(BaseModel):
    """A model whose JSON schema lists a class's own fields in their order, then the inherited ones."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        reference = handler(schema)
        target = handler.resolve_ref_schema(reference)
        rank = {key: place for place, key in enumerate(_own_keys(cls))}
        if "properties" in target:
            target["properties"] = dict(
                sorted(target["properties"].items(), key=lambda item: rank.get(item[0], math.inf))
            )
        if "required" in target:
            target["required"] = [key for key in target.get("properties", {}) if key in target["required"]]
        return reference


class BaseAppInput(_Ordered):
    """The input of one run. Unknown keys are ignored."""

    @model_validator(mode="before")
    @classmethod
    def _absent_files(cls, values: Any) -> Any:
        """Forms send an empty string or object for a file that was not selected."""
        if not isinstance(values, dict):
            return values
        optional = {name for name, field in cls.model_fields.items() if {File, type(None)} <= set(_parts(field))}
        return {key: None if key in optional and value in ("", {}) else value for key, value in values.items()}


class BaseAppSetup(_Ordered):
    """The parameters of `setup()`. Tasks with equal parameters share warm workers."""


class BaseAppOutput(_Ordered):
    """The output of one run."""

    output_meta: OutputMeta | None = None


def _parts(field: FieldInfo) -> tuple[Any, ...]:
    return typing.get_args(field.annotation)


def _own_keys(cls: type[BaseModel]) -> list[str]:
    """The JSON keys of the fields that the class itself declares, in order."""
    keys = []
    for name in _own_names(cls):
        field = cls.model_fields.get(name)
        if field is not None:
            aliases = (field.alias, field.validation_alias, field.serialization_alias, *_choices(field))
            keys += [name, *(alias for alias in aliases if isinstance(alias, str))]
    return keys


def _choices(field: FieldInfo) -> list[Any]:
    return field.validation_alias.choices if isinstance(field.validation_alias, AliasChoices) else []


def _own_names(cls: type[BaseModel]) -> list[str]:
    if sys.version_info >= (3, 14):
        import annotationlib

        return list(annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF))
    return list(cls.__dict__.get("__annotations__", {}))  # noqa: RUF063  # before 3.14 these never fail
