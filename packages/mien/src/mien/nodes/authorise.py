"""Who may ask this node: the API keys of the HTTP doors."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from mien.errors import Forbidden, Unauthorized

Authorise: TypeAlias = Callable[[str], None]
"""Takes the caller's key, empty if there is none. Raises Unauthorized, Forbidden."""


class Key(Protocol):
    """A known API key."""

    @property
    def scopes(self) -> Sequence[str]: ...


class Keys(Protocol):
    """The known API keys."""

    def all(self) -> Sequence[Any]: ...

    def authenticate(self, secret: str) -> Key | None: ...


def by_keys(keys: Keys, *, open_without: bool) -> Authorise:
    """Keys with the scope `infer`. `open_without`: anyone, while no key exists."""

    def authorise(secret: str) -> None:
        if not keys.all():
            if open_without:
                return
            raise Unauthorized("this node needs an API key and has none any more; see `mien keys create`")
        if not secret:
            raise Unauthorized("this node needs an API key: send it as metadata `authorization: Bearer KEY`")
        key = keys.authenticate(secret)
        if key is None:
            raise Unauthorized("this API key is not known here")
        if "infer" not in key.scopes:
            raise Forbidden(f"this API key lacks the scope 'infer'; it has: {', '.join(key.scopes)}")

    return authorise
