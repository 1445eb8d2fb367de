"""The server that a client talks to, its credentials and timeouts."""

import ipaddress
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from inferencesh.errors import ConfigurationError
from infsh import __version__

LOCAL = "http://127.0.0.1:8080"
USER_AGENT = f"mien-inferencesh/{__version__}"


@dataclass(frozen=True, slots=True)
class Settings:
    """A client's immutable settings. Times in seconds."""

    base_url: str
    """`scheme://host:port`, with a path prefix if the server has one; no trailing slash."""
    headers: Mapping[str, str] = field(repr=False)
    """Sent with every request to `base_url`, and to no other."""
    timeout: float
    """Timeout of one attempt of a plain request; for uploads, the longest silence."""
    idle_timeout: float
    """The longest silence of a stream, heartbeats included."""
    retries: int
    upload_concurrency: int = 4
    upload_paths: bool = True
    upload_base64: bool = False

    def url(self, path: str) -> str:
        """The URL of a route; absolute URLs are returned unchanged."""
        if urlsplit(path).scheme:
            return path
        return self.base_url + path


def settings_of(
    api_key: str | None,
    base_url: str | None,
    *,
    timeout: float,
    idle_timeout: float,
    retries: int,
    upload_concurrency: int,
    upload_paths: bool,
    upload_base64: bool,
    headers: Mapping[str, str] | None,
) -> Settings:
    """Raises ConfigurationError, which says what is missing or invalid."""
    url = checked_url("base_url", base_url or os.environ.get("INFERENCE_BASE_URL") or LOCAL)
    key = api_key or os.environ.get("INFERENCE_API_KEY")
    if not key and not _is_local(url):
        raise ConfigurationError(f"no API key for {url}: pass api_key=… or set INFERENCE_API_KEY")
    if upload_concurrency < 1:
        raise ConfigurationError(f"upload_concurrency is {upload_concurrency}; expected 1 or more")
    return Settings(
        base_url=url,
        headers=checked_headers(USER_AGENT, key, headers),
        timeout=checked_seconds("timeout", timeout),
        idle_timeout=checked_seconds("idle_timeout", idle_timeout),
        retries=checked_retries(retries),
        upload_concurrency=upload_concurrency,
        upload_paths=upload_paths,
        upload_base64=upload_base64,
    )


def checked_seconds(name: str, value: float) -> float:
    """`value`, if it is a positive number; may be infinite."""
    if math.isnan(value) or value <= 0:
        raise ConfigurationError(f"{name} is {value}; expected seconds above 0")
    return value


def checked_retries(value: int) -> int:
    """`value`, if it is not negative."""
    if value < 0:
        raise ConfigurationError(f"retries is {value}; expected 0 or more")
    return value


def checked_headers(user_agent: str, key: str | None, more: Mapping[str, str] | None) -> dict[str, str]:
    """The headers of every request. Raises ConfigurationError for characters that a header cannot have."""
    sent = {"User-Agent": user_agent, **({"Authorization": f"Bearer {key}"} if key else {}), **(more or {})}
    for header, text in sent.items():
        if not (header.isascii() and text.isascii() and header.isprintable() and text.isprintable()):
            raise ConfigurationError(
                f"the value of header {header!r} (or api_key) contains characters that a header cannot have"
            )
    return sent


def checked_url(name: str, url: str) -> str:
    """The address without a trailing slash. Raises ConfigurationError."""
    parts = urlsplit(url.strip())
    try:
        sound = parts.scheme.lower() in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or parts.query or parts.fragment or parts.username:
        raise ConfigurationError(f"{name} is {url!r}; expected something like {LOCAL!r} or 'https://mien.example.com'")
    return url.strip().rstrip("/")


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
