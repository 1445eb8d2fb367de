"""Proxies and certificates that the environment names: used where they can work, and named where they are at fault."""

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from ifr_clients import IFRClient, IFRClientAsync, IFRError
from inferencesh import AsyncInference, Inference, InferenceError
from infsh import _environment
from infsh._environment import EnvironmentInvalid, client_options, is_loopback, through_proxy
from infsh._errors import FileUnavailable
from infsh._http import fetch
from lumen_client import AsyncLumenClient, LumenClient
from mien.cli.main import app
from mien.errors import MienError
from mien.zoo.downloads import open_downloads
from mien.zoo.manifest import Source
from mien.zoo.progress import Silent
from mien.zoo.sources import https

PACKAGES = Path(__file__).parents[4]
ELSEWHERE = "http://server.invalid:1"
Ask = Callable[[str], None]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.lower().endswith("_proxy") or name.startswith("SSL"):
            monkeypatch.delenv(name)


class Web:
    """A server that is a proxy, too; `asked` has the first lines of requests."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(b"{}")

            do_POST = do_GET  # noqa: N815  the parent's name

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    yield made
    made.close()


@pytest.fixture
def proxy() -> Iterator[Web]:
    made = Web()
    yield made
    made.close()


def by_ifr(url: str) -> None:
    with IFRClient(url, None, retries=0, timeout=10) as client:
        client.server_info()


def by_async_ifr(url: str) -> None:
    async def ask() -> None:
        async with IFRClientAsync(url, None, retries=0, timeout=10) as client:
            await client.server_info()

    asyncio.run(ask())


def by_inferencesh(url: str) -> None:
    with Inference(api_key="k", base_url=url, retries=0, timeout=10) as client:
        client.tasks.get("t")


def by_async_inferencesh(url: str) -> None:
    async def ask() -> None:
        async with AsyncInference(api_key="k", base_url=url, retries=0, timeout=10) as client:
            await client.tasks.get("t")

    asyncio.run(ask())


def by_lumen(url: str) -> None:
    with LumenClient(url, retries=0, timeout=10) as client:
        client.nodes()


def by_async_lumen(url: str) -> None:
    async def ask() -> None:
        async with AsyncLumenClient(url, retries=0, timeout=10) as client:
            await client.infer("embedding", "a cat")

    asyncio.run(ask())


def by_download(url: str) -> None:
    fetch(f"{url}/a", Path("downloaded"), limit=100)


def by_zoo(url: str) -> None:
    with open_downloads(Path("cache"), Silent()) as downloads:
        https.fetch(Source(kind="https", url=f"{url.replace('http:', 'https:')}/a"), downloads)


def by_command(*words: str) -> Ask:
    def ask(url: str) -> None:
        result = CliRunner().invoke(app, [*words, "--url", url])
        assert not isinstance(result.exception, Exception), result.exception
        assert "Traceback" not in result.output
        if result.exit_code:
            raise Said(" ".join(result.output.split()))

    return ask


class Said(Exception):
    """What a command printed that failed."""


COMMANDS = {
    "tasks": by_command("tasks", "list"),
    "apps": by_command("apps", "list"),
    "nodes": by_command("nodes", "list"),
}
CLIENTS: dict[str, Ask] = {
    "ifr": by_ifr, "async ifr": by_async_ifr, "inferencesh": by_inferencesh, "async inferencesh": by_async_inferencesh,
    "lumen": by_lumen, "async lumen": by_async_lumen, "download": by_download, **COMMANDS,
}  # fmt: skip
OURS = (IFRError, InferenceError, FileUnavailable, MienError, Said)


@pytest.fixture(params=CLIENTS)
def ask(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("infsh._http._ATTEMPTS", 1)
    return CLIENTS[request.param]


def failure(ask: Ask, url: str) -> str:
    with pytest.raises(OURS) as caught:
        ask(url)
    return str(caught.value)


def test_no_request_for_this_machine_goes_to_a_proxy(
    ask: Ask, web: Web, proxy: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    for url in (web.url, web.url.replace("127.0.0.1", "localhost")):
        with suppress(*OURS):
            ask(url)
    assert web.asked
    assert proxy.asked == []


def test_watching_nodes_of_this_machine_goes_to_no_proxy(web: Web, proxy: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    with pytest.raises(Said, match="rejected the WebSocket"):
        by_command("nodes", "watch", "--count", "1")(web.url)
    assert web.asked == ["/v1/nodes/watch"]
    assert proxy.asked == []


def test_other_requests_do_unless_no_proxy_says_so(ask: Ask, proxy: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    with suppress(*OURS):
        ask(ELSEWHERE)
    assert proxy.asked[0].startswith(f"{ELSEWHERE}/")
    proxy.asked.clear()
    for without in ("server.invalid", ".invalid", "*", "other,  invalid:1 , server.invalid"):
        monkeypatch.setenv("no_proxy", without)
        failure(ask, ELSEWHERE)
    assert proxy.asked == []


def test_a_proxy_that_cannot_be_used_is_named_and_does_not_matter_on_this_machine(
    ask: Ask, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "ftp://user:pa55@proxy:1")
    said = failure(ask, ELSEWHERE)
    assert "http_proxy" in said
    assert "pa55" not in said
    with suppress(*OURS):
        ask(web.url)
    assert web.asked


@pytest.mark.parametrize("value", [
    "ftp://proxy:1", "socks4://proxy", "http://[::1", "http://", "http://proxy:99999", "://", "socks5://proxy:1",
    "unix:///run/proxy", "http://user:pa55@proxy:0",
])  # fmt: skip
@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_every_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentInvalid, match=name) as caught:
        client_options(ELSEWHERE)
    assert "pa55" not in str(caught.value)


def test_a_proxy_that_does_not_answer_is_named(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("HTTP_PROXY", f"http://user:pa55@127.0.0.1:{port}")
    said = failure(ask, ELSEWHERE)
    assert f"HTTP_PROXY, 'http://…@127.0.0.1:{port}'" in said


@pytest.mark.parametrize("no_proxy", ["[::1", "://", "a://[,:::", "1.2.3.4/99", "\udcff", "," * 9, "ü" * 300])
def test_a_malformed_no_proxy_breaks_nothing(
    web: Web, proxy: Web, monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    monkeypatch.setenv("no_proxy", no_proxy)
    monkeypatch.setenv("http_proxy", proxy.url)
    with httpx2.Client(**client_options(web.url)) as client:
        assert client.get(web.url).json() == {}
        assert client.get(ELSEWHERE).json() == {}
    assert (web.asked, proxy.asked) == (["/"], [f"{ELSEWHERE}/"])


def test_certificates_that_cannot_be_read_are_named_and_do_not_matter_without_tls(
    ask: Ask, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certs")
    said = failure(ask, ELSEWHERE.replace("http:", "https:"))
    assert "SSL_CERT_FILE is '/nowhere/certs': No such file" in said
    with suppress(*OURS):
        ask(web.url)
    assert web.asked


@pytest.mark.parametrize(("name", "value", "url"), [
    ("HTTP_PROXY", "ftp://user:pa55@x", ELSEWHERE),
    ("https_proxy", "socks5://127.0.0.1:1", ELSEWHERE.replace("http:", "https:")),
    ("SSL_CERT_FILE", "/nowhere/certs", ELSEWHERE.replace("http:", "https:")),
    ("HTTP_PROXY", "http://user:pa55@127.0.0.1:1", ELSEWHERE),
])  # fmt: skip
def test_watching_nodes_names_a_variable_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, url: str
) -> None:
    monkeypatch.setenv(name, value)
    said = failure(by_command("nodes", "watch"), url)
    assert name in said
    assert "pa55" not in said


def test_watching_nodes_of_what_is_no_url_is_an_error() -> None:
    for url in ("http://[::1", "nonsense", "http://a b"):
        assert url in failure(by_command("nodes", "watch"), url)


@pytest.mark.parametrize(("name", "kind"), [
    ("SSL_CERT_FILE", "absent"), ("SSL_CERT_FILE", "text"), ("SSL_CERT_FILE", "folder"), ("SSL_CERT_DIR", "absent"),
    ("SSL_CERT_DIR", "text"),
])  # fmt: skip
def test_all_certificates_that_cannot_be_read_are_named_and_https_without_them_trusts_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    path = tmp_path / "certs"
    if kind == "text":
        path.write_text("no certificate")
    elif kind == "folder":
        path.mkdir()
    monkeypatch.setenv(name, str(path))
    with pytest.raises(EnvironmentInvalid, match=f"{name} is '{path}'"):
        client_options("https://server.invalid")
    context = client_options("http://server.invalid")["verify"]
    assert (context.verify_mode, context.check_hostname, context.get_ca_certs()) == (ssl.CERT_REQUIRED, True, [])


@pytest.mark.parametrize("url", [f"http://{'a' * 70}.invalid:1", "http://127.0.0.1:1"])
def test_what_cannot_be_connected_to_is_an_error_of_the_package(ask: Ask, url: str) -> None:
    failure(ask, url)


BROKEN = (
    b"", b"\x15\x03\x01", b"HTTP/9 x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
)  # fmt: skip


def test_an_answer_that_breaks_off_is_an_error_of_the_package(ask: Ask) -> None:
    answers: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(answers[0])

    threading.Thread(target=serve, daemon=True).start()
    try:
        for answer in BROKEN:
            answers[:] = [answer]
            failure(ask, f"http://127.0.0.1:{listener.getsockname()[1]}")
        failure(ask, f"https://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_the_zoo_names_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (("https_proxy", "ftp://x"), ("SSL_CERT_FILE", "/nowhere/at/all")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(MienError, match=name):
                by_zoo(ELSEWHERE)


@pytest.mark.parametrize("host", [
    "localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.1.2.3", "[::1]", "[::ffff:127.0.0.1]", "[::]",
])  # fmt: skip
def test_hosts_of_this_machine(host: str, proxy: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    url = f"http://{host}:1"
    assert is_loopback(url)
    assert through_proxy(url) == ""
    with httpx2.Client(**client_options(url)) as client, pytest.raises(httpx2.TransportError):
        client.get(url)
    assert proxy.asked == []


def test_what_only_looks_like_this_machine_is_another() -> None:
    for host in ("localhost.example", "127.0.0.1.example", "128.0.0.1", "notlocalhost", "[2001:db8::1]"):
        assert not is_loopback(f"http://{host}:1")


def test_both_packages_have_the_same_rules() -> None:
    theirs = PACKAGES / "ifr-clients" / "src" / "ifr_clients" / "_environment.py"
    assert theirs.read_text().partition("\n")[2] == Path(str(_environment.__file__)).read_text()  # but for its header
