"""The configuration file: what is read from it, what takes precedence, and how mistakes in it are told."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mien.errors import InvalidSettings
from mien.settings import Provenance, Settings

Written = Callable[[str], Path]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Written:
    """Writes the file that MIEN_CONFIG names."""

    def write(text: str) -> Path:
        path = tmp_path / "etc" / "mien.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        monkeypatch.setenv("MIEN_CONFIG", str(path))
        return path

    return write


def problems() -> tuple[str, ...]:
    with pytest.raises(InvalidSettings) as raised:
        Settings()
    return raised.value.problems


def test_every_type_of_value_is_read(written: Written) -> None:
    written(
        """
        preset = "brave"
        [listening]
        port = 9000
        auth = false
        cors_origins = ["https://a.example", "null"]
        drain_seconds = 2
        [models]
        text_model = "none"
        [execution]
        providers = ["cuda", "cpu"]
        [workers.app_secrets]
        TOKEN = "hush"
        [fetching]
        fetch_headers = { A = "b" }
        [nodes]
        nodes = ["10.0.0.1:50051"]
        node_key = "hush"
        [tasks]
        task_keep_days = "none"
        """
    )
    settings = Settings()
    assert (settings.listening.port, settings.listening.auth) == (9000, False)
    assert settings.listening.cors_origins == ("https://a.example", "null")
    assert settings.listening.drain_seconds == 2.0
    assert settings.models.text_model is None
    assert settings.execution.providers == ("cuda", "cpu")
    assert settings.workers.app_secrets["TOKEN"].get_secret_value() == "hush"
    assert settings.fetching.fetch_headers == {"A": "b"}
    assert settings.nodes.nodes == ("10.0.0.1:50051",)
    assert settings.tasks.task_keep_days is None
    assert settings.nodes.node_limit == 50  # of the preset


def test_options_precede_variables_these_the_file_and_that_the_preset(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written('preset = "minimal"\n[nodes]\nnode_limit = 7\nchunk_threshold = 8\n[tasks]\ntask_aging_seconds = 1')
    monkeypatch.setenv("MIEN_CHUNK_THRESHOLD", "9")
    monkeypatch.setenv("MIEN_TASK_PATIENCE", "2")
    settings, provenance = Settings(mdns_scan_seconds=3), Provenance({"mdns_scan_seconds": 3})
    expected = {
        "mdns_scan_seconds": (3, "option"),
        "chunk_threshold": (9, "MIEN_CHUNK_THRESHOLD"),
        "node_limit": (7, f"{path} [nodes]"),
        "node_forget_seconds": (600, "preset minimal"),
        "node_cooldown_max": (120, "default"),
    }
    for name, (value, source) in expected.items():
        assert (getattr(settings.nodes, name), provenance.of(name, "minimal")) == (value, source)
    assert (settings.tasks.task_aging_seconds, provenance.of("task_aging_seconds")) == (2, "MIEN_TASK_PATIENCE")
    assert provenance.of("preset") == str(path)


def test_an_empty_variable_leaves_the_file_its_say(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    written("[listening]\nport = 9000")
    monkeypatch.setenv("MIEN_PORT", "")
    assert Settings().listening.port == 9000
    monkeypatch.setenv("MIEN_PORT", "tcp://10.96.0.7:8080")
    assert Settings().listening.port == 9000


def test_paths_count_from_the_file_s_folder(written: Written, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written('[locations]\ndata_dir = "data"\nimages_root = "~/images"\n[apps]\napp_constraints = "../constraints.txt"')
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    settings = Settings()
    assert settings.locations.data_dir == tmp_path / "etc" / "data"
    assert settings.locations.images_root == tmp_path / "home" / "images"
    assert settings.apps.app_constraints == tmp_path / "etc" / ".." / "constraints.txt"


@pytest.mark.parametrize(("text", "problem"), [
    ("[listening]\nprot = 1", "[listening] prot is not a setting; did you mean port?"),
    ("[models]\nrecognizer = 'a'", "[models] recognizer is not a setting; did you mean recogniser?"),
    ("[listning]\nport = 1", "[listning] is not a section; did you mean [listening]?"),
    ("[listening]\nmax_images = 1", "[listening] max_images belongs to [limits]"),
    ("port = 1", "port belongs to [listening]"),
    ("MIEN_PORT = 1", "MIEN_PORT is not a setting"),
    ("colour = 1", "colour is not a setting"),
    ("presets = 'basic'", "presets is not a setting; did you mean preset?"),
    ("[listening]\npreset = 'basic'", "[listening] preset belongs above the first section"),
    ("listening = 1", "listening is a section: [listening]"),
    ('"" = 1', " is not a setting"),
    ("[listening.port]\na = 1", "[listening] port: Input should be a valid integer"),
    ("[listening]\nport = 65536", "[listening] port: Input should be less than or equal to 65535"),
    ("[listening]\ncors_origins = ['a']", "[listening] cors_origins: expected origins such as"),
    ("[nodes]\nnodes = [1]", "[nodes] nodes.0: Input should be a valid string"),
    ("preset = 'large'", "preset: Input should be 'minimal'"),
    ("[[listening]]\nport = 1", "listening is a section: [listening]"),
])  # fmt: skip
def test_a_mistake_is_told_with_the_file_and_the_key(written: Written, text: str, problem: str) -> None:
    path = written(text)
    assert problems()[0].startswith(f"{path}: {problem}")


@pytest.mark.parametrize("text", ["[listening", "port = ", "a = 1\na = 2", "\udcff", "a = " + "[" * 5000])
def test_a_file_that_is_no_toml_is_told(written: Written, text: str) -> None:
    path = written("")
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    (problem,) = problems()
    assert problem.startswith((f"{path}: not valid TOML: ", f"{path}: nested too deeply"))


def test_a_file_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path):
        monkeypatch.setenv("MIEN_CONFIG", str(path))
        assert problems() == (f"MIEN_CONFIG: there is no file {path}",)


def test_unknown_keys_can_be_let_pass(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    written("unknown = 'warn'\n[listening]\nprot = 1\nport = 9000\n[later]\nnew = 1")
    assert Settings().listening.port == 9000


def test_a_file_in_the_current_folder_is_not_read(
    written: Written, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(written("[listening]\nport = 9000").parent)
    monkeypatch.delenv("MIEN_CONFIG")
    assert Settings().listening.port is None
