"""A file behind a URL, or inside a zip behind one: streamed to disk, resumed where it was interrupted."""

import hashlib
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2

from infsh._environment import EnvironmentInvalid, client_options, through_proxy
from mien.backoff import Backoff
from mien.errors import ManifestInvalid, ModelUnavailable
from mien.locks import locked
from mien.zoo.archive import extract_member
from mien.zoo.downloads import Downloads
from mien.zoo.manifest import Source
from mien.zoo.progress import Progress
from mien.zoo.sources.transfer import Transfer

TRIES = 5
BACKOFF = Backoff(first=0.5, most=4.0)
TIMEOUT = httpx2.Timeout(30.0)
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class InterruptedTransferError(Exception):
    """The transfer ended early and is worth another try; what has arrived is kept."""


def fetch(source: Source, downloads: Downloads) -> Path:
    """The file at the source's `url`, or the file `path` of the zip that is there."""
    url = source.required("url")
    arrived = downloads.once(url, lambda folder: _download(url, folder, downloads))
    if source.path is None:
        return arrived
    return extract_member(arrived, source.path, downloads.folder() / Path(source.path).name)


def _download(url: str, folder: Path, downloads: Downloads) -> Path:
    name = hashlib.sha256(url.encode()).hexdigest()[:32]
    with locked(downloads.partial / f"{name}.lock"):  # processes share the part: two that append would garble it
        transfer = Transfer(downloads.partial / f"{name}.part")
        hooks = {"request": [_require_tls]}
        with httpx2.Client(follow_redirects=True, timeout=TIMEOUT, event_hooks=hooks, **_options(url)) as client:
            _complete(client, url, transfer, downloads.progress)
        return transfer.finish(folder / Path(httpx2.URL(url).path).name)


def _options(url: str) -> dict[str, Any]:
    try:
        return client_options(url)
    except EnvironmentInvalid as error:
        raise ModelUnavailable(f"{_host(url)} cannot be reached: {error}") from error


def _complete(client: httpx2.Client, url: str, transfer: Transfer, progress: Progress) -> None:
    for attempt in range(TRIES):
        if attempt:
            time.sleep(BACKOFF.pause(attempt - 1))
        try:
            _receive(client, url, transfer, progress)
        except (httpx2.HTTPError, InterruptedTransferError, UnicodeError) as error:
            last: Exception = error
        else:
            return
    raise ModelUnavailable(
        f"{_host(url)} could not be reached or broke off {TRIES} times{through_proxy(url)}: check the network and "
        "proxy settings, then pull again; what has arrived is kept"
    ) from last


def _receive(client: httpx2.Client, url: str, transfer: Transfer, progress: Progress) -> None:
    headers = {"Accept-Encoding": "identity", **transfer.resume_headers()}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            transfer.restart()
            raise InterruptedTransferError("the kept part does not fit the file any more")
        _check_status(response, url)
        transfer.begin(response.status_code == HTTPStatus.PARTIAL_CONTENT, dict(response.headers))
        progress.start(Path(response.url.path).name, transfer.total)
        progress.advance(transfer.size)
        try:
            _store(response, transfer, progress)
        finally:
            progress.done()
    if not transfer.complete:
        raise InterruptedTransferError(f"{transfer.size} of {transfer.total} bytes arrived")


def _store(response: httpx2.Response, transfer: Transfer, progress: Progress) -> None:
    with transfer.open() as sink:
        for chunk in response.iter_raw():
            sink.write(chunk)
            progress.advance(len(chunk))


def _check_status(response: httpx2.Response, url: str) -> None:
    if response.status_code in {408, 425, 429} or response.status_code >= 500:
        raise InterruptedTransferError(f"status {response.status_code}")
    if response.status_code not in {200, 206}:
        raise ModelUnavailable(
            f"{_host(url)} answered {response.status_code} for this model's file: "
            "get the file in a browser and name it in a manifest of your own"
        )


def _require_tls(request: httpx2.Request) -> None:
    if request.url.scheme != "https" and request.url.host not in LOOPBACK:
        raise ManifestInvalid(f"models are only downloaded over https, not from {request.url.scheme}://…")


def _host(url: str) -> str:
    return httpx2.URL(url).host
