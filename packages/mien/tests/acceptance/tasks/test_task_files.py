"""Files through HTTP: both ways of uploading, signed URLs, ranges, limits, and files of tasks."""

import base64
import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from mien.quotas import FileOwnerStore


def upload(api: Any, content: bytes, **wanted: Any) -> dict[str, Any]:
    """The JSON flow, as clients do it: only the PUT's Content-Type, no key."""
    answer = api.client.post("/files", json={"files": [{"uri": "", "size": len(content), **wanted}]})
    record: dict[str, Any] = answer.json()["data"][0]
    kind = wanted.get("content_type", "application/octet-stream")
    put = httpx2.put(record["upload_url"], content=content, headers={"Content-Type": kind}, trust_env=False)
    assert put.status_code == 200, put.text
    return record


def test_a_file_goes_up_and_comes_down(api: Any) -> None:
    content = os.urandom(300_000)
    record = upload(api, content, filename="dä ta.bin", content_type="application/octet-stream")
    assert "d%C3%A4%20ta.bin" in record["uri"]
    answer = httpx2.get(record["uri"], trust_env=False)
    assert answer.content == content
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("attachment")
    shown = api.client.get(f"/files/{record['id']}").json()["data"]
    assert (shown["size"], shown["ready"], shown["filename"]) == (300_000, True, "dä ta.bin")
    assert api.client.delete(f"/files/{record['id']}").status_code == 200
    assert httpx2.get(record["uri"], trust_env=False).status_code == 404


@pytest.mark.parametrize(("asked", "status", "part"), [
    ("bytes=0-9", 206, slice(0, 10)),
    ("bytes=990-", 206, slice(990, 1000)),
    ("bytes=-5", 206, slice(995, 1000)),
    ("bytes=5-100000", 206, slice(5, 1000)),
    ("bytes=0-1,5-6", 200, slice(0, 1000)),
    ("pages=1", 200, slice(0, 1000)),
    ("bytes=1000-", 416, None),
])  # fmt: skip
def test_ranges(api: Any, asked: str, status: int, part: slice | None) -> None:
    content = bytes(number % 251 for number in range(1000))
    record = upload(api, content)
    answer = api.client.get(record["uri"], headers={"Range": asked})
    assert answer.status_code == status
    if part is not None:
        assert answer.content == content[part]
    if status == 206:
        assert answer.headers["content-range"] == f"bytes {part.start}-{part.stop - 1}/1000"  # type: ignore[union-attr]
    head = api.client.head(record["uri"])
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "1000", b"")
    same = api.client.get(record["uri"], headers={"If-None-Match": head.headers["etag"]})
    assert same.status_code == 304


def test_multipart_makes_one_record(api: Any) -> None:
    form = {"filename": "b.txt", "public": "true"}
    answer = api.client.post("/files", data=form, files={"file": ("a.txt", b"words", "text/plain")})
    record = answer.json()["data"]
    assert (record["filename"], record["size"], record["public"]) == ("b.txt", 5, True)
    shown = httpx2.get(record["uri"], trust_env=False)
    assert shown.text == "words"
    assert shown.headers["content-disposition"].startswith("inline")
    assert "signature" not in record["uri"]
    assert api.client.post("/files", files={"other": ("a", b"x")}).status_code == 422


def test_signatures_are_for_one_method_file_and_time(api: Any) -> None:
    record = upload(api, b"secret")
    other = api.client.post("/files", json={"files": [{"filename": "o"}]}).json()["data"][0]
    get = record["uri"]
    tampered = [
        re.sub("signature=.", lambda match: "signature=" + ("0" if match[0][-1] != "0" else "1"), get),
        re.sub(r"expires=\d", "expires=9", get),
        get.replace(record["id"], other["id"]),
        get.partition("?")[0],
        get.partition("?")[0] + "?expires=99999999999",
        record["upload_url"],
    ]
    assert [httpx2.get(url, trust_env=False).status_code for url in tampered] == [403] * 6
    assert httpx2.put(get, content=b"x", trust_env=False).status_code == 403
    assert httpx2.put(other["upload_url"].partition("?")[0], content=b"x", trust_env=False).status_code == 403
    assert api.client.get(f"/files/{other['id']}").json()["data"]["ready"] is False


