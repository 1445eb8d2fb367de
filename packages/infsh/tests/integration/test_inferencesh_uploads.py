"""Files of an input: found, uploaded side by side, each content once, without being held in memory."""

import base64
import hashlib
import io
import os
import sys
import threading
import tracemalloc
from pathlib import Path

import psutil
import pytest

from inferencesh import File, UploadError, UploadFileOptions

MEGABYTE = 2**20


def put(server):
    """The uploaded contents."""
    return sorted(data for path, data in server.files.items() if data)


def test_files_at_any_depth_become_addresses(client, server, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"from a path")
    (tmp_path / "b.png").write_bytes(b"from a text")
    (tmp_path / "c.bin").write_bytes(b"--from an open file")
    with (tmp_path / "c.bin").open("rb") as opened:
        opened.seek(2)
        client.run(
            {
                "app": "a",
                "input": {
                    "path": tmp_path / "a.txt",
                    "list": [{"text": str(tmp_path / "b.png")}, (opened, 1)],
                    "bytes": bytearray(b"from bytes"),
                    "stream": io.BytesIO(b"from a stream"),
                    "uri": "data:text/plain;charset=utf-8;base64," + base64.b64encode(b"from a uri").decode(),
                    "percent": "data:,percent%20encoded",
                    "file": File(path=tmp_path / "a.txt", filename="named.txt"),
                    "words": ["hello", "", "data: nothing", ".", str(tmp_path), "https://x.example/y.png", "a" * 5000],
                },
            },
            wait=False,
        )
        assert opened.tell() == 2

    (run,) = server.runs
    sent = run["input"]
    assert put(server) == [
        b"from a path", b"from a stream", b"from a text", b"from a uri", b"from an open file", b"from bytes",
        b"percent encoded",
    ]  # fmt: skip
    assert sent["words"] == ["hello", "", "data: nothing", ".", str(tmp_path), "https://x.example/y.png", "a" * 5000]
    assert sent["path"] == sent["file"]
    addresses = [sent["path"], sent["list"][0]["text"], sent["list"][1][0], sent["bytes"], sent["stream"], sent["uri"]]
    assert all(address.startswith("https://files.example/") for address in addresses)
    assert len(set(addresses)) == 6
    assert sent["list"][1][1] == 1


def test_identical_content_is_uploaded_once(client, server, tmp_path):
    names = [tmp_path / f"{number}.bin" for number in range(5)]
    for name in names:
        name.write_bytes(b"the same")

    client.run({"app": "a", "input": [*names, b"the same", b"not same"]}, wait=False)

    assert put(server) == [b"not same", b"the same"]
    assert len(set(server.runs[0]["input"])) == 2


def test_the_same_bytes_under_other_types_are_other_files(client, server):
    first, second = File("data:text/plain,abc"), File("data:text/html,abc")

    client.run({"app": "a", "input": [first, second, b"abc"]}, wait=False)

    assert put(server) == [b"abc", b"abc"]
    one, two, three = server.runs[0]["input"]
    assert one != two
    assert three == one


def test_what_looks_like_base64_stays_unless_asked(client, client_factory, server):
    text = base64.b64encode(b"sixteen or more bytes").decode()
    md5 = hashlib.md5(b"", usedforsecurity=False).hexdigest()

    client.run({"app": "a", "input": [text, md5]}, wait=False)
    client.run({"app": "a", "input": text}, wait=False, upload_base64=True)
    client_factory(base_url=server.url, upload_base64=True).upload_file(text)

    assert server.runs[0]["input"] == [text, md5]
    assert server.runs[1]["input"].startswith("https://files.example/")
    assert put(server) == [b"sixteen or more bytes"] * 2


def test_texts_that_name_files_can_be_left_alone(client, client_factory, server, tmp_path):
    path = tmp_path / "name"
    path.write_text("content")

    client.run({"app": "a", "input": str(path)}, wait=False, upload_paths=False)
    client_factory(base_url=server.url, upload_paths=False).run({"app": "a", "input": [str(path)]}, wait=False)

    assert [run["input"] for run in server.runs] == [str(path), [str(path)]]
    assert put(server) == []


def test_of_a_setup_only_file_objects_go_up(client, server, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"weights")

    client.run({"app": "a", "setup": {"model": str(path), "uri": "data:,x", "file": File(path=path)}}, wait=False)

    setup = server.runs[0]["setup"]
    assert (setup["model"], setup["uri"]) == (str(path), "data:,x")
    assert setup["file"].startswith("https://files.example/")


