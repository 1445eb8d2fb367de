"""What a handler declares of itself: the types of its parameters, bodies and errors. The document is made from that."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from mien.errors import (
    BodyTooLarge,
    BodyTooSlow,
    Forbidden,
    InvalidField,
    MienError,
    Overloaded,
    RequestError,
    Unauthorized,
    UnsupportedMediaType,
)
from mien.http.media import JSON
from mien.keys import Scope

Handler = TypeVar("Handler", bound=Callable[..., Any])
Described: TypeAlias = Any
"""A pydantic model, msgspec struct or TypedDict, a list of one, or one of the classes below."""
KEY_ERRORS = (Unauthorized, Forbidden)
BODY_ERRORS = (RequestError, InvalidField, BodyTooLarge, BodyTooSlow, UnsupportedMediaType, Overloaded)


@dataclass(frozen=True, slots=True)
class Binary:
    """Bytes, or text that is not JSON."""

    about: str = ""


@dataclass(frozen=True, slots=True)
class Stream:
    """Objects one after the other, each framed as the media type has it."""

    of: Described
    about: str = ""


@dataclass(frozen=True, slots=True)
class Enveloped:
    """A type within the `data` of an envelope."""

    envelope: Any
    data: Described


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart form: text fields as `fields` has them, beside uploaded files."""

    fields: Described
    files: Mapping[str, str]
    """Name of a file part → what it is. The first one is required."""
    many: bool = False
    """Whether a name may come more than once."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response other than that with status 200."""

    about: str
    content: Mapping[str, Described] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """Everything about an operation that its path, its name and its docstring do not say."""

    content: Mapping[str, Described]
    """Of the response with status 200, by media type."""
    body: Mapping[str, Described]
    body_required: bool
    query: Described | None
    headers: Described | None
    scope: Scope | None
    """That the API key needs; None: no key is needed."""
    errors: tuple[type[MienError], ...]
    """Those with a status that is named in the document; there may be others."""
    others: Mapping[int, Answer]


_OPERATIONS: dict[Callable[..., Any], Operation] = {}


def describe(
    content: Described,
    *,
    body: Described = None,
    body_required: bool = True,
    query: Described | None = None,
    headers: Described | None = None,
    scope: Scope | None = "infer",
    errors: tuple[type[MienError], ...] = (),
    others: Mapping[int, Answer] | None = None,
) -> Callable[[Handler], Handler]:
    """Decorator of a handler. `content`, `body`: by media type, or a type for JSON alone."""
    known = (*(KEY_ERRORS if scope else ()), *(BODY_ERRORS if body else ()), *errors)
    operation = Operation(_by_media_type(content), _by_media_type(body or {}), body_required, query, headers, scope,
                          known, others or {})  # fmt: skip

    def add(handler: Handler) -> Handler:
        _OPERATIONS[handler] = operation
        return handler

    return add


def operation_of(handler: Callable[..., Any]) -> Operation:
    """What the handler declared. Raises KeyError that names it if it did not."""
    if handler not in _OPERATIONS:
        raise KeyError(f"{handler.__module__}.{handler.__qualname__} has no @describe")
    return _OPERATIONS[handler]


def _by_media_type(content: Described) -> Mapping[str, Described]:
    return content if isinstance(content, Mapping) else {JSON: content}