def test_content_is_written_once_and_as_announced(api: Any) -> None:
    record = upload(api, b"first")
    again = httpx2.put(record["upload_url"], content=b"first", trust_env=False)
    other = httpx2.put(record["upload_url"], content=b"other", trust_env=False)
    assert (again.status_code, other.status_code) == (200, 409)
    short = api.client.post("/files", json={"files": [{"size": 10}]}).json()["data"][0]
    assert httpx2.put(short["upload_url"], content=b"12345", trust_env=False).status_code == 400
    assert httpx2.put(short["upload_url"], content=b"1234567890", trust_env=False).status_code == 200


def test_a_file_over_the_limit_is_refused_before_it_is_read(guarded: Any) -> None:
    client = guarded.client
    assert client.post("/files", json={"files": [{"size": 100_001}]}).status_code == 413
    record = client.post("/files", json={"files": [{}]}).json()["data"][0]

    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield bytes(10_000)

    for content in (bytes(100_001), endless()):
        with contextlib.suppress(httpx2.TransportError):  # the server may close the connection on the rest
            assert client.put(record["upload_url"], content=content).status_code == 413
    assert client.post("/files", files={"file": ("a", bytes(200_000))}).status_code == 413
    assert client.put(record["upload_url"], content=bytes(100_000)).status_code == 200
    assert list((guarded.data_dir / "files" / "uploads").iterdir()) == []


@pytest.mark.parametrize("body", [{"files": []}, {"files": 5}, {"files": [7]}, {"files": [{"size": -1}]}, {}])
def test_bad_requests_for_files(api: Any, body: dict[str, Any]) -> None:
    assert api.client.post("/files", json=body).status_code == 422


