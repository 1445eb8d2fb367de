"""Origins as browsers send them: scheme, host and port."""

import re

_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[^\s/?#@:*\[\]]+)(?::(\d{1,5}))?/?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def origin(text: str) -> str | None:
    """In lower case, without a default port; None for what is no origin."""
    match = _ORIGIN.fullmatch(text.lower())
    if match is None or (match[3] and not 0 < int(match[3]) <= 65535):
        return None
    scheme, host, port = match.groups()
    return f"{scheme}://{host}" if port in (None, _DEFAULT_PORTS[scheme]) else f"{scheme}://{host}:{port}"
