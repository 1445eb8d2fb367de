"""What the routes of every API have in common."""

from typing import Any, ClassVar

from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor

from mien.http.errors import ErrorBody
from mien.http.media import JSON
from mien.http.methods import allow_head


class _Rest(Convertor[str]):
    """The rest of the path: as Starlette's `path`, but names of files may contain line breaks."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("rest", _Rest())


class Route(APIRoute):
    """A route that handles HEAD if it handles GET."""

    envelope: ClassVar[Any] = None
    """The type that JSON responses are wrapped in for most clients, as its `data`; None: they are not."""
    headers: ClassVar[Any] = None
    """The type of the headers that every route reads."""
    error_type: ClassVar[Any] = ErrorBody
    error_media_types: ClassVar[tuple[str, ...]] = (JSON,)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        allow_head(self)