@pytest.mark.parametrize(
    ("size", "status"),
    [
        ("1073741825", 413),
        ("9223372036854775808", 413),
        ("18446744073709551615", 413),
        ("18446744073709551616", 422),
        ("1" + "0" * 400, 400),
        ("-1", 422),
        ("-9223372036854775809", 422),
        ("1e400", 400),
        ("NaN", 400),
        ("1e3", 422),
        ("true", 422),
    ],
)
def test_an_announced_size_is_one_that_a_file_may_have(api: Any, size: str, status: int) -> None:
    before = {record["id"] for record in api.client.get("/files").json()["data"]["items"]}
    body = b'{"files": [{"filename": "good"}, {"size": %s}]}' % size.encode()
    answer = api.client.post("/files", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    if status != 400:
        assert "files[1]" in answer.json()["error"]["message"]
    assert {record["id"] for record in api.client.get("/files").json()["data"]["items"]} == before


def test_markup_is_never_shown_in_place(api: Any) -> None:
    for name, kind in (("a.html", "text/html"), ("a.svg", "image/svg+xml")):
        content = b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>"
        record = upload(api, content, filename=name, content_type=kind)
        answer = api.client.get(record["uri"])
        assert answer.headers["content-disposition"].startswith("attachment")
        assert "sandbox" in answer.headers["content-security-policy"]


def test_an_app_reads_and_writes_files_of_the_server(api: Any) -> None:
    content = os.urandom(5000)
    record = upload(api, content, filename="in put.dat")
    ended = api.ended(api.run("test/kit", {"do": "file", "file": record["uri"]})["id"])
    assert ended["status"] == 9, ended["error"]
    assert ended["output"]["count"] == 5000
    assert ended["output"]["text"] == "in put.dat"
    assert httpx2.get(ended["output"]["file"], trust_env=False).content == content[::-1]
    made = api.client.get(f"/tasks/{ended['id']}/files").json()["data"]
    assert [file["filename"] for file in made] == ["out.bin"]
    chained = api.ended(api.run("test/kit", {"do": "file", "file": ended["output"]["file"]})["id"])
    assert httpx2.get(chained["output"]["file"], trust_env=False).content == content
    assert api.client.delete(f"/tasks/{ended['id']}").status_code == 200
    assert httpx2.get(ended["output"]["file"], trust_env=False).content == content[::-1]  # the other task's input
    assert api.client.delete(f"/tasks/{chained['id']}").status_code == 200
    for task in (ended, chained):
        assert httpx2.get(task["output"]["file"], trust_env=False).status_code == 404
    assert httpx2.get(record["uri"], trust_env=False).content == content  # what was uploaded is its owner's


def test_the_payload_of_a_service_is_kept_for_its_task_alone(api: Any) -> None:
    api.deploy("reader", READER, manifest="service: reading\n")
    body = {"service": "reading", "payload": base64.b64encode(b"\x00bytes").decode(), "metadata": {"seconds": "1.5"}}

    def payloads() -> list[dict[str, Any]]:
        return [file for file in api.client.get("/files").json()["data"]["items"] if "payload" in file["filename"]]

    with ThreadPoolExecutor(1) as others, httpx2.Client(base_url=api.url, timeout=60, trust_env=False) as client:
        answer = others.submit(client.post, "/v1/infer?decode=1", json=body)
        while not (found := payloads()) and not answer.done():
            time.sleep(0.02)
        assert [file["expires_at"] is not None for file in found] == [True]  # also if nobody comes to remove it
        assert answer.result().json()["data"]["result_json"]["size"] == 6
    assert payloads() == []


READER = """
import asyncio
from pathlib import Path

from infsh import BaseApp, BaseAppInput, BaseAppOutput, File

class AppInput(BaseAppInput):
    document: File
    seconds: float = 0

class AppOutput(BaseAppOutput):
    size: int

class App(BaseApp):
    async def run(self, given: AppInput) -> AppOutput:
        await asyncio.sleep(given.seconds)
        return AppOutput(size=Path(given.document.path).stat().st_size)
"""


def test_a_file_that_is_not_there_is_said_before_the_task(api: Any) -> None:
    record = api.client.post("/files", json={"files": [{"filename": "a"}]}).json()["data"][0]
    for uri in (record["uri"], record["uri"].replace(record["id"], "a" * 26)):
        answer = api.client.post("/run", json={"app": "test/kit", "input": {"file": uri}})
        assert answer.status_code == 422
        assert "input.file" in answer.json()["error"]["message"]


ECHO = """
from typing import Any

from infsh import BaseApp, BaseAppInput, BaseAppOutput, File

class AppInput(BaseAppInput):
    file: File | None = None
    data: Any = None
    text: str = ""

class AppOutput(BaseAppOutput):
    file: File | None = None
    data: Any = None

class App(BaseApp):
    async def run(self, given: AppInput) -> AppOutput:
        file = File(given.text) if given.text else given.file
        yield AppOutput(data=given.data)
        yield AppOutput(file=file, data=given.data)
"""


@pytest.fixture(scope="module")
def guarded(serve_module: Any, make_api: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that fetches from no private address and takes only small files, with an app that echoes."""
    inputs = tmp_path_factory.mktemp("inputs")
    limits = {"app_memory": 512 * 1024**2, "app_workers": 1, "file_max_bytes": 100_000}
    server = serve_module(app_input_dirs=str(inputs), **limits, **dict.fromkeys(MODELS, "none"))
    api = make_api(server.client)
    api.inputs = inputs
    api.data_dir = server.data_dir
    api.deploy("echo", ECHO, manifest="service: echoing\n")
    return api


MODELS = ("age_model", "gender_model", "mask_model", "image_model", "text_model")


def secrets_of(api: Any) -> list[str]:
    return [str(api.data_dir / name) for name in ("secrets/webhooks.key", "secrets/files.key", "mien.db")]


@pytest.mark.full
def test_a_caller_names_files_in_the_operators_directories_by_path(guarded: Any) -> None:
    path = guarded.inputs / "a b.txt"
    path.write_text("shared")
    for file in (str(path), path.as_uri(), {"path": str(path)}):
        ended = guarded.ended(guarded.run("test/echo", {"file": file})["id"])
        assert ended["status_name"] == "completed", ended["error"]
        assert httpx2.get(ended["output"]["file"], trust_env=False).text == "shared"
    (guarded.inputs / "link").symlink_to(secrets_of(guarded)[0])
    for name, code in (("link", "source_refused"), ("gone", "source_not_found")):
        ended = guarded.ended(guarded.run("test/echo", {"file": str(guarded.inputs / name)})["id"])
        assert (ended["status"], ended["error_code"]) == (10, code)
    path.unlink()
    (guarded.inputs / "link").unlink()


@pytest.mark.full
def test_what_a_run_takes_in_and_gives_out_counts_into_the_owners_bytes(guarded: Any) -> None:
    path = guarded.inputs / "large.bin"
    path.write_bytes(bytes(5000))
    used = sum(item["size"] for item in guarded.client.get("/files").json()["data"]["items"])
    FileOwnerStore(guarded.data_dir).set("default", {"file_bytes": used + 4000})
    try:
        for file, words in ((str(path), "`file` is not available"), (f"data:;base64,{'AAAA' * 1500}", "this request")):
            ended = guarded.ended(guarded.run("test/echo", {"file": file})["id"])
            assert (ended["status"], ended["error_code"]) == (10, "quota_exceeded"), ended["error"]
            assert f"the owner 'default' may have {used + 4000} and has {used}" in ended["error"]
            assert words in ended["error"]
    finally:
        FileOwnerStore(guarded.data_dir).reset("default")


def test_a_caller_names_no_file_of_the_server(guarded: Any) -> None:
    stored = [item["id"] for item in guarded.client.get("/files").json()["data"]["items"]]
    for path in ("/etc/passwd", *secrets_of(guarded)):
        for file in (path, f"file://{path}", f"../../../../..{path}", {"path": path}, {"uri": path}):
            ended = guarded.ended(guarded.run("test/echo", {"file": file})["id"])
            assert (ended["status"], ended["output"]) == (10, None)
            words = "paths are not accepted, except below the directories in the server's MIEN_APP_INPUT_DIRS"
            assert words in ended["error"]
        body = {"service": "echoing", "metadata": {"file": path}, "payload": ""}
        assert "paths are not accepted" in guarded.client.post("/v1/infer", json=body).text
    assert [item["id"] for item in guarded.client.get("/files").json()["data"]["items"]] == stored


def test_a_marker_that_an_app_passes_on_is_data(guarded: Any) -> None:
    for path in ("/etc/passwd", *secrets_of(guarded)):
        data = {"a": {"$file": {"path": path}}, "b": [{"$file": {"path": path}}], "$file": {"path": path}}
        ended = guarded.ended(guarded.run("test/echo", {"data": data})["id"])
        assert ended["output"]["data"] == data
        assert guarded.client.get(f"/tasks/{ended['id']}/files").json()["data"] == []


@pytest.mark.full
def test_an_app_that_makes_files_of_texts_gives_away_none_of_the_servers(guarded: Any) -> None:
    for path in secrets_of(guarded):
        ended = guarded.ended(guarded.run("test/echo", {"text": path})["id"])
        assert "belongs to the server" in ended["error"]
        assert guarded.client.get(f"/tasks/{ended['id']}/files").json()["data"] == []


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f000001", "0", "[::1]", "localhost", "10.0.0.1"])
@pytest.mark.full
def test_a_caller_leads_an_app_to_no_private_address(guarded: Any, host: str) -> None:
    url = f"http://{host}:{guarded.client.base_url.port}/metrics"
    ended = guarded.ended(guarded.run("test/echo", {"file": url})["id"])
    assert "not on the public internet" in ended["error"]


@pytest.mark.full
def test_the_servers_own_files_are_known_under_all_its_names(guarded: Any) -> None:
    record = upload(guarded, b"mine", filename="a.txt", content_type="text/plain")
    known = {key: record[key] for key in ("id", "uri", "filename", "content_type", "size")}
    given = [record["uri"], known, {"uri": record["uri"], "path": "/home/sender/a.txt"}]
    given += [record["uri"].replace("127.0.0.1", name) for name in ("localhost", "[::1]", "faces.example")]
    for file in given:
        ended = guarded.ended(guarded.run("test/echo", {"file": file})["id"])
        assert httpx2.get(ended["output"]["file"], trust_env=False).content == b"mine"
        body = {"service": "echoing", "payload_mime": "application/json",
                "payload": base64.b64encode(json.dumps({"file": file}).encode()).decode()}  # fmt: skip
        answer = guarded.client.post("/v1/infer?decode=1", json=body).json()["data"]["result_json"]
        assert httpx2.get(answer["file"], trust_env=False).content == b"mine"
    tampered = record["uri"].replace("127.0.0.1", "10.0.0.1")[:-1] + "x"
    assert guarded.ended(guarded.run("test/echo", {"file": tampered})["id"])["status"] == 10
    ended = guarded.ended(guarded.run("test/echo", {"file": "data:,hello"})["id"])
    assert httpx2.get(ended["output"]["file"], trust_env=False).content == b"hello"
