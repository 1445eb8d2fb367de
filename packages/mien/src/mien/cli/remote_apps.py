"""Apps of a running server, for `mien apps … --url`."""

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx2

from mien.apps.package import PackageLimits, read_package
from mien.apps.reference import parse_ref
from mien.cli.client import error_of
from mien.errors import DeadlineExceeded, NodeFailed, RequestError, Unavailable
from mien.settings import Settings

CONNECT_SECONDS = 5.0
BUILD_SECONDS = 3600.0
IN_MEMORY = 16 * 1024 * 1024


class RemoteApps:
    """The apps of one server. Raises MienError with the server's code and message."""

    def __init__(self, url: str, api_key: str) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        timeout = httpx2.Timeout(BUILD_SECONDS, connect=CONNECT_SECONDS)
        self._http = httpx2.Client(base_url=self.url, headers=headers, timeout=timeout)

    def deploy(self, folder: Path, name: str | None, settings: Settings, log: Callable[[str], None]) -> dict[str, Any]:
        """Pack and upload the folder, log the build, and return the version."""
        package = read_package(folder, PackageLimits(settings.apps.app_max_bytes, settings.apps.app_max_files))
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as packed:
            _pack(packed, folder, [str(file) for file in package.files])
            size = packed.seek(0, io.SEEK_END)
            packed.seek(0)
            headers = {"Content-Type": "application/zip", "Content-Length": str(size), "Accept": "application/x-ndjson"}
            called = name or package.manifest.name or folder.resolve().name.lower()
            if "/" not in called and package.manifest.namespace:
                called = f"{package.manifest.namespace}/{called}"
            with (
                self._reachable(),
                self._http.stream(
                    "POST", "/apps", params={"name": called}, content=_blocks(packed), headers=headers
                ) as response,
            ):
                if response.status_code != httpx2.codes.OK:
                    response.read()
                    return self._data(response)  # type: ignore[no-any-return]
                for line in response.iter_lines():
                    event = json.loads(line)
                    if "log" in event:
                        log(event["log"])
                    elif event.get("success"):
                        found: dict[str, Any] = event["data"]
                        return found
                    else:
                        raise error_of(event.get("error") or {})
        raise NodeFailed(f"{self.url} closed the response before the app was deployed")

    def list(self) -> list[dict[str, Any]]:
        """Every app with its latest version."""
        return self._request("GET", "/apps")  # type: ignore[no-any-return]

    def show(self, reference: str) -> dict[str, Any]:
        """One version, and the others of its app."""
        return self._request("GET", f"/apps/{_checked(reference)}")  # type: ignore[no-any-return]

    def rollback(self, reference: str) -> dict[str, Any]:
        """The version that is now the latest."""
        return self._request("POST", f"/apps/{_checked(reference)}/rollback")  # type: ignore[no-any-return]

    def remove(self, reference: str) -> dict[str, Any]:
        """What was removed."""
        return self._request("DELETE", f"/apps/{_checked(reference)}")  # type: ignore[no-any-return]

    def close(self) -> None:
        self._http.close()

    def _request(self, method: str, path: str) -> Any:
        with self._reachable():
            return self._data(self._http.request(method, path))

    def _data(self, response: httpx2.Response) -> Any:
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise NodeFailed(f"{self.url} returned {response.status_code} without JSON: is that a Mien server?")
        if not body.get("success"):
            error = body.get("error")
            raise error_of(error) if isinstance(error, dict) else RequestError(str(body.get("message")))
        return body.get("data")

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            raise Unavailable(f"cannot connect to {self.url}: is `mien serve` running there?") from None
        except httpx2.TimeoutException:
            raise DeadlineExceeded(f"{self.url} did not respond in time") from None
        except (httpx2.TransportError, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise Unavailable(f"{self.url}: {error}") from None


def _checked(reference: str) -> str:
    """The reference, valid as part of a path. Raises RequestError otherwise."""
    parse_ref(reference, "local")
    return reference


def _pack(target: IO[bytes], folder: Path, files: list[str]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in files:
            archive.write(folder / name, name)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(1024 * 1024):
        yield block
