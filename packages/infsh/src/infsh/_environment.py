"""What the environment says about HTTP connections: proxies, never for this machine, and trusted certificates.

`ifr_clients` has a copy, which `make sync` makes: it depends on no other package.
"""

import importlib.util
import ipaddress
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpx2

DIRECT = (
    "all://localhost",
    "all://localhost.",
    "all://*.localhost",
    "all://127.0.0.0/8",
    "all://[::1]",
    "all://[::ffff:127.0.0.0]/104",
    "all://0.0.0.0",
    "all://[::]",
)
"""Patterns of the URLs that no proxy can reach: they mean another machine there."""
_SCHEMES = ("http", "https", "socks5", "socks5h")


class EnvironmentInvalid(Exception):
    """A variable has a value that cannot be used; the message names it."""


def client_options(url: str, verify: ssl.SSLContext | bool = True) -> dict[str, Any]:
    """Arguments of an httpx2 client that sends requests to `url`, and perhaps to other servers.

    Raises EnvironmentInvalid for a variable that requests to `url` depend on.
    """
    trust_env = True
    try:
        _check_proxies()
    except EnvironmentInvalid:
        if not is_loopback(url):
            raise
        trust_env = False
    if verify is True:
        verify = _ssl_context(needed=url.lower().startswith("https:"))
    return {"verify": verify, "mounts": dict.fromkeys(DIRECT), "trust_env": trust_env}


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine, by name or address."""
    try:
        host = httpx2.URL(url).host.rstrip(".").lower()
    except (httpx2.InvalidURL, ValueError):
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def said(error: Exception, url: str) -> str:
    """The error's text, with the variable of the environment that may be its cause."""
    text = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            if os.environ.get(name):
                return f"{text} (trusted are the certificates of {name}, {os.environ[name]!r})"
    return text + through_proxy(url)


def through_proxy(url: str) -> str:
    """How an error says that a request to the URL goes through a proxy; empty if it does not."""
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        return ""
    proxies = {scheme: (name, proxy) for scheme, name, proxy in _proxies()}
    found = proxies.get(parsed.scheme) or proxies.get("all")
    if found is None or is_loopback(url) or proxy_bypass(parsed.host):
        return ""
    return f" (through the proxy of the variable {found[0]}, {_shown(found[1])})"


def _check_proxies() -> None:
    for _, name, url in _proxies():
        problem = _proxy_problem(url)
        if problem:
            raise EnvironmentInvalid(f"the environment variable {name} is {_shown(url)}: {problem}")


def _proxies() -> Iterator[tuple[str, str, str]]:
    """The proxies in use: scheme, variable, URL."""
    found = getproxies()
    if "*" in [host.strip() for host in found.get("no", "").split(",")]:
        return
    for scheme in ("http", "https", "all"):
        url = found.get(scheme)
        if url:
            names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")
            yield scheme, next((name for name in names if os.environ.get(name)), names[0]), url


def _proxy_problem(url: str) -> str | None:
    try:
        parsed = httpx2.URL(url if "://" in url else f"http://{url}")
    except (httpx2.InvalidURL, ValueError) as error:
        return f"it is not a URL: {error}"
    if parsed.scheme not in _SCHEMES:
        return f"expected a proxy's URL that begins with {', '.join(_SCHEMES[:-1])} or {_SCHEMES[-1]}"
    if not parsed.host or not 0 < (1 if parsed.port is None else parsed.port) < 65536:
        return "expected a proxy's URL such as http://proxy.example:3128"
    if parsed.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        return "SOCKS proxies need the package socksio; install httpx2[socks]"
    return None


def _shown(url: str) -> str:
    """The URL without a password."""
    before, at, after = url.rpartition("@")
    return repr(f"{before.partition('://')[0]}://…@{after}" if at and "://" in before else after)


def _ssl_context(*, needed: bool) -> ssl.SSLContext:
    try:
        _check_certificates()
        return httpx2.create_ssl_context()
    except EnvironmentInvalid:
        if needed:
            raise
    except OSError as error:
        if needed:
            raise EnvironmentInvalid(f"the trusted certificates cannot be loaded: {error}") from error
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody: https fails, http does not need it


def _check_certificates() -> None:
    file, folder, log = (os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"))
    if file:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
        except ssl.SSLError as error:
            raise _invalid("SSL_CERT_FILE", file, "the file has no certificates in PEM") from error
        except OSError as error:
            raise _invalid("SSL_CERT_FILE", file, error.strerror or "it cannot be read") from error
    elif folder:
        try:
            list(Path(folder).iterdir())
        except OSError as error:
            raise _invalid("SSL_CERT_DIR", folder, error.strerror or "it cannot be read") from error
    if log and (file or folder):
        try:
            with Path(log).open("a"):
                pass
        except OSError as error:
            raise _invalid("SSLKEYLOGFILE", log, error.strerror or "it cannot be written") from error


def _invalid(name: str, value: str, reason: str) -> EnvironmentInvalid:
    return EnvironmentInvalid(f"the environment variable {name} is {value!r}: {reason}")
