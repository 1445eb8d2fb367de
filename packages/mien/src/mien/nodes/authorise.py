"""Who may ask this node: callers with an API key of the scope `infer`."""

from collections.abc import Callable
from typing import TypeAlias

from mien.keys import AccessRule, KeyStore

Authorise: TypeAlias = Callable[[str], None]
"""Takes the caller's key, empty if there is none. Raises Unauthorized, Forbidden."""


def by_keys(keys: KeyStore, *, open_without: bool) -> Authorise:
    """Keys with the scope `infer`. `open_without`: anyone, while no key exists."""
    rule = AccessRule(keys, open_without, "this node", "send it as metadata `authorization: Bearer KEY`")

    def authorise(secret: str) -> None:
        rule.require(secret, "infer")

    return authorise
