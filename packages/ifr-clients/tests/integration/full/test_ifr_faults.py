"""What goes wrong between client and server, for both clients."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import format_datetime, localtime

import httpx2
import pytest

from ifr_clients import IFRConnectionError, IFRError, IFRRejected, IFRResponseInvalid, IFRTimeout

FINE = {"took": {"total_ms": 0.1}, "data": [{"status": "success", "took_ms": 0.1, "faces": []}]}


def test_a_connection_that_is_cut_in_the_answer_is_tried_again(scripted, reply, client_factory):
    scripted.script = [reply(FINE, cut=True), reply(FINE)]

    assert client_factory(scripted.host).extract(["a.jpg"]) == FINE
    assert len(scripted.seen) == 2


def test_a_connection_that_is_always_cut_is_a_connection_error(scripted, reply, client_factory):
    scripted.otherwise = reply(FINE, cut=True)

    with pytest.raises(IFRConnectionError, match="the connection broke"):
        client_factory(scripted.host, retries=1).extract(["a.jpg"])

    assert len(scripted.seen) == 2


def test_no_server_is_a_connection_error_that_names_the_address(client_factory):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        with pytest.raises(IFRConnectionError, match=rf"127\.0\.0\.1:{port}/extract: cannot connect"):
            client_factory("http://127.0.0.1", port, retries=1).extract([])


def test_a_server_that_comes_back_is_found_again_in_the_same_call(reply, client_factory, scripted_factory):
    first = scripted_factory()
    client = client_factory(first.host)
    assert client.extract([])["data"] == []
    client.close()  # the old server would still answer on an open connection
    port = first.server.server_address[1]
    first.server.shutdown()
    first.server.server_close()

    with ThreadPoolExecutor(1) as later:
        restarted = later.submit(lambda: time.sleep(0.5) or scripted_factory(port=port))
        assert client.extract(["a.jpg"])["data"] == []

    assert [seen.path for seen in restarted.result().seen] == ["/extract"]


def test_requests_leave_no_lines_in_the_log_of_the_program(scripted, client_factory, caplog):
    with caplog.at_level("INFO"):
        client_factory(scripted.host).extract([])
        assert caplog.messages == []
        httpx2.get(scripted.host + "/info")  # the program's own

    assert len([message for message in caplog.messages if message.startswith("HTTP Request: GET")]) == 1


def test_requests_are_logged_where_the_program_wants_it(scripted, client_factory, caplog):
    with caplog.at_level("INFO", logger="httpx2"):
        client_factory(scripted.host).extract([])

    assert len(caplog.messages) == 1


def test_a_name_that_does_not_resolve_is_a_connection_error(client_factory):
    with pytest.raises(IFRConnectionError, match="cannot connect"):
        client_factory("http://no-such-host.invalid", retries=0).health()


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_busy_server_is_asked_again_when_it_says(scripted, reply, client_factory, status):
    scripted.script = [reply({"detail": "busy"}, status, {"Retry-After": "1"}), reply(FINE)]
    started = time.monotonic()

    assert client_factory(scripted.host).extract(["a.jpg"]) == FINE
    assert 1 <= time.monotonic() - started < 10


def test_a_busy_server_may_say_when_by_date(scripted, reply, client_factory):
    at_once = {"Retry-After": format_datetime(localtime())}
    scripted.script = [reply({}, 503, at_once), reply(FINE)]

    assert client_factory(scripted.host).extract(["a.jpg"]) == FINE


def test_a_server_that_stays_busy_is_the_last_refusal(scripted, reply, client_factory):
    scripted.otherwise = reply({"error": {"code": "overloaded", "message": "full"}}, 429, {"Retry-After": "0"})

    with pytest.raises(IFRRejected) as caught:
        client_factory(scripted.host, retries=2).extract(["a.jpg"])

    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (429, "overloaded", 0)
    assert len(scripted.seen) == 3


def test_a_wait_that_the_timeout_does_not_allow_is_not_begun(scripted, reply, client_factory):
    scripted.otherwise = reply({}, 503, {"Retry-After": "30"})
    started = time.monotonic()

    with pytest.raises(IFRRejected):
        client_factory(scripted.host).extract(["a.jpg"], timeout=5)

    assert time.monotonic() - started < 5
    assert len(scripted.seen) == 1


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 422, 500, 504])
def test_other_statuses_are_raised_at_once(scripted, reply, client_factory, status):
    scripted.otherwise = reply({"detail": "no"}, status, {"Retry-After": "0", "X-Request-Id": "abc"})

    with pytest.raises(IFRRejected) as caught:
        client_factory(scripted.host).extract(["a.jpg"])

    assert (caught.value.status, caught.value.message, caught.value.request_id) == (status, "no", "abc")
    assert len(scripted.seen) == 1


@pytest.mark.parametrize(("status", "code"), [(502, "source_failed"), (503, "model_unavailable")])
def test_a_server_that_says_why_but_not_when_is_not_asked_again(scripted, reply, client_factory, status, code):
    scripted.otherwise = reply({"error": {"code": code, "message": "no"}}, status)

    with pytest.raises(IFRRejected, match=code):
        client_factory(scripted.host).extract(["a.jpg"])

    assert len(scripted.seen) == 1


def test_a_proxy_whose_server_is_restarting_is_asked_again(scripted, reply, client_factory):
    page = reply(b"<title>502 Bad Gateway</title>", 502, {"Content-Type": "text/html"})
    scripted.script = [page, page, reply(b"", 503), reply(FINE)]

    assert client_factory(scripted.host).extract(["a.jpg"]) == FINE


def test_the_page_of_a_proxy_is_read_as_a_sentence(scripted, reply, client_factory):
    page = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><hr>nginx</body></html>"
    scripted.otherwise = reply(page, 502, {"Content-Type": "text/html"})

    with pytest.raises(IFRRejected, match="502 http_502: 502 Bad Gateway nginx"):
        client_factory(scripted.host, retries=0).extract(["a.jpg"])


def test_garbage_in_messagepack_is_an_invalid_response(scripted, reply, client_factory):
    scripted.otherwise = reply(b"\xc1\xff garbage", headers={"Content-Type": "application/x-msgpack"})

    with pytest.raises(IFRResponseInvalid, match=r"application/x-msgpack, 10 bytes\) cannot be parsed"):
        client_factory(scripted.host).extract(["a.jpg"])


def test_a_page_with_status_200_is_an_invalid_response(scripted, reply, client_factory):
    scripted.otherwise = reply(b"<html>please log in</html>", headers={"Content-Type": "text/html"})

    with pytest.raises(IFRResponseInvalid, match="text/html"):
        client_factory(scripted.host).extract(["a.jpg"], raw_response=False)


def test_damaged_compression_is_an_invalid_response(scripted, reply, client_factory):
    scripted.otherwise = reply(b"no gzip", headers={"Content-Encoding": "gzip"})

    with pytest.raises(IFRResponseInvalid, match="compression is corrupt"):
        client_factory(scripted.host).extract(["a.jpg"])


@pytest.mark.parametrize("where", ["constructor", "call"])
def test_a_slow_server_is_a_timeout(scripted, reply, client_factory, where):
    scripted.otherwise = reply(FINE, delay=10)
    client = client_factory(scripted.host, **({"timeout": 0.3} if where == "constructor" else {}))
    started = time.monotonic()

    with pytest.raises(IFRTimeout, match=r"POST http://127\.0\.0\.1:\d+/extract: no complete response within 0\.3 s"):
        client.extract(["a.jpg"], **({"timeout": 0.3} if where == "call" else {}))

    assert time.monotonic() - started < 8
    assert len(scripted.seen) == 1


def test_an_answer_that_drips_is_a_timeout_too(scripted, reply, client_factory):
    scripted.otherwise = reply(FINE, drip=0.3)
    started = time.monotonic()

    with pytest.raises(IFRTimeout):
        client_factory(scripted.host).extract(["a.jpg"], timeout=0.4)

    assert time.monotonic() - started < 5


def test_the_tries_share_one_timeout(scripted, reply, client_factory):
    scripted.otherwise = reply(FINE, cut=True, delay=0.15)
    started = time.monotonic()

    with pytest.raises((IFRTimeout, IFRConnectionError)):
        client_factory(scripted.host, retries=100).extract(["a.jpg"], timeout=1)

    assert time.monotonic() - started < 8


def test_a_client_works_again_after_any_failure(scripted, reply, client_factory):
    client = client_factory(scripted.host, retries=0)
    for bad in (reply(FINE, cut=True), reply(FINE, delay=1), reply({}, 500), reply(b"\xc1")):
        scripted.script = [bad]
        with pytest.raises(IFRError):
            client.extract(["a.jpg"], timeout=0.3)

        assert client.extract(["a.jpg"])["data"] == []


def test_an_infinite_timeout_is_one(scripted, client_factory):
    assert client_factory(scripted.host, timeout=float("inf")).extract([])["data"] == []
