"""What both clients share in their use of httpx2: limits, timeouts, and the translation of its errors."""

import contextlib
import math
from collections.abc import Iterator

import httpx2

from ifr_clients._messages import Request, Response
from ifr_clients._retry import Send
from ifr_clients.errors import IFRConnectionError, IFRError, IFRResponseInvalid, IFRTimeout

CONNECT_SECONDS = 10.0
# Servers close idle connections after 30 s (Mien) or 60 s (the original): the client should do so first.
LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=20.0)


def timeout_of(seconds: float) -> httpx2.Timeout:
    """The timeout of each step of a request that may take `seconds` in total."""
    rest = None if math.isinf(seconds) else seconds
    return httpx2.Timeout(rest, connect=min(CONNECT_SECONDS, seconds))


def response_of(response: httpx2.Response, body: bytes) -> Response:
    """The response as a value of this library."""
    return Response(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


@contextlib.contextmanager
def translated(step: Send) -> Iterator[None]:
    """httpx2's errors as IFRConnectionError, IFRTimeout, IFRResponseInvalid or IFRError."""
    where = _place(step.request)
    try:
        yield
    except httpx2.ConnectTimeout as error:
        if step.seconds <= CONNECT_SECONDS:
            raise too_late(step) from error
        raise IFRConnectionError(f"{where}: no connection within {CONNECT_SECONDS:g} s") from error
    except (httpx2.TimeoutException, TimeoutError) as error:
        if isinstance(error, IFRError):
            raise
        raise too_late(step) from error
    except httpx2.ConnectError as error:
        raise IFRConnectionError(f"{where}: cannot connect: {_said(error)}. Is a server running there?") from error
    except httpx2.DecodingError as error:
        raise IFRResponseInvalid(f"{where}: the response's compression is corrupt: {_said(error)}") from error
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        raise IFRConnectionError(f"{where}: the connection broke: {_said(error)}") from error
    except httpx2.InvalidURL as error:
        raise IFRError(f"{where}: {_said(error)}") from error


def _place(request: Request) -> str:
    return f"{request.method} {request.url}"


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def too_late(step: Send) -> IFRTimeout:
    """The error for a request that exceeded its timeout."""
    return IFRTimeout(f"{_place(step.request)}: no complete response within {step.seconds:.3g} s")
