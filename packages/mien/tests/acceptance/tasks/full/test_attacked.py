"""The part of the attack (tests/attack) that takes seconds; all of it, with its price, is in tests/soak."""

from typing import Any

from packages.mien.tests.attack import access, answers
from packages.mien.tests.attack.stage import Trial


def test_no_operation_is_open_to_a_page_of_another_origin(api: Any) -> None:
    trial = Trial("web pages")
    access.every_operation(trial, api.client, access.FOREIGN[-4:-2], ("", "text/plain"), {})
    assert trial.broken == []
    assert trial.tried > 200


def test_odd_values_of_tasks_are_refused_or_shown_by_every_listing(api: Any) -> None:
    trial = Trial("poison")
    answers.odd_fields(trial, api.client)
    assert trial.broken == []
    assert trial.tried > 200


def test_the_document_of_a_running_server_is_what_generators_need(api: Any) -> None:
    trial = Trial("document")
    answers.described(trial, api.client.get("/openapi.json").json())
    assert trial.broken == []
