"""What both clients share in their use of httpx2: limits, timeouts, and the translation of its errors."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import httpx2

from ifr_clients._environment import EnvironmentInvalid, client_options, said
from ifr_clients._messages import Request, Response
from ifr_clients._quiet import quiet_requests
from ifr_clients._retry import Send
from ifr_clients._server import Settings
from ifr_clients.errors import IFRConnectionError, IFRError, IFRResponseInvalid, IFRTimeout

CONNECT_SECONDS = 10.0
NOT_TRANSIENT = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER")
"""OpenSSL's words for a certificate that is not trusted, and for a server that speaks no TLS."""
# Servers close idle connections after 30 s (Mien) or 60 s (the original): the client should do so first.
LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=20.0)


def timeout_of(seconds: float) -> httpx2.Timeout:
    """The timeout of each step of a request that may take `seconds` in total."""
    rest = None if math.isinf(seconds) else seconds
    return httpx2.Timeout(rest, connect=min(CONNECT_SECONDS, seconds))


def response_of(response: httpx2.Response, body: bytes) -> Response:
    """The response as a value of this library."""
    return Response(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


def options_of(settings: Settings) -> dict[str, Any]:
    """Arguments of the HTTP client. Raises IFRError, which names the variable of the environment at fault."""
    try:
        return client_options(settings.server, settings.verify)
    except EnvironmentInvalid as error:
        raise IFRError(f"{settings.server} cannot be reached: {error}") from error


@contextlib.contextmanager
def translated(step: Send) -> Iterator[None]:
    """httpx2's errors as IFRConnectionError, IFRTimeout, IFRResponseInvalid or IFRError. Requests are not logged."""
    where, url = _place(step.request), step.request.url
    try:
        with quiet_requests():
            yield
    except IFRError:
        raise
    except httpx2.ConnectTimeout as error:
        if step.seconds <= CONNECT_SECONDS:
            raise too_late(step) from error
        raise IFRConnectionError(f"{where}: no connection within {CONNECT_SECONDS:g} s") from error
    except (httpx2.TimeoutException, TimeoutError) as error:
        raise too_late(step) from error
    except httpx2.ConnectError as error:
        broken = IFRConnectionError(f"{where}: cannot connect: {said(error, url)}. Is a server running there?")
        broken.transient = not any(word in str(error) for word in NOT_TRANSIENT)
        raise broken from error
    except httpx2.DecodingError as error:
        raise IFRResponseInvalid(f"{where}: the response's compression is corrupt: {said(error, url)}") from error
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError) as error:
        raise IFRError(f"{where}: {said(error, url)}") from error
    except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
        raise IFRConnectionError(f"{where}: the connection broke: {said(error, url)}") from error


def _place(request: Request) -> str:
    return f"{request.method} {request.url}"


def too_late(step: Send) -> IFRTimeout:
    """The error for a request that exceeded its timeout."""
    return IFRTimeout(f"{_place(step.request)}: no complete response within {step.seconds:.3g} s")
