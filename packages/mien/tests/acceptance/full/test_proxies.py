"""Through nginx and HAProxy, as docs/proxies.md configures them, everything works as without."""

import base64
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.sync.client import connect

from testing.chromium import Page, chromium
from testing.ports import free_port
from testing.tools import program
from testing.waiting import eventually

PAGE = Path(__file__).parents[5] / "docs" / "proxies.md"
NGINX = """
daemon off;
{user}
error_log stderr;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{site}
}}
"""
PLAIN = "server { listen 80; client_max_body_size 1g; location / { proxy_pass http://127.0.0.1:8080; } }"
"""What people write who have read no page of ours: Host is the server's own address, and HTTP/1.0 is spoken."""


def blocks(language: str) -> list[str]:
    """The page's configuration files: the whole one, and the part for a prefix."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def nginx_site(kind: str) -> str:
    whole, prefix = blocks("nginx")
    if kind == "plain":
        return PLAIN
    if kind == "prefix":
        return re.sub(r"    location / \{.*?\n    \}\n", lambda _: prefix, whole, flags=re.DOTALL)
    if kind == "without Host":
        return whole.replace("    proxy_set_header Host $http_host;\n", "")
    return whole


def haproxy_site(kind: str) -> str:
    whole, prefix = blocks("haproxy")
    return (
        whole.replace("    default_backend mien\n", f"{prefix}    default_backend mien\n")
        if kind == "prefix"
        else whole
    )


@dataclass
class Proxy:
    """A proxy in front of the server, and a client of it."""

    base: str
    """With the prefix, without a slash at its end."""
    client: httpx2.Client
    server: Any
    kind: str

    @property
    def prefix(self) -> str:
        return "/mien" if self.kind == "prefix" else ""

    @property
    def files_base(self) -> str:
        """What file URLs start with: a proxy that says nothing cannot be in them."""
        url: str = self.server.url
        return url if self.kind == "plain" else self.base


@contextmanager
def proxied(name: str, kind: str, server: Any, folder: Path) -> Iterator[Proxy]:
    port = free_port()
    folder.mkdir()
    site = nginx_site(kind) if name == "nginx" else haproxy_site(kind)
    site = site.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
    config = folder / f"{name}.conf"
    if name == "nginx":
        site = site.replace("listen 80;", f"listen 127.0.0.1:{port};")
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(NGINX.format(folder=folder, site=site, user=user))
        command = [program("nginx"), "-p", str(folder), "-c", str(config)]
    else:
        config.write_text(site.replace("bind :80", f"bind 127.0.0.1:{port}"))
        command = [program("haproxy"), "-db", "-f", str(config)]
    with (folder / "log").open("wb") as log, ExitStack() as stack:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        stack.callback(process.wait, 20)
        stack.callback(process.terminate)
        base = f"http://127.0.0.1:{port}{'/mien' if kind == 'prefix' else ''}"
        client = stack.enter_context(httpx2.Client(base_url=base, timeout=60, trust_env=False))

        def ready() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                return client.get("/livez").status_code == 200
            except httpx2.TransportError:
                return False

        eventually(ready)
        yield Proxy(base, client, server, kind)


@pytest.fixture(scope="module")
def trusting(serve_module: Any, light: dict[str, str]) -> Any:
    return serve_module(trusted_proxies="127.0.0.1", **light)


@pytest.fixture(
    scope="module",
    params=[
        ("nginx", "root"), ("nginx", "without Host"), ("nginx", "prefix"), ("nginx", "plain"),
        ("haproxy", "root"), ("haproxy", "prefix"),
    ],
    ids=" ".join,
)  # fmt: skip
def proxy(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    name, kind = request.param
    folder = tmp_path_factory.mktemp("proxy") / "run"
    server = request.getfixturevalue("server" if kind == "plain" else "trusting")
    with proxied(name, kind, server, folder) as started:
        yield started


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("browser")) as page:
        yield page


def test_faces_are_found(proxy: Proxy, photo: bytes) -> None:
    body = {"images": {"data": [base64.b64encode(photo).decode()]}}
    answer = proxy.client.post("/extract", json=body)
    assert len(answer.json()["data"][0]["faces"]) == 1


def test_files_larger_than_any_buffer_go_up_and_down(proxy: Proxy) -> None:
    content = os.urandom(9_000_000)
    uploaded = proxy.client.post("/files", files={"file": ("a.bin", content, "application/octet-stream")}).json()[
        "data"
    ]
    assert uploaded["uri"].startswith(f"{proxy.files_base}/files/")
    assert httpx2.get(uploaded["uri"], trust_env=False).content == content


@pytest.mark.parametrize("kind", ["text/event-stream", "application/x-ndjson"])
def test_streams_arrive_as_they_are_sent(proxy: Proxy, photo: bytes, kind: str) -> None:
    image = f"data:image/jpeg;base64,{base64.b64encode(photo).decode()}"
    task = {"app": "mien/faces", "input": {"image": image}, "run_at": "2100-01-01T00:00:00Z"}
    task_id = proxy.client.post("/run", json=task).json()["data"]["id"]
    with proxy.client.stream("GET", f"/tasks/{task_id}/stream", headers={"Accept": kind}) as response:
        chunks = response.iter_text()  # an iterator that nobody keeps closes the connection
        first = next(chunks)  # of a stream that goes on for decades
    assert task_id in first
    proxy.client.post(f"/tasks/{task_id}/cancel")


def test_websockets_pass(proxy: Proxy) -> None:
    if proxy.kind == "plain":  # nginx passes no upgrade unless told to
        assert proxy.client.get("/v1/nodes/watch").status_code == 426
        return
    with connect(proxy.base.replace("http", "ws") + "/v1/nodes/watch", proxy=None) as socket:
        assert '"snapshot"' in socket.recv(timeout=30)


def test_the_start_page_leads_to_the_documentation(proxy: Proxy) -> None:
    answer = proxy.client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, f"{proxy.prefix}/docs")


def test_the_documentation_finds_its_document_and_calls_the_server(proxy: Proxy, page: Page) -> None:
    page.open(f"{proxy.base}/docs")
    eventually(lambda: page.run("document.querySelectorAll('.opblock').length") > 30)
    called = f"fetch('{proxy.prefix}/tasks/list', {{method: 'POST', body: '{{}}'}}).then(r => r.status)"
    assert page.run(called) == 200


def test_connections_to_the_server_are_used_again(proxy: Proxy) -> None:
    before = proxy.server.metric("mien_http_connections")
    for _ in range(50):
        assert proxy.client.get("/livez").status_code == 200
    assert proxy.server.metric("mien_http_connections") - before < 10


def test_the_log_names_the_client_and_not_what_it_claims(proxy: Proxy) -> None:
    request_id = os.urandom(8).hex()
    said = {"X-Request-Id": request_id, "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Prefix": "/evil"}
    assert proxy.client.get("/livez", headers=said).status_code == 200
    line = eventually(lambda: next((line for line in proxy.server.log.splitlines() if request_id in line), None))
    assert '"client": "127.0.0.1"' in line
    assert '"path": "/livez"' in line
