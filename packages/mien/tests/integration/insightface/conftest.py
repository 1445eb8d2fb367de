"""Ways to ask `/extract`, and images to ask about."""

import base64
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

Extract = Callable[..., dict[str, Any]]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="session")
def extract(client: httpx2.Client) -> Extract:
    """`extract(image, …, parameter=value)` through JSON; the answer, which must be a 200."""

    def ask(*images: bytes | str, **parameters: Any) -> dict[str, Any]:
        data = [b64(image) if isinstance(image, bytes) else image for image in images]
        response = client.post("/extract", json={"images": {"data": data}, **parameters})
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    return ask


@pytest.fixture(scope="session")
def web(images_root: Path) -> Iterator[str]:
    """A web server of this machine with the photos in it; `/echo-needed` wants the header `X-Token: sesame`."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(images_root))

        def do_GET(self) -> None:
            if self.path.startswith("/guarded/"):
                if self.headers.get("X-Token") != "sesame":
                    self.send_error(401)
                    return
                self.path = self.path.removeprefix("/guarded")
            super().do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
