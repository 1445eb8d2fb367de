"""Headers for URLs that callers name: for all of them, or for those of one origin.

A caller chooses the host, so what is sent to all is sent to strangers: credentials have to say for whom they are.
"""

import re
from collections.abc import Mapping
from typing import Any

from mien.config.origins import parse_origin

MASK = "********"
"""In place of a value that may be secret."""
EVERY = "*"
"""The scope of headers for every URL, credentials too."""
FetchHeaders = dict[str, str | dict[str, str]]
"""A header's value by its name, for every URL; and headers by an origin, or by EVERY."""

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"(?! )[\t -~]*(?<! )")
_CREDENTIAL_NAME = re.compile(
    r"authori[sz]ation|cookie|token|secret|passw(or)?d|credential|session|signature"
    r"|(?<![a-z])(auth|(api|access)?key)(?![a-z])",
    re.IGNORECASE,
)
_CREDENTIAL_VALUE = re.compile(r"(basic|bearer|digest|negotiate|token)[ \t]", re.IGNORECASE)


def checked_headers(values: Any) -> Any:
    """The headers, with origins as browsers send them. Raises ValueError for what no request could send, and for
    credentials that would go to every host. Values may be secret: they are not repeated."""
    if not isinstance(values, dict):
        return values  # for the type to refuse
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found[_scope(name)] = {inner: _checked(inner, item) for inner, item in value.items()}
        else:
            found[name] = _checked(name, value)
            _require_no_credential(name, value)
    return found


def header_names(headers: Mapping[str, str | Mapping[str, str]]) -> list[str]:
    """The names of all headers, sorted."""
    scoped = {name for value in headers.values() if not isinstance(value, str) for name in value}
    return sorted(scoped | {name for name, value in headers.items() if isinstance(value, str)})


def _scope(text: Any) -> str:
    scope = EVERY if text == EVERY else parse_origin(str(text))
    if scope is None:
        raise ValueError(f"expected headers by an origin, such as https://images.example, or by `*`; got {text!r}")
    return str(scope)


def _checked(name: Any, value: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{str(name)[:80]!r} cannot be the name of a header")
    if not isinstance(value, str):
        raise ValueError(f"the value of {name[:80]!r} must be a text")  # noqa: TRY004  # pydantic reports ValueErrors
    if not _VALUE.fullmatch(value):
        raise ValueError(f"the value of {name[:80]!r} cannot be sent in a header")
    return value


def _require_no_credential(name: str, value: str) -> None:
    if _CREDENTIAL_NAME.search(name) or _CREDENTIAL_VALUE.match(value):
        raise ValueError(
            f"{name[:80]!r} looks like a credential, and callers choose the hosts that get it. Say for which origin it "
            f'is: {{"https://images.example": {{"{name[:80]}": …}}}}; or by `*` in its place for all'
        )
