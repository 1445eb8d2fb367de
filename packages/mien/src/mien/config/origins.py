"""Origins as browsers send them: scheme, host and port."""

from typing import NamedTuple

from mien.hosts import DEFAULT_PORTS, split_authority


class Origin(NamedTuple):
    """Whose page it is; or which server it is, apart from the path."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


def parse_origin(text: str) -> Origin | None:
    """The origin in lower case, with its port; None for what is none. A slash at its end is allowed."""
    scheme, _, rest = text.lower().removesuffix("/").partition("://")
    found = split_authority(rest)
    if scheme not in DEFAULT_PORTS or found is None:
        return None
    host, port = found
    if port is None:
        port = DEFAULT_PORTS[scheme]
    return Origin(scheme, host, port) if 0 < port <= 65535 else None
