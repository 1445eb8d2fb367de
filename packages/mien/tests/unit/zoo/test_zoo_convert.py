"""Conversion refuses what it cannot convert, in words."""

import subprocess
import sys
from pathlib import Path

import pytest
from onnx import helper, save

from mien.errors import ModelCorrupt, ModelUnavailable
from mien.zoo.convert import RECIPES, convert
from mien.zoo.convert.graph import floats


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("content", [b"", b"no model at all"])
def test_a_file_of_another_kind_is_refused_and_nothing_is_written(tmp_path: Path, recipe: str, content: bytes) -> None:
    (tmp_path / "source").write_bytes(content)
    with pytest.raises(ModelCorrupt):
        convert(recipe, tmp_path / "source", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("recipe", ["yunet", "centerface"])
def test_another_onnx_model_is_refused(tmp_path: Path, recipe: str) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = helper.make_graph([node], "g", [floats("x", ["N", 3])], [floats("y", ["N", 3])])
    save(helper.make_model(graph), str(tmp_path / "source"))
    with pytest.raises(ModelCorrupt, match=recipe):
        convert(recipe, tmp_path / "source", tmp_path / "model.onnx")


@pytest.mark.parametrize(("recipe", "library"), [("sface", "onnx"), ("keras_mask", "h5py")])
def test_without_the_libraries_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, library: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("mien.zoo.convert.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModelUnavailable, match=r"pip install 'mien\[convert\]'"):
        convert(recipe, tmp_path / "source", tmp_path / "model.onnx")


def test_locating_models_imports_neither_onnx_nor_h5py() -> None:
    code = "import sys, mien.zoo.zoo; sys.exit(bool({'onnx', 'h5py'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
