"""Which `MIEN_*` variables mean nothing, and what is suggested instead."""

import pytest

from mien.config.names import is_service_link, unknown_variables
from mien.errors import InvalidSettings
from mien.settings import RENAMED, Settings, Variables

KNOWN = (*Variables.model_fields, *RENAMED)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MIEN_RECOGNIZER", "MIEN_RECOGNISER"),
        ("mien_recognizer", "MIEN_RECOGNISER"),
        ("MIEN_PROT", "MIEN_PORT"),
        ("MIEN_MAX_BODY_SIZE", "MIEN_MAX_BODY_BYTES"),
        ("MIEN_CORS_ORIGIN", "MIEN_CORS_ORIGINS"),
        ("MIEN_APIKEY", "MIEN_API_KEY"),
        ("MIEN_UKNOWN", "MIEN_UNKNOWN"),
        ("MIEN_GRPC_PORTS", "MIEN_GRPC_PORT"),
    ],
)
def test_the_nearest_name_is_suggested(name: str, meant: str) -> None:
    assert unknown_variables({name: "x"}, KNOWN) == [f"{name} is not a setting; did you mean {meant}?"]


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    assert unknown_variables({"MIEN_": "", "MIEN_QQQQQQQQ": "1"}, KNOWN) == [
        "MIEN_ is not a setting", "MIEN_QQQQQQQQ is not a setting",
    ]  # fmt: skip


@pytest.mark.parametrize("name", [
    "MIEN_PORT", "mien_port", "MIEN_TASK_PATIENCE", "MIEN_URL", "MIEN_API_KEY", "MIEN_CONFIG", "MIEN_UNKNOWN",
    "MIENS_PORT", "INFSH_CACHE_DIR", "INFERENCE_API_KEY", "PATH",
])  # fmt: skip
def test_settings_and_what_others_read_are_known(name: str) -> None:
    assert unknown_variables({name: "x"}, KNOWN) == []


SERVICE_LINKS = {
    "MIEN_SERVICE_HOST": "10.96.0.7",
    "MIEN_SERVICE_PORT": "8080",
    "MIEN_SERVICE_PORT_HTTP": "8080",
    "MIEN_PORT": "tcp://10.96.0.7:8080",
    "MIEN_PORT_8080_TCP": "tcp://10.96.0.7:8080",
    "MIEN_PORT_8080_TCP_PROTO": "tcp",
    "MIEN_PORT_8080_TCP_PORT": "8080",
    "MIEN_PORT_8080_TCP_ADDR": "10.96.0.7",
    "MIEN_PORT_53_UDP_ADDR": "10.96.0.7",
    "MIEN_GRPC_PORT": "tcp://10.96.0.8:50051",
    "MIEN_GRPC_SERVICE_HOST": "10.96.0.8",
    "MIEN_FOO_SERVICE_HOST": "10.96.0.9",
    "MIEN_FOO_BAR_SERVICE_PORT_WEB_UI": "80",
    "MIEN_FOO_PORT": "udp://10.96.0.9:53",
    "MIEN_FOO_PORT_80_TCP_ADDR": "10.96.0.9",
}


def test_what_kubernetes_sets_for_services_is_neither_unknown_nor_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [name for name, value in SERVICE_LINKS.items() if not is_service_link(name, value)] == []
    for name, value in SERVICE_LINKS.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.listening.port is None
    assert settings.nodes.grpc_port is None


@pytest.mark.parametrize(("name", "value"), [
    ("MIEN_PORT", "8080"), ("MIEN_GRPC_PORT", "50051"), ("MIEN_FOO_PORT", "80"), ("MIEN_PORT", "http://a:80"),
    ("MIEN_PORT_TCP", "1"), ("MIEN_SERVICE", "1"), ("MIEN_HOST", "tcp://a:80"),
])  # fmt: skip
def test_what_only_looks_like_it_is_no_service_link(name: str, value: str) -> None:
    assert not is_service_link(name, value)


def test_an_unknown_variable_ends_the_start_unless_it_shall_only_be_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_RECOGNIZER", "sface")
    with pytest.raises(InvalidSettings, match=r"did you mean MIEN_RECOGNISER.*MIEN_UNKNOWN=warn"):
        Settings()
    monkeypatch.setenv("MIEN_UNKNOWN", "warn")
    assert Settings().models.recogniser == "fr_feature"
    monkeypatch.setenv("MIEN_UNKNOWN", "ignore")
    with pytest.raises(InvalidSettings, match=r"MIEN_UNKNOWN: Input should be 'refuse' or 'warn'"):
        Settings()


def test_every_problem_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_PROT", "1")
    monkeypatch.setenv("MIEN_PORT", "many")
    monkeypatch.setenv("MIEN_APP_SECRETS", '{"TOKEN": ["hush"]}')
    with pytest.raises(InvalidSettings) as raised:
        Settings(max_images=0)
    assert raised.value.problems == (
        "MIEN_PROT is not a setting; did you mean MIEN_PORT?",
        "MIEN_PORT: Input should be a valid integer, unable to parse string as an integer",
        "max_images: Input should be greater than 0",
        "MIEN_APP_SECRETS.TOKEN: Input should be a valid string",
    )


@pytest.mark.parametrize("text", ["{", "[", "hush", "[" * 10_000, '{"A": hush}'])
def test_a_map_that_is_no_json_is_told_without_its_content(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MIEN_FETCH_HEADERS", text)
    with pytest.raises(InvalidSettings, match=r"^MIEN_FETCH_HEADERS: expected a JSON object") as raised:
        Settings()
    assert "hush" not in str(raised.value)
