"""Presets are profiles of settings that exist; variables of their own win."""

import pytest

from mien.errors import InvalidSettings
from mien.settings import PRESETS, Settings, Variables


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_what_it_says(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("MIEN_PRESET", name)
    variables = Variables()
    assert {key: getattr(variables, key) for key in PRESETS[name]} == PRESETS[name]


def test_variables_and_options_win_over_the_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_PRESET", "brave")
    monkeypatch.setenv("MIEN_CHUNK_THRESHOLD", "77")
    nodes = Settings(node_limit=3).nodes
    assert (nodes.chunk_threshold, nodes.node_limit, nodes.chunk_max_bytes) == (77, 3, 1024 * 1024)


def test_nodes_are_a_list_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_NODES", "10.0.0.1:50051, box.local:50052")
    assert Settings().nodes.nodes == ("10.0.0.1:50051", "box.local:50052")
    monkeypatch.setenv("MIEN_NODES", "10.0.0.1")
    with pytest.raises(InvalidSettings, match="expected host:port"):
        Settings()
