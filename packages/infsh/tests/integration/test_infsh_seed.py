"""The samples that described this SDK, executed as they were written."""

import re
from pathlib import Path

import pytest

from infsh import File
from infsh._kernel.loader import load_app
from infsh._kernel.protocol import Done, Unload

SAMPLES = re.findall(r"```python\n(.*?)```", Path(__file__).with_name("seed_app_samples.md").read_text(), re.DOTALL)
FILES, APP = SAMPLES


def test_the_file_sample(capsys):
    names = {}
    exec(FILES, names)  # noqa: S102
    assert names["exists"] is False
    assert isinstance(names["file"], File)
    assert capsys.readouterr().out == "None\nNone\nNone\n"


def test_the_file_sample_with_a_file(tmp_path, capsys):
    (tmp_path / "file.png").write_bytes(b"12345")
    names = {}
    exec(FILES.replace("/path/to/file.png", str(tmp_path / "file.png")), names)  # noqa: S102
    assert names["exists"] is True
    assert capsys.readouterr().out == "image/png\n5\nfile.png\n"


async def test_the_app_sample_in_a_worker(app_folder, start_worker):
    worker = await start_worker(app_folder(APP, imports=""))
    done = await worker.run({"image": "https://example.com/a.png", "mask": "b"})
    assert isinstance(done, Done)
    image = done.output["image"]
    assert image.get("$file", image)["path"] == "/tmp/result.png"
    await worker.send(Unload())
    assert await worker.process.wait() == 0


def test_the_app_sample_has_schemas_in_order(app_folder, restored_imports):
    schemas = load_app(app_folder(APP, imports="")).schemas()["functions"]["run"]
    assert list(schemas["input_schema"]["properties"]) == ["image", "mask"]
    assert list(schemas["output_schema"]["properties"]) == ["image", "output_meta"]


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_samples_are_python(sample):
    compile(sample, "sample", "exec")
