"""Settings come from MIEN_* variables and are validated at startup; errors name the setting."""

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import get_type_hints

import pytest
from pydantic import ValidationError

from mien.errors import InvalidSettings
from mien.settings import Limits, Settings, Variables


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("MIEN_")]:
        monkeypatch.delenv(name)


def test_the_defaults_are_safe() -> None:
    settings = Settings()
    assert settings.listening.host == "127.0.0.1"
    assert settings.locations.images_root is None
    assert settings.fetching.fetch_private is False
    assert settings.listening.auth is True


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
    assert getattr(Variables(), field) == value


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
    with pytest.raises(InvalidSettings, match=field):
        Settings(**{field: value})


@pytest.mark.parametrize(
    "origins",
    ["a.example", "https://a.example/path", "https://a.example:0", "https://a.example:65536", "ftp://a.example",
     "https://", "https://u@a.example", "https://a.example,https://b.example?c", "NULL"],
)  # fmt: skip
def test_what_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(InvalidSettings, match=r"cors_origins: expected origins such as"):
        Settings(cors_origins=origins)


@pytest.mark.parametrize(
    "url",
    ["faces.example", "ftp://faces.example", "https://", "https://:80", "https://a:x", "https://a:65536", "https://a:0",
     "https://a?b", "https://a#b", "https://a b", "https://u:p@a", "https://[::1", "https://a/?", "https://\u00e4"],
)  # fmt: skip
def test_what_is_no_base_of_urls_is_refused(url: str) -> None:
    with pytest.raises(InvalidSettings, match="public_url: expected the URL at which clients reach this server"):
        Settings(public_url=url)
    for good in ("https://faces.example", "http://10.0.0.1:8080/mien/", "http://[::1]:8080"):
        assert Settings(public_url=good).listening.public_url == good


@pytest.mark.parametrize("headers", [{"": "x"}, {"A b": "x"}, {"A:": "x"}, {"A": "hush\r\nB: c"}, {"A": "hush\0"},
                                     {"A": " hush"}, {"A": "h\u00fcsh"}])  # fmt: skip
def test_headers_that_could_not_be_sent_are_refused_without_their_values(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidSettings, match=r"fetch_headers: .* header") as raised:
        Settings(fetch_headers=headers)
    assert "hush" not in str(raised.value)
    with pytest.raises(InvalidSettings, match=r"fetch_headers: .* header") as raised:
        Settings(fetch_headers={"https://a.example": headers})
    assert "hush" not in str(raised.value)
    assert Settings(fetch_headers={"X-Label": "a b\tc", "Empty": ""}).fetching.fetch_headers["Empty"] == ""


@pytest.mark.parametrize(
    "name",
    ["Authorization", "Cookie", "X-Api-Key", "Ocp-Apim-Subscription-Key", "PRIVATE-TOKEN", "X-Auth-User", "apikey",
     "X-Amz-Security-Token", "X-Secret", "X-Goog-Signature"],
)  # fmt: skip
def test_credentials_for_fetched_urls_say_for_which_hosts_they_are(name: str) -> None:
    with pytest.raises(InvalidSettings, match=r"callers choose the hosts that get it\. Say for which origin") as raised:
        Settings(fetch_headers={name: "hush"})
    assert "hush" not in str(raised.value)
    for scope in ("https://images.example", "*"):
        given = {scope: {name: "hush"}, "User-Agent": "archive"}
        assert Settings(fetch_headers=given).fetching.fetch_headers == given


def test_a_credential_is_also_known_by_its_value_and_ordinary_headers_pass() -> None:
    with pytest.raises(InvalidSettings, match="looks like a credential"):
        Settings(fetch_headers={"X-Other": "Bearer hush"})
    for name in ("User-Agent", "Referer", "X-Author", "X-Monkey", "Accept-Language", "Keyboard"):
        assert Settings(fetch_headers={name: "archive"}).fetching.fetch_headers == {name: "archive"}


def test_headers_by_origin_know_the_origin_in_any_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_FETCH_HEADERS", '{"HTTPS://Images.example:443/": {"A": "b"}}')
    assert Settings().fetching.fetch_headers == {"https://images.example": {"A": "b"}}
    for scope in ("images.example", "https://images.example/path", "https://*.example", "ftp://a"):
        with pytest.raises(InvalidSettings, match="expected headers by an origin, such as"):
            Settings(fetch_headers={scope: {"A": "b"}})
    with pytest.raises(InvalidSettings, match="the value of 'A' must be a text"):
        Settings(fetch_headers={"https://images.example": {"A": {"B": "c"}}})


@pytest.mark.parametrize("interfaces", ["bogus", "eth0", "10.0.0", "::1", "10.0.0.1,x"])
def test_interfaces_are_addresses(interfaces: str) -> None:
    with pytest.raises(InvalidSettings, match="mdns_interfaces: expected IPv4 addresses"):
        Settings(mdns_interfaces=interfaces)


def test_origins_are_taken_as_browsers_send_them() -> None:
    given = "HTTPS://A.example/, http://b.example:80, https://c.example:8443, http://[::1]:3000, null, *"
    expected = ("https://a.example", "http://b.example", "https://c.example:8443", "http://[::1]:3000", "null", "*")
    assert Settings(cors_origins=given).listening.cors_origins == expected


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="hots"):
        Settings(hots="0.0.0.0")  # noqa: S104


def test_paths_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    settings = Settings(data_dir="data", images_root="~/images")
    assert settings.locations.data_dir == tmp_path / "data"
    assert settings.locations.images_root == tmp_path / "home" / "images"


def test_the_cache_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Settings().locations.models_dir == tmp_path / "mien" / "models"


def test_every_setting_is_described() -> None:
    assert [name for name, field in Variables.model_fields.items() if not field.description] == []


def test_every_variable_is_in_one_group() -> None:
    groups = get_type_hints(Settings)
    fields = [name for group in groups.values() for name in group.model_fields]
    assert sorted(fields) == sorted(set(Variables.model_fields) - {"preset", "unknown"})


def test_groups_have_what_was_read_and_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_MAX_IMAGES", "3")
    monkeypatch.setenv("MIEN_NODES", "10.0.0.1:50051")
    settings = Settings(max_faces="4", nodes="10.0.0.2:50051")
    assert settings.limits == Limits(max_images=3, max_faces=4)
    assert settings.nodes.nodes == ("10.0.0.2:50051",)
    with pytest.raises(ValidationError):
        settings.limits.max_images = 5
    with pytest.raises(FrozenInstanceError):
        settings.limits = Limits()


def test_a_setting_is_still_read_under_its_former_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_TASK_PATIENCE", "7")
    assert Settings().tasks.task_aging_seconds == 7
    monkeypatch.setenv("MIEN_TASK_AGING_SECONDS", "9")
    assert Settings().tasks.task_aging_seconds == 9
