"""What both clients share: everything except I/O."""

from collections.abc import Mapping
from typing import TypedDict

from inferencesh._base import Configured
from inferencesh._settings import LOCAL, Settings, checked_headers, checked_retries, checked_seconds, checked_url
from infsh import __version__

USER_AGENT = f"mien-lumen-client/{__version__}"
IDLE_SECONDS = 60.0  # a silent stream of Mien sends a comment every 15 s


class InferOptions(TypedDict, total=False):
    """Arguments of a request, besides its service and payload."""

    task: str | None
    """One of the service's tasks or models; None or empty: its default."""
    mime: str | None
    """The payloads' media type; None: it is detected."""
    meta: Mapping[str, str | float] | None
    """Parameters of the task."""
    correlation_id: str | None
    """Comes back in the result; None: the server makes one."""
    deadline: float | None
    """Seconds after which the server gives up, counted from when it has read the request."""


class BaseLumenClient(Configured):
    """The settings of a client of `/v1/infer`."""

    def __init__(
        self,
        url: str = LOCAL,
        api_key: str | None = None,
        *,
        timeout: float = 300.0,
        idle_timeout: float = IDLE_SECONDS,
        retries: int = 3,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Settings for all calls. Raises ConfigurationError (a ValueError), which names the invalid one.

        `timeout`: seconds without progress, until a response starts. `idle_timeout`: seconds of silence after which a
        stream counts as broken. `retries`: how often a request is sent again that the server was too busy to accept
        (429, 503) or that never reached it; one that it may have processed is not.
        """
        super().__init__(
            Settings(
                base_url=checked_url("url", url),
                headers=checked_headers(USER_AGENT, api_key, headers),
                timeout=checked_seconds("timeout", timeout),
                idle_timeout=checked_seconds("idle_timeout", idle_timeout),
                retries=checked_retries(retries),
            )
        )
