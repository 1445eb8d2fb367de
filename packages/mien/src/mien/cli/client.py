"""HTTP clients of a running server for the commands that talk to one, and the options that say which."""

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any, Self, TypeAlias
from urllib.parse import quote

import httpx2
import typer

from inferencesh import APIError, InferenceConnectionError, InferenceError, InferenceTimeout
from infsh._environment import EnvironmentInvalid, client_options, said, through_proxy
from lumen_client import LumenClient
from mien.apps.package import PackageLimits, read_package
from mien.apps.reference import parse_ref
from mien.errors import DeadlineExceeded, MienError, NodeFailed, RequestError, Unavailable, class_of_code
from mien.settings import Settings

DEFAULT_URL = "http://127.0.0.1:8080"
CONNECT_SECONDS = 5.0
RESPONSE_SECONDS = 300.0
BUILD_SECONDS = 3600.0
IN_MEMORY = 16 * 1024 * 1024

Url: TypeAlias = Annotated[str, typer.Option(envvar="MIEN_URL", help="The server.")]
ApiKey: TypeAlias = Annotated[str, typer.Option(envvar="MIEN_API_KEY", help="API key, if the server requires one.")]


class ServerClient:
    """A connection to one server, closed with its block. Raises MienError with the server's code and message, or
    Unavailable, DeadlineExceeded and NodeFailed where there is no proper response."""

    def __init__(self, url: str, api_key: str, *, seconds: float = RESPONSE_SECONDS) -> None:
        self.url = url.rstrip("/")
        self._seconds = seconds
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        timeout = httpx2.Timeout(seconds, connect=CONNECT_SECONDS)
        options = connection_options(self.url)
        try:
            self._http = httpx2.Client(base_url=self.url, headers=headers, timeout=timeout, **options)
        except (httpx2.InvalidURL, ValueError) as error:  # also a key that no header can hold
            raise RequestError(f"--url {self.url[:200]!r} or the API key is not valid: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def _request(self, method: str, path: str, **content: Any) -> Any:
        with self._reachable():
            return self._data(self._http.request(method, path, **content))

    @contextmanager
    def _stream(self, method: str, path: str, **content: Any) -> Iterator[httpx2.Response]:
        """A response of status 200, read as it arrives."""
        with self._reachable(), self._http.stream(method, path, **content) as response:
            if response.status_code != httpx2.codes.OK:
                response.read()
                self._data(response)
            yield response

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except MienError:
            raise
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise Unavailable(unreachable(self.url, said(error, self.url))) from error
        except httpx2.TimeoutException:
            raise DeadlineExceeded(f"{self.url} did not respond within {self._seconds:g} s") from None
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, UnicodeError, OSError) as error:
            raise Unavailable(f"{self.url}: {said(error, self.url)}") from error

    def _data(self, response: httpx2.Response) -> Any:
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise NodeFailed(f"{self.url} returned {response.status_code} without JSON: is that a Mien server?")
        if not body.get("success"):
            given = body.get("error")
            message = {"message": body.get("message", response.reason_phrase)}
            raise error_of(given if isinstance(given, dict) else message)
        return body.get("data")


class RemoteApps(ServerClient):
    """The apps of one server, for `mien apps … --url`."""

    def __init__(self, url: str, api_key: str) -> None:
        super().__init__(url, api_key, seconds=BUILD_SECONDS)

    def deploy(self, folder: Path, name: str | None, settings: Settings, log: Callable[[str], None]) -> dict[str, Any]:
        """Pack and upload the folder, log the build, and return the version."""
        package = read_package(folder, PackageLimits(settings.apps.app_max_bytes, settings.apps.app_max_files))
        called = name or package.manifest.name or folder.resolve().name.lower()
        if "/" not in called and package.manifest.namespace:
            called = f"{package.manifest.namespace}/{called}"
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as packed:
            _pack(packed, folder, [str(file) for file in package.files])
            size = packed.seek(0, io.SEEK_END)
            packed.seek(0)
            headers = {"Content-Type": "application/zip", "Content-Length": str(size), "Accept": "application/x-ndjson"}
            with self._stream(
                "POST", "/apps", params={"name": called}, content=_blocks(packed), headers=headers
            ) as response:
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


class RemoteModels(ServerClient):
    """The models of one server, for `mien models load | unload | loaded`."""

    def loaded(self) -> list[dict[str, Any]]:
        """Every model that the server uses."""
        return self._request("GET", "/models")["models"]  # type: ignore[no-any-return]

    def load(self, name: str) -> dict[str, Any]:
        """What became of the model."""
        return self._request("POST", f"/models/{quote(name, safe='')}/load")  # type: ignore[no-any-return]

    def unload(self, name: str) -> dict[str, Any]:
        """What became of the model."""
        return self._request("POST", f"/models/{quote(name, safe='')}/unload")  # type: ignore[no-any-return]


@contextmanager
def lumen_client(url: str, api_key: str) -> Iterator[LumenClient]:
    """A client of `/v1/infer` that raises Mien's errors. A command reports that the server is busy: no retries."""
    with mien_errors(url), LumenClient(url, api_key, timeout=RESPONSE_SECONDS, retries=0) as client:
        yield client


@contextmanager
def mien_errors(url: str) -> Iterator[None]:
    """The errors of `inferencesh` and `lumen_client` as Mien's, with the server's code and message."""
    try:
        yield
    except APIError as error:
        if error.code is None:  # not Mien's words
            raise NodeFailed(f"{url} returned {error.status_code}: {error.message}") from None
        raise error_of({"code": error.code, "message": error.message}) from None
    except InferenceTimeout as error:
        raise DeadlineExceeded(str(error)) from None
    except InferenceConnectionError as error:
        raise Unavailable(str(error) if error.sent else unreachable(url, str(error))) from error
    except (InferenceError, ValueError, TypeError) as error:
        raise RequestError(str(error)) from None


def connection_options(url: str) -> dict[str, Any]:
    """Arguments of a client, as `client_options` has them. Raises RequestError, which names the variable at fault."""
    try:
        return client_options(url)
    except EnvironmentInvalid as error:
        raise RequestError(f"{url} cannot be reached: {error}") from error


def unreachable(url: str, reason: str) -> str:
    """The sentence for a server that cannot be connected to, with what is at fault unless it is simply down."""
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return f"{url}: {reason}"
    return f"cannot connect to {url}{through_proxy(url)}: is `mien serve` running there?"


def error_of(error: Mapping[str, Any]) -> MienError:
    """The exception for a server's `{"code", "message"}`."""
    kind = class_of_code(str(error.get("code"))) or RequestError
    return kind(str(error.get("message")))


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
