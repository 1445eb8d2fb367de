"""Settings come from MIEN_* variables, are checked at start, and say which one is wrong."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from mien.settings import Settings


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("MIEN_")]:
        monkeypatch.delenv(name)


def test_the_defaults_are_safe() -> None:
    settings = Settings()
    assert settings.host == "127.0.0.1"
    assert settings.images_root is None
    assert settings.fetch_private is False
    assert settings.auth is True


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("MIEN_PORT", "9000", "port", 9000),
        ("MIEN_PROVIDERS", "cuda, cpu", "providers", ("cuda", "cpu")),
        ("MIEN_AGE_MODEL", "none", "age_model", None),
        ("MIEN_MASK_MODEL", "None", "mask_model", None),
        ("MIEN_FETCH_HEADERS", '{"A": "b"}', "fetch_headers", {"A": "b"}),
        ("MIEN_STATUS_WORDS", "ok", "status_words", "ok"),
        ("MIEN_BATCH_WAIT_MS", "2.5", "batch_wait_ms", 2.5),
        ("MIEN_PORT", "", "port", None),
        ("MIEN_TASK_KEEP_DAYS", "none", "task_keep_days", None),
        ("MIEN_TASK_KEEP_DAYS", "0.5", "task_keep_days", 0.5),
        ("MIEN_ENVIRONMENT_KEEP_DAYS", "None", "environment_keep_days", None),
    ],
)
def test_variables_are_read(monkeypatch: pytest.MonkeyPatch, name: str, text: str, field: str, value: object) -> None:
    monkeypatch.setenv(name, text)
    assert getattr(Settings(), field) == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", 65536),
        ("port", -1),
        ("max_body_bytes", 0),
        ("request_timeout", 0),
        ("queue_images", 0),
        ("default_threshold", 1.1),
        ("detection_size", 1),
        ("log_level", "loud"),
        ("status_words", "fine"),
        ("threads", 0),
        ("task_keep_days", 0),
        ("environment_keep_days", -1),
        ("lanes", 0),
        ("batch_wait_ms", -1),
        ("fetch_tries", 0),
    ],
)
def test_values_out_of_range_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        Settings(**{field: value})


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="hots"):
        Settings(hots="0.0.0.0")  # noqa: S104


def test_paths_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    settings = Settings(data_dir="data", images_root="~/images")
    assert settings.data_dir == tmp_path / "data"
    assert settings.images_root == tmp_path / "home" / "images"


def test_the_cache_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Settings().models_dir == tmp_path / "mien" / "models"


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
