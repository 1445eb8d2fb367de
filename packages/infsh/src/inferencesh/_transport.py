"""What both clients share in their use of httpx2: limits, timeouts, and the translation of its errors."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import httpx2

from inferencesh._messages import Request, Response
from inferencesh.errors import ConfigurationError, InferenceConnectionError, InferenceError, InferenceTimeout
from infsh._environment import EnvironmentInvalid, client_options, said
from infsh._quiet import quiet_requests

CONNECT_SECONDS = 10.0
# Servers close idle connections after 30 s (Mien) or longer: the client should do so first.
LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=20.0)


def timeout_of(seconds: float) -> httpx2.Timeout:
    """The timeout of each step of a request that may take `seconds` in total."""
    rest = None if math.isinf(seconds) else seconds
    return httpx2.Timeout(rest, connect=min(CONNECT_SECONDS, seconds))


def response_of(response: httpx2.Response, body: bytes) -> Response:
    """The response as a value of this library."""
    return Response(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


def options_of(base_url: str) -> dict[str, Any]:
    """Arguments of the HTTP client. Raises ConfigurationError, which names the variable of the environment at fault."""
    try:
        return client_options(base_url)
    except EnvironmentInvalid as error:
        raise ConfigurationError(f"{base_url} cannot be reached: {error}") from error


@contextlib.contextmanager
def translated(request: Request, seconds: float) -> Iterator[None]:
    """httpx2's errors as InferenceConnectionError, InferenceTimeout or InferenceError; its requests are not logged."""
    where = f"{request.method} {request.url.partition('?')[0]}"
    try:
        with quiet_requests():
            yield
    except InferenceError:
        raise
    except httpx2.ConnectTimeout as error:
        text = f"{where}: no connection within {min(CONNECT_SECONDS, seconds):.3g} s"
        raise InferenceConnectionError(text, sent=False) from error
    except (httpx2.TimeoutException, TimeoutError) as error:
        raise too_late(request, seconds) from error
    except httpx2.ConnectError as error:
        text = f"{where}: cannot connect: {said(error, request.url)}. Does a server listen there?"
        raise InferenceConnectionError(text, sent=False) from error
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError) as error:
        raise InferenceError(f"{where}: {said(error, request.url)}") from error
    except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
        raise InferenceConnectionError(f"{where}: the connection broke: {said(error, request.url)}") from error


def too_late(request: Request, seconds: float) -> InferenceTimeout:
    """The error for a request that exceeded its timeout."""
    return InferenceTimeout(f"{request.method} {request.url.partition('?')[0]}: no response within {seconds:.3g} s")
