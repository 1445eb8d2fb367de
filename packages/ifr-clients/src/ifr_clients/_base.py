"""What both clients share: everything except I/O."""

import ssl
import time
from collections.abc import Mapping
from typing import TypeVar

from ifr_clients._messages import Call
from ifr_clients._retry import RetryPolicy, Steps, chance, with_retries
from ifr_clients._server import DEFAULT_HOST, DEFAULT_PORT, DEFAULT_TIMEOUT, Settings, checked_timeout, settings_of

T = TypeVar("T")


class BaseClient:
    """A client's settings. Nothing is connected before the first call."""

    def __init__(
        self,
        host: str = DEFAULT_HOST,
        port: int | str | None = DEFAULT_PORT,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retries: int | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        """Settings for all calls. Raises ValueError or TypeError, which names the invalid one.

        A port in `host` takes precedence over `port`; `port=None` is the scheme's default. `timeout` is in seconds and
        covers a call with all its retries. `retries` limits the retries after broken connections, 429, 502 and 503;
        None: as many as the timeout allows.
        `api_key` is sent as `Authorization: Bearer`. `verify` is an SSL context, or False to trust any certificate.
        """
        self._settings = settings_of(
            host, port, timeout=timeout, api_key=api_key, headers=headers, retries=retries, verify=verify
        )
        self._disconnected()

    @property
    def server(self) -> str:
        """Address of the server, without a trailing slash."""
        return self._settings.server

    def _disconnected(self) -> None:
        """Set the state in which nothing is connected."""
        raise NotImplementedError

    def _flow(self, call: Call[T], timeout: float | None) -> Steps[T]:
        seconds = self._settings.timeout if timeout is None else checked_timeout(timeout)
        return with_retries(call, RetryPolicy(self._settings.retries), seconds, time.monotonic, chance)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server!r})"

    def __getstate__(self) -> Settings:
        return self._settings

    def __setstate__(self, settings: Settings) -> None:
        self._settings = settings
        self._disconnected()
