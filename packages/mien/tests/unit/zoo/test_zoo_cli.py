"""`mien models …` from the outside: lines, exit codes, one sentence per error."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mien.cli.main import app

MANIFEST = """
name = "mine"
task = "face_recognition"
family = "arcface"
title = "My model"
licence = "research"
credit = "me"
non_commercial = true
sets = ["ours"]
[source]
kind = "file"
path = "{path}"
"""


@pytest.fixture
def mien(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mine.onnx").write_bytes(b"weights")
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "mine.toml").write_text(MANIFEST.format(path=(tmp_path / "mine.onnx").as_posix()))
    monkeypatch.setenv("MIEN_MANIFESTS_DIR", str(tmp_path / "manifests"))
    monkeypatch.setenv("MIEN_CACHE_DIR", str(tmp_path / "cache"))
    return lambda *words: CliRunner().invoke(app, ["models", *words])


def test_a_set_is_pulled_after_consent_and_then_verified_located_and_described(mien, tmp_path):
    assert mien("pull", "ours").exit_code == 1
    assert mien("pull", "ours", "--accept-non-commercial").stdout == "mine  ready  7 bytes\n"
    assert mien("verify").stdout.splitlines() == [
        "fr_feature  ready  4.8 MB", "mine  ready  7 bytes", "yunet  ready  231.0 kB",
    ]  # fmt: skip
    assert Path(mien("path", "mine").stdout.strip()).read_bytes() == b"weights"
    assert "My model" in mien("info", "mine").stdout
    assert "7 bytes" in mien("list").stdout


def test_refused_consent_says_what_to_type(mien):
    result = mien("pull", "mine")
    assert result.exit_code == 1
    assert "mien models pull mine --accept-non-commercial" in result.stderr
    assert "Traceback" not in result.output


def test_a_damaged_file_fails_verification(mien):
    mien("pull", "mine", "--accept-non-commercial")
    Path(mien("path", "mine").stdout.strip()).write_bytes(b"wEights")
    result = mien("verify", "mine")
    assert result.exit_code == 1
    assert "mien models pull mine --force" in result.stderr
    assert mien("pull", "mine", "--force").exit_code == 0
    assert mien("verify").exit_code == 0


@pytest.mark.parametrize("words", [("pull", "nothing"), ("path", "nothing"), ("info", "nothing"), ("path", "mine")])
def test_what_is_not_here_is_one_sentence_and_exit_code_1(mien, words):
    result = mien(*words)
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
