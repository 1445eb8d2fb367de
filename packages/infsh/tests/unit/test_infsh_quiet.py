"""Requests of our own leave no lines in the log of the program, whose own requests do."""

import logging

from infsh._quiet import quiet_requests

HTTP = logging.getLogger("httpx2")


def test_only_our_own_requests_are_not_logged(caplog):
    with caplog.at_level("INFO"):
        with quiet_requests():
            HTTP.info("ours")
            HTTP.warning("a problem of ours")
        HTTP.info("theirs")

    assert caplog.messages == ["a problem of ours", "theirs"]


def test_a_program_may_ask_for_them(caplog):
    with caplog.at_level("INFO", logger="httpx2"), quiet_requests():
        HTTP.info("ours")

    assert caplog.messages == ["ours"]
