"""Access control: API keys and their scopes, and the loopback rule while there are none."""

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from mien.errors import Forbidden
from mien.hosts import address_of, is_loopback, split_authority
from mien.http.proxies import received_host
from mien.keys import DEFAULT_OWNER, AccessRule, Caller, KeyStore, Scope
from mien.quotas import Quotas
from mien.settings import Listening


class Auth:
    """Checks the API key of a request. While there are no keys, every client is let in, with or without one."""

    def __init__(self, listening: Listening, keys: KeyStore, quotas: Quotas) -> None:
        self._listening = listening
        self._quotas = quotas
        # The public URL's name is the operator's: no stranger can make it resolve to this machine.
        self._own_names = {listening.host.lower(), urlsplit(listening.public_url or "").hostname}
        self._rule = AccessRule(
            keys,
            open_without_keys=not listening.auth or is_loopback(listening.host),
            subject="this server",
            how="send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
        )

    def check(self) -> None:
        """Raise InternalError if keys or quotas cannot be read, so that every request will be refused."""
        self._rule.keys.all()
        self._quotas.of(DEFAULT_OWNER)

    def require(self, request: HTTPConnection, scope: Scope) -> Caller:
        """Who calls. Raises Unauthorized without a known key, Forbidden if the key lacks `scope`, QuotaExceeded if its
        owner sends more requests per second than it may.

        The key comes as `Authorization: Bearer KEY` or `X-API-Key: KEY`.
        """
        caller = self._rule.require(_presented(request), scope)
        if caller.key is None and self._listening.auth:
            self._require_local_host(request)
        self._quotas.count_request(caller.owner)
        return caller

    def _require_local_host(self, request: HTTPConnection) -> None:
        """Without keys, a web page whose host name resolves to this machine (DNS rebinding) must not get in."""
        received = received_host(request.scope)
        if self._is_local(request.headers.get("host", "")) and (
            # A page that comes without the proxy, from the proxy's machine, can set X-Forwarded-Host but not Host.
            received is None or self._is_local(received) or _is_upstream(received)
        ):
            return
        raise Forbidden("without API keys this server answers only to loopback host names; see `mien keys create`")

    def _is_local(self, authority: str) -> bool:
        if not authority:  # browsers always name one
            return True
        host, _ = split_authority(authority) or (None, None)
        return host is not None and (host in self._own_names or is_loopback(host))


def _is_upstream(authority: str) -> bool:
    """Whether a proxy may have named this server so by itself: an address, or a name that nobody can register."""
    host, _ = split_authority(authority) or ("", None)
    return address_of(host) is not None or (bool(host) and "." not in host)


def _presented(request: HTTPConnection) -> str:
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else request.headers.get("x-api-key", "").strip()
