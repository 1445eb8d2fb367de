"""Schemas that would keep a validator busy for ever do not keep the server busy."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

APP = """
from infsh import BaseApp, BaseAppInput, BaseAppOutput
from pydantic import Field

LEVELS = 40
DEFS = {f"d{n}": {"allOf": 2 * [{"$ref": f"#/$defs/d{n + 1}"}]} for n in range(LEVELS)}
ENDLESS = {"$defs": DEFS | {f"d{LEVELS}": {"type": "object"}}, "allOf": [{"$ref": "#/$defs/d0"}]}


class AppInput(BaseAppInput):
    text: str = Field("", json_schema_extra={"pattern": r"^(\\w+\\s?)*$"})

    @classmethod
    def model_json_schema(cls, *args, **more):
        return super().model_json_schema(*args, **more) | EXTRA


class AppOutput(BaseAppOutput):
    text: str


class App(BaseApp):
    async def run(self, given: AppInput) -> AppOutput:
        return AppOutput(text=given.text[::-1])
"""
AGES = "a" * 60 + "!"
"""A text for which backtracking takes 2 ** 60 steps."""


@pytest.fixture(scope="module")
def exploding(api: Any) -> Any:
    api.deploy("pattern", APP.replace("EXTRA", "{}"))
    api.deploy("endless", APP.replace("EXTRA", "ENDLESS"))
    return api


def runs_beside(api: Any, app: str, given: dict[str, str], runs: int = 3) -> list[Any]:
    """Responses to simultaneous runs; the server answers others in the meantime."""
    with ThreadPoolExecutor(runs) as pool:
        body = {"app": f"test/{app}", "input": given}
        asked = [pool.submit(api.client.post, "/run", json=body, timeout=60) for _ in range(runs)]
        while not all(one.done() for one in asked):
            # bounded, whatever else this machine does: the validation alone has a second per run
            assert api.client.get("/livez", timeout=20).status_code == 200
        return [one.result() for one in asked]


def test_a_pattern_that_backtracks_for_ages_is_decided_while_others_are_answered(exploding: Any) -> None:
    for answer in runs_beside(exploding, "pattern", {"text": AGES}):
        assert answer.status_code == 422
        assert answer.json()["error"]["message"].startswith("input.text: ")
        assert "does not match" in answer.json()["error"]["message"]
    (fits,) = runs_beside(exploding, "pattern", {"text": "two words"}, runs=1)
    assert exploding.ended(fits.json()["data"]["id"])["output"]["text"] == "sdrow owt"


@pytest.mark.full
def test_what_a_schema_does_not_decide_in_time_the_app_decides_while_others_are_answered(exploding: Any) -> None:
    for answer in runs_beside(exploding, "endless", {"text": "two words"}):
        assert answer.status_code == 200, answer.text
        assert exploding.ended(answer.json()["data"]["id"])["output"]["text"] == "sdrow owt"
