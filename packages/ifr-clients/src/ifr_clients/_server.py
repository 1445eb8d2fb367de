"""The server that a client talks to, and its credentials."""

import base64
import math
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import unquote, urlsplit

try:
    __version__ = version("ifr-clients")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"
USER_AGENT = f"ifr-clients/{__version__}"
DEFAULT_HOST = "http://localhost"
DEFAULT_PORT = 18081
DEFAULT_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Settings:
    """A client's immutable settings."""

    server: str
    """`scheme://host:port`, with a path prefix if the server has one; no trailing slash, no credentials."""
    headers: Mapping[str, str] = field(repr=False)
    """Sent with every request to `server`, and to no other."""
    timeout: float
    """Seconds for one call, including all retries."""
    retries: int | None
    """None: as many as the timeout allows."""
    verify: ssl.SSLContext | bool


def settings_of(
    host: str,
    port: int | str | None,
    *,
    timeout: float,
    api_key: str | None,
    headers: Mapping[str, str] | None,
    retries: int | None,
    verify: ssl.SSLContext | bool,
) -> Settings:
    """Raises ValueError or TypeError, which names the invalid argument."""
    server, credentials = split_address(host, port)
    if retries is not None and retries < 0:
        raise ValueError(f"retries is {retries}; expected 0 or more, or None")
    if api_key is not None and credentials is not None:
        raise ValueError("conflicting credentials: api_key and the user in host")
    all_headers = {"User-Agent": USER_AGENT}
    authorization = f"Bearer {api_key}" if api_key is not None else credentials
    if authorization is not None:
        all_headers["Authorization"] = authorization
    all_headers |= headers or {}
    for name, value in all_headers.items():
        if not (name.isascii() and value.isascii() and name.isprintable() and value.isprintable()):
            raise ValueError(f"the value of header {name!r} (or api_key) contains characters that a header cannot have")
    return Settings(server, all_headers, checked_timeout(timeout), retries, verify)


def checked_timeout(timeout: float) -> float:
    """`timeout`, if it is a positive number of seconds; may be infinite. Raises ValueError, TypeError."""
    if not isinstance(timeout, int | float):
        raise TypeError(f"timeout is {timeout!r}; expected a number of seconds")
    if math.isnan(timeout) or timeout <= 0:
        raise ValueError(f"timeout is {timeout}; expected seconds above 0")
    return timeout


def split_address(host: str, port: int | str | None = None) -> tuple[str, str | None]:
    """The server's address, and the Authorization header of credentials in `host`.

    A port in `host` takes precedence over `port`; without either it is the scheme's default. Raises ValueError,
    TypeError.
    """
    if not isinstance(host, str):
        raise TypeError(f"host is {host!r}; expected something like 'http://localhost'")
    port = _number(port)
    text = host.strip()
    parts = urlsplit(text if "://" in text else f"http://{text}")
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"host is {host!r}; expected something like 'http://localhost' or 'https://faces.example.com'")
    try:
        own = parts.port
    except ValueError as error:
        raise ValueError(f"host is {host!r}: {error}") from None
    if own is not None and port not in (None, own, DEFAULT_PORT):
        raise ValueError(f"conflicting ports: {own} in host and port={port}")
    chosen = port if own is None else own
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    netloc = name if chosen is None else f"{name}:{chosen}"
    return f"{parts.scheme.lower()}://{netloc}{parts.path.rstrip('/')}", _basic(parts.username, parts.password)


def _number(port: int | str | None) -> int | None:
    """The port, which may be a text, as in the original library."""
    try:
        number = None if port is None else int(port)
    except (TypeError, ValueError):
        raise ValueError(f"port is {port!r}; expected a number, or None") from None
    if number is not None and not 0 < number < 65536:
        raise ValueError(f"port is {port!r}; expected 1 to 65535")
    return number


def _basic(user: str | None, password: str | None) -> str | None:
    if user is None:
        return None
    return "Basic " + base64.b64encode(f"{unquote(user)}:{unquote(password or '')}".encode()).decode()
