"""Apps whose requirements clash with the server's, and with each other's, through HTTP."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

VERSIONS = {"older": "7.1.2", "old": "8.0.4"}
TELLING = """
import click

from infsh import BaseApp, BaseAppInput, BaseAppOutput

class AppInput(BaseAppInput):
    styled: str

class AppOutput(BaseAppOutput):
    version: str
    path: str
    plain: str

class App(BaseApp):
    async def run(self, given: AppInput) -> AppOutput:
        return AppOutput(version=click.__version__, path=click.__file__, plain=click.unstyle(given.styled))
"""


def of_the_server() -> list[str]:
    """The version that the server's interpreter has, and where it is."""
    code = "import click, importlib.metadata as m; print(m.version('click'), click.__file__)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def told(api: Any, app: str) -> dict[str, str]:
    ended = api.ended(api.run(f"test/{app}", {"styled": "\x1b[31mred\x1b[0m"})["id"])
    assert ended["status"] == 9, ended["error"]
    output: dict[str, str] = ended["output"]
    assert output["plain"] == "red"
    return output


@pytest.mark.limit(300)
def test_each_app_has_its_own_version_of_what_the_server_has_too(api: Any) -> None:
    before = of_the_server()
    assert before[0] not in VERSIONS.values()
    for app, version in VERSIONS.items():
        api.deploy(app, TELLING, **{"requirements.txt": f"click=={version}\n"})
        assert told(api, app)["version"] == version
    outputs = [told(api, app) for app in VERSIONS]  # both workers are warm now, beside each other
    assert [output["version"] for output in outputs] == list(VERSIONS.values())
    assert len({output["path"] for output in outputs} | {before[1]}) == 3
    assert Path(before[1]).is_relative_to(sys.prefix)
    assert not [output for output in outputs if Path(output["path"]).is_relative_to(sys.prefix)]
    assert of_the_server() == before
    assert told(api, "older")["version"] == VERSIONS["older"]


def test_requirements_that_contradict_themselves_are_refused_in_the_resolvers_words(api: Any) -> None:
    files = {"requirements.txt": "click==7.1.2\nclick==8.0.4\n"}
    answer = api.client.post("/apps", content=api.packed("torn", TELLING, **files), timeout=120)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "environment_failed")
    assert "click" in answer.json()["error"]["message"]
    assert api.client.post("/run", json={"app": "test/torn", "input": {}}).status_code == 404
