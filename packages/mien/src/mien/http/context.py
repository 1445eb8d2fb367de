"""What a handler starts with: the caller's right to be here, and the loaded runtime."""

from starlette.requests import HTTPConnection

from mien.errors import Unavailable
from mien.keys import Scope
from mien.runtime import Runtime

LOADING_SECONDS = 2.0


def authorised(request: HTTPConnection, scope: Scope = "infer") -> Runtime:
    """The runtime, for a caller with `scope`. Raises Unauthorized, Forbidden, Unavailable while models load."""
    request.app.state.auth.require(request, scope)
    runtime: Runtime | None = request.app.state.runtime
    if runtime is None:
        raise Unavailable("the models are being loaded", retry_after=LOADING_SECONDS)
    return runtime
