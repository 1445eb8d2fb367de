"""Variables of the original server are not read, and whoever has set them is told what to set instead."""

import re
from pathlib import Path

import pytest

from mien.config.original import COMMON, OBSOLETE, PAGE, REPLACEMENTS, original_variables
from mien.settings import Settings, Variables

ROOT = Path(__file__).parents[5]


def test_each_is_told_with_what_takes_its_place() -> None:
    told = "is a variable of InsightFace-REST, which this server does not read: set"
    assert original_variables({"DEF_DET_THRESH": "0.5", "det_name": "scrfd"}) == [
        f"DET_NAME {told} MIEN_DETECTOR; see docs/migrating.md",
        f"DEF_DET_THRESH {told} MIEN_DEFAULT_THRESHOLD; see docs/migrating.md",
    ]
    assert "no use for" in original_variables({"FORCE_FP16": "True"})[0]


def test_common_names_mean_the_original_only_beside_its_own() -> None:
    common = {"PORT": "18080", "LOG_LEVEL": "INFO", "NUM_WORKERS": "6", "MAX_SIZE": "640,640"}
    assert original_variables(common) == []
    assert len(original_variables({**common, "REC_NAME": "glintr100"})) == 5


@pytest.mark.parametrize("environ", [
    {}, {"DEF_DET_THRESH": ""}, {"DEF_DET_THRESH": "0.5", "MIEN_DEFAULT_THRESHOLD": "0.5"}, {"DET_NAMES": "x"},
    {"GA_NAME": "x", "MIEN_AGE_MODEL": "age"},
])  # fmt: skip
def test_nothing_is_told_where_nothing_is_to_do(environ: dict[str, str]) -> None:
    assert original_variables(environ) == []


def test_what_takes_their_place_exists_and_the_page_has_each_in_its_table() -> None:
    table = (ROOT / PAGE).read_text().partition("## Settings")[2].partition("\n## ")[0]
    rows = {
        name: instead
        for names, instead in re.findall(r"^\| ([^|]*)\| ([^|]*)\|", table, re.MULTILINE)
        for name in re.findall(r"`([A-Z0-9_]+)`", names)
    }
    for name, instead in (REPLACEMENTS | COMMON).items():
        for setting in instead.split(" and "):
            assert setting.removeprefix("MIEN_").lower() in Variables.model_fields
            assert f"`{setting}`" in rows[name], name
    assert [name for name in OBSOLETE if name not in rows] == []


def test_the_open_server_of_the_page_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    (sample,) = re.findall(r"^```env\n(.*?)^```", (ROOT / PAGE).read_text(), re.MULTILINE | re.DOTALL)
    for line in sample.splitlines():
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.listening.ports, settings.api.status_words) == ((18081,), "ok")
    assert not settings.listening.auth
    assert settings.listening.cors_origins == ("*",)
