"""What the routes of every API have in common."""

from typing import Any, ClassVar

from fastapi.routing import APIRoute

from mien.http.errors import ErrorBody
from mien.http.media import JSON
from mien.http.methods import allow_head


class Route(APIRoute):
    """A route that handles HEAD if it handles GET."""

    envelope: ClassVar[Any] = None
    """The type that JSON responses are wrapped in for most clients, as its `data`; None: they are not."""
    error_type: ClassVar[Any] = ErrorBody
    error_media_types: ClassVar[tuple[str, ...]] = (JSON,)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        allow_head(self)
