from pathlib import Path

import pytest

from mien.apps.mirrors import uv_environment


@pytest.fixture(autouse=True)
def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.apps.mirrors._uv_files", lambda environ: [])


def test_uv_follows_the_configuration_of_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://mirror.test/simple\nextra-index-url =\n  https://a.test\n  https://b.test\n"
    )
    monkeypatch.setattr("mien.apps.mirrors._pip_files", lambda environ: [config])
    found = uv_environment({"PIP_CERT": "/certs.pem"})
    assert found["UV_DEFAULT_INDEX"] == "https://mirror.test/simple"
    assert found["UV_INDEX"] == "https://a.test https://b.test"
    assert found["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert found["SSL_CERT_FILE"] == "/certs.pem"


def test_variables_win_over_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("[install]\nindex-url = https://file.test\n")
    monkeypatch.setattr("mien.apps.mirrors._pip_files", lambda environ: [config])
    assert uv_environment({"PIP_INDEX_URL": "https://variable.test"})["UV_DEFAULT_INDEX"] == "https://variable.test"


def test_the_configuration_of_uv_takes_precedence() -> None:
    assert uv_environment({"UV_DEFAULT_INDEX": "https://uv.test", "PIP_INDEX_URL": "https://pip.test"}) == {}