def test_a_file_that_lies_elsewhere_is_named_and_not_fetched(client, server):
    client.run({"app": "a", "input": File("https://images.invalid/a.png")}, wait=False)

    assert server.runs[0]["input"] == "https://images.invalid/a.png"
    assert put(server) == []


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (Path("/no/such/file"), UploadError, "/no/such/file: cannot be read: No such file"),
        (Path("/"), UploadError, "/ is not a file"),
        (File(path="/no/such/file"), UploadError, "No such file"),
        ({"a": [object()]}, TypeError, r"input.a\[0\] is a object"),
        (float("nan"), ValueError, "not JSON compliant"),
        ("data:;base64,***", UploadError, "not valid base64"),
    ],
)
def test_what_cannot_go_up_is_named_before_anything_is_sent(client, server, value, kind, message):
    with pytest.raises(kind, match=message):
        client.run({"app": "a", "input": value})
    assert server.runs == []


def test_an_input_that_contains_itself_ends(client):
    value = []
    value.append(value)
    with pytest.raises(ValueError, match="contains itself"):
        client.run({"app": "a", "input": value})


def test_upload_file_takes_a_path_bytes_and_options(client, server, tmp_path):
    (tmp_path / "image.png").write_bytes(b"image")
    options = UploadFileOptions(filename="custom.webp", public=True)

    by_path = client.upload_file(str(tmp_path / "image.png"))
    named = client.upload_file(tmp_path / "image.png", options)
    plain = client.upload_file(b"raw", UploadFileOptions("data.bin", "application/x-thing", "here/data.bin"))

    assert (by_path["filename"], by_path["content_type"], by_path["size"]) == ("image.png", "image/png", 5)
    assert (named["filename"], named["content_type"], named["public"]) == ("custom.webp", "image/png", True)
    assert (plain["filename"], plain["content_type"], plain["path"]) == (
        "data.bin",
        "application/x-thing",
        "here/data.bin",
    )
    assert by_path["stored"] == 5
    assert options == UploadFileOptions(filename="custom.webp", public=True)
    for seen in server.seen:
        assert ("authorization" in seen.headers) == (seen.method == "POST")


def test_a_text_that_is_not_a_file_is_rejected(client):
    with pytest.raises(UploadError, match=r"'no/such\.png' is neither a file nor a data: URI"):
        client.upload_file("no/such.png")


@pytest.mark.parametrize("after", [0, 40])
def test_an_upload_that_breaks_is_sent_again(client, server, fault, tmp_path, after):
    (tmp_path / "a").write_bytes(b"a" * 500_000)
    server.hits = lambda seen: seen.method == "PUT"
    server.faults = [fault(after=after), fault(status=503)]

    client.upload_file(tmp_path / "a")

    assert put(server) == [b"a" * 500_000]
    assert len([seen for seen in server.seen if seen.method == "PUT"]) == 3


def test_a_stream_without_positions_is_sent_again_as_well(client, server, fault):
    reading, writing = os.pipe()
    threading.Thread(target=lambda: (os.write(writing, b"piped"), os.close(writing))).start()
    server.hits = lambda seen: seen.method == "PUT"
    server.faults = [fault(after=0)]

    with os.fdopen(reading, "rb") as pipe:
        client.upload_file(pipe)

    assert put(server) == [b"piped"]


def test_an_upload_that_is_refused_is_an_upload_error(client, server, fault):
    server.hits = lambda seen: seen.method == "PUT"
    server.faults = [fault(status=413)]

    with pytest.raises(UploadError, match="was rejected: HTTP 413"):
        client.upload_file(b"x")


def test_a_record_without_an_address_is_an_upload_error(client, server):
    server.replies = {"/files": [{"uri": "x"}]}

    with pytest.raises(UploadError, match="lacks uri or upload_url"):
        client.upload_file(b"x")


def test_uploads_run_side_by_side(client, client_factory, server):
    server.put_delay = 0.4
    contents = [b"%d" % number for number in range(8)]

    client.run({"app": "a", "input": contents}, wait=False)
    assert server.most_busy == 4
    assert put(server) == contents
    assert len(server.of("POST", "/files")) == 1

    server.most_busy = 0
    client_factory(base_url=server.url, upload_concurrency=1).run({"app": "a", "input": contents[:3]}, wait=False)
    assert server.most_busy == 1


def test_a_large_file_passes_through_little_memory(client, server, tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(20 * MEGABYTE)
    server.keep_content = False

    tracemalloc.start()
    try:
        record = client.upload_file(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert record["stored"] == 20 * MEGABYTE
    assert peak < 6 * MEGABYTE


@pytest.mark.soak
def test_200_mb_pass_through_flat_memory(client, server, tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(MEGABYTE))
    server.keep_content = False
    client.upload_file(b"warm")
    process, peak, done = psutil.Process(), 0, threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    before = process.memory_info().rss
    watcher.start()
    try:
        client.upload_file(path)
    finally:
        done.set()
        watcher.join()
    sys.stderr.write(f"200 MB: {(peak - before) / 1e6:.1f} MB more memory\n")
    assert peak - before < 16 * MEGABYTE
