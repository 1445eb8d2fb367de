"""Every code sample runs as it stands against a running Mien: the original documentation's, and ours."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from inferencesh import Inference, errors

REPOSITORY = Path(__file__).parents[4]
SEED = Path(__file__).with_name("seed_client_samples.md")
PHOTO = REPOSITORY / "packages/mien/tests/photos/person_a_1.jpg"
PARAMS = 'params = {"app": "your-app", "input": {"key": "value"}}\n'
LONG = 'task_id = client.run({"app": "your-app", "input": {"key": "long", "seconds": 30}}, wait=False)["id"]\n'
SHORT = 'task_id = client.run({"app": "your-app", "input": {"key": "short", "seconds": 0.3}}, wait=False)["id"]\n'


def samples(page: Path) -> list[str]:
    """The Python samples of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


USAGE, SETUP, OPTIONS, MANAGEMENT, STATUSES, UPLOAD, ASYNC = samples(SEED)
CLIENT = USAGE.partition("# Simple")[0]
GET, CANCEL, WAIT, STREAM = (
    piece.strip("\n") + "\n" for piece in re.split(r"\n(?=# (?:Cancel|Wait|Stream))", MANAGEMENT)
)

DOCUMENTED = "http://127.0.0.1:8080"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with an image."""
    shutil.copy(PHOTO, tmp_path / "photo.jpg")
    return tmp_path


@pytest.fixture
def run(folder: Path, mien: str) -> Callable[..., str]:
    """What pieces of code print, one after the other in one program. The server is at another port than documented."""

    def start(*pieces: str) -> str:
        program = folder / "program.py"
        program.write_text("\n".join(pieces).replace(DOCUMENTED, mien))
        quiet = ["-W", "error", "-W", "ignore::ResourceWarning"]  # samples leave clients to the garbage collector
        clean = {name: value for name, value in os.environ.items() if not name.startswith("INFERENCE_")}
        done = subprocess.run(
            [sys.executable, *quiet, program.name],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=80,
            check=False,
            env=clean | {"INFERENCE_BASE_URL": mien},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return start


def test_the_client_runs_an_app(run):
    printed = run(USAGE)

    assert re.fullmatch(
        r"Task ID: [0-9a-z]{26}\nOutput: \{.*'text': 'value'.*\}\n",
        re.sub(r"Output: \{(.*)\}", r"Output: {\1}", printed),
    )


def test_with_setup_parameters(run):
    printed = run(CLIENT, SETUP, 'print(result["output"])')

    assert "'text': 'hello'" in printed
    assert "'model': 'schnell'" in printed


def test_run_options(run):
    printed = run(CLIENT, PARAMS, OPTIONS, "print(task_id)").splitlines()

    *statuses, output, task_id = printed
    assert statuses[-1] == "Status: COMPLETED"
    assert set(statuses) <= {f"Status: {name}" for name in NAMES}
    assert output.startswith("Output: {")
    assert re.fullmatch("[0-9a-z]{26}", task_id)


NAMES = ["RECEIVED", "QUEUED", "SCHEDULED", "PREPARING", "SERVING", "SETTING_UP", "RUNNING", "UPLOADING", "COMPLETED"]


def test_a_task_is_looked_at_and_cancelled(run):
    printed = run(
        CLIENT,
        "from inferencesh import TaskCancelled",
        LONG,
        GET,
        CANCEL,
        "try:\n    client.wait_for_completion(task_id)\nexcept TaskCancelled as error:\n    print(str(error)[:45])",
    )

    first, last = printed.splitlines()
    assert first.removeprefix("Status: ") in NAMES
    assert re.match(r"task [0-9a-z]{26} was cancelled", last)


def test_a_task_is_waited_for_and_streamed(run):
    printed = run(CLIENT, SHORT, WAIT, "print(result['output']['text'])", SHORT, STREAM).splitlines()

    assert printed[0] == "short"
    assert "Status: RUNNING" in printed
    assert printed[-3] == "Status: COMPLETED"
    assert printed[-2].startswith("Result: {")
    assert printed[-1].startswith("Final result: {")


def test_the_statuses_have_their_numbers(run):
    numbers = re.findall(r"TaskStatus\.(\w+) +# (\d+)", STATUSES)

    assert len(numbers) == 11
    run(STATUSES, *[f"assert TaskStatus.{name} == {number}" for name, number in numbers])


def test_files_are_uploaded(run, mien):
    # the one path of the machine that the sample names is the image's
    printed = run(
        CLIENT,
        "import pathlib, inferencesh._content as c",
        *_standing_in_for("/path/to/image.png"),
        UPLOAD,
        "print(file_obj['filename'], file_obj['content_type'], file_obj['public'])",
        "import urllib.request; print(len(urllib.request.urlopen(file_obj['uri']).read()))",
    )

    uri, named, size = printed.splitlines()
    assert uri.startswith(f"URI: {mien}/files/")
    assert named == "custom_name.png image/png True"
    assert int(size) == PHOTO.stat().st_size


def _standing_in_for(path: str) -> list[str]:
    return [
        f"real, c.is_file = c.is_file, lambda text: text == {path!r} or real(text)",
        f"of, c.of_path = c.of_path, lambda p: of(pathlib.Path('photo.jpg') if str(p) == {path!r} else p)",
    ]


def test_the_asynchronous_client(run):
    printed = run(BEFORE, PARAMS, SHORT, "client.wait_for_completion(task_id)", ASYNC, "asyncio.run(main())")

    lines = printed.splitlines()
    assert lines[0].startswith("Output: {")
    assert "Status: COMPLETED" in lines
    assert lines[-1].startswith("Update: {")


def test_the_asynchronous_client_cancels(run):
    ending = "try:\n    asyncio.run(main())\nexcept RuntimeError as error:\n    print(type(error).__name__)"

    printed = run(BEFORE, PARAMS, LONG, ASYNC, ending)

    assert printed.splitlines()[-1] == "TaskCancelled"  # the sample waits for the task that it has cancelled


BEFORE = 'import asyncio\nfrom inferencesh import Inference\nclient = Inference(api_key="your-api-key")\n'
MANUAL = REPOSITORY / "docs/client.md"
README = REPOSITORY / "packages/infsh/README.md"


def test_every_snippet_of_the_manual_runs_in_order(run):
    printed = run(*samples(MANUAL))

    assert " was cancelled\n" in printed
    assert re.search(r"^[0-9a-z]{26} .*out of paint.*$", printed, re.MULTILINE)
    assert "working on value\n" in printed


@pytest.mark.full
def test_the_commands_of_the_manual_run(folder, mien, mien_folder):
    (commands,) = re.findall(r"^```bash\n(mien run .*?)^```$", MANUAL.read_text(), re.MULTILINE | re.DOTALL)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    done = subprocess.run(
        [
            "bash",
            "-euo",
            "pipefail",
            "-c",
            re.sub(r"mien (run|tasks list|tasks watch)", rf"mien \1 --url {mien}", commands),
        ],
        cwd=folder,
        env={**mien_folder.environment, "PATH": path},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("completed") == 3


def test_the_snippets_of_the_readme_run(run, mien):
    tasks, infer = samples(README)[-2:]
    assert "'faces'" in run(tasks)
    assert run(infer.replace("LumenClient()", f"LumenClient({mien!r})")).strip() == "1"


def test_the_manual_names_everything_public():
    manual = MANUAL.read_text()
    names = [*inspect.signature(Inference.__init__).parameters, *inspect.signature(Inference.run).parameters]
    names += [name for name in dir(Inference) if not name.startswith("_")]
    names += [name for name in vars(errors) if isinstance(getattr(errors, name), type) and name.endswith("Error")]

    unsaid = {"self", "headers", "base_url", "RequirementError"}
    assert [name for name in names if name not in unsaid and name not in manual] == []
