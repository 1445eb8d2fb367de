"""The HTTP library logs a line at INFO for each request, which a program that logs its own work would drown in.

`ifr_clients` has a copy, which `make sync` makes: it depends on no other package.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_HTTP = logging.getLogger("httpx2")
_own: ContextVar[bool] = ContextVar("_own", default=False)
"""Whether the request that is under way is one of ours: the program may use the HTTP library itself."""


class _NotOurs(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        chosen = _HTTP.level != logging.NOTSET  # the program wants to see them
        return chosen or record.levelno > logging.INFO or not _own.get()


_FILTER = _NotOurs()


@contextmanager
def quiet_requests() -> Iterator[None]:
    """Requests in this block are not logged, unless the program has set a level for the logger `httpx2`."""
    _HTTP.addFilter(_FILTER)  # here rather than at import, which changes nothing; adding it again does nothing
    token = _own.set(True)
    try:
        yield
    finally:
        _own.reset(token)
