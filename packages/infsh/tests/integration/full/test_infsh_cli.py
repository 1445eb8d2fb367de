"""The `infsh` command, as users run it."""

import contextlib
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ECHO = """
class AppSetup(BaseAppSetup):
    mark: str = "!"

class FileInput(BaseAppInput):
    document: File

class Length(BaseAppOutput):
    length: int

class App(BaseApp):
    async def setup(self, config: AppSetup):
        print("loud setup")
        os.system("echo louder")
        self.mark = config.mark

    async def run(self, app_input: AppInput) -> AppOutput:
        if app_input.text == "raise":
            raise ValueError("asked to")
        yield AppOutput(text="partial")
        yield AppOutput(text=app_input.text + self.mark)

    def measure(self, app_input: FileInput) -> Length:
        return Length(length=app_input.document.size)
"""


@pytest.fixture
def infsh(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-m", "infsh", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False)

    return run


def test_a_new_app_passes_its_test_and_runs(infsh, tmp_path):
    assert infsh("init", "me/first").returncode == 0
    tested = infsh("test", "first")
    assert [line.split()[:2] for line in tested.stdout.splitlines()] == [
        ["ok", "inf.yml:"], ["ok", "App:"], ["ok", "setup"], ["ok", "run"], ["ok", "unload"],
    ]  # fmt: skip
    assert "me/first" in tested.stdout
    ran = infsh("run", "first", "--input", "@first/input.json", "--setup", "greeting=Moin")
    assert json.loads(ran.stdout)["text"] == "Moin, world!"


def test_the_output_is_alone_on_stdout(infsh, app_folder):
    ran = infsh("run", app_folder(ECHO), "--input", "text=5", "--setup", "mark=?")
    assert json.loads(ran.stdout) == {"text": "5?", "output_meta": None}
    assert "loud setup" in ran.stderr
    assert "louder" in ran.stderr
    assert '"text": "partial"' in ran.stderr


def test_a_function_and_a_file(infsh, app_folder, tmp_path):
    (tmp_path / "a.txt").write_text("12345")
    ran = infsh("run", app_folder(ECHO), "--function", "measure", "--file", "document=a.txt")
    assert json.loads(ran.stdout)["length"] == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "absent"], "absent does not exist: pass the folder of an app"),
        (["run", "APP", "--input", "text"], "--input text is not KEY=VALUE"),
        (["run", "APP", "--input", "@absent.json"], "absent.json cannot be read"),
        (["run", "APP", "--file", "document=absent"], "no such file"),
        (["run", "APP", "--input", "text=[1]", "--setup", "mark=x", "--function", "no"], "no function 'no'"),
        (["run", "APP", "--function", "measure"], "`document`: Field required"),
        (["init", "a b"], "`name` cannot be 'a b'"),
        (["init", "tested-app"], "tested-app already exists"),
        (["serve", "APP", "--port", "1000000"], "cannot use port 1000000"),
        (["test", "."], "has no inf.yml"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, said, infsh, app_folder):
    folder = app_folder(ECHO)
    ran = infsh(*[folder if item == "APP" else item for item in arguments])
    assert ran.returncode == 1
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("infsh: ")
    assert said in last
    assert "Traceback" not in ran.stderr


def test_an_error_of_the_app_shows_its_own_frames(infsh, app_folder):
    ran = infsh("run", app_folder(ECHO), "--input", "text=raise")
    assert ran.returncode == 1
    assert 'raise ValueError("asked to")' in ran.stderr
    assert "_kernel" not in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("infsh: ValueError: asked to (inference.py, line ")


def test_test_runs_the_sample_input(infsh, app_folder):
    folder = app_folder(ECHO)
    assert "nothing was run" in infsh("test", folder).stdout
    (folder / "input.json").write_text('{"text": 5}')
    failed = infsh("test", folder)
    assert (failed.returncode, "`text`" in failed.stderr) == (1, True)
    (folder / "input.json").write_text("{}")
    (folder / "input.measure.json").write_text('{"document": "data:,abc"}')
    assert "ok  measure" in infsh("test", folder).stdout


# --- serve


@pytest.fixture
def served(app_folder) -> Iterator[str]:
    command = [sys.executable, "-W", "error", "-m", "infsh", "serve", str(app_folder(ECHO)), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = next(line for line in process.stdout if "POST " in line)
    try:
        yield line.split("POST ")[1].split("/run")[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def ask(url: str, body: object = None, **headers: str) -> tuple[int, dict]:
    data = None if body is None else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **headers}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, given), timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            return error.code, json.load(error)


def test_serve_runs_the_app(served):
    assert ask(f"{served}/run", {"input": {"text": "a"}})[1]["output"]["text"] == "a!"
    assert ask(f"{served}/run", {"input": {"document": "data:,abc"}, "function": "measure"})[1]["output"]["length"] == 3
    assert list(ask(f"{served}/schema")[1]["functions"]) == ["run", "measure"]
    assert ask(f"{served}/run", {"input": {"text": 5}})[0] == 422
    assert ask(f"{served}/run", {"function": "absent"})[0] == 404
    assert ask(f"{served}/absent")[0] == 404
    assert ask(f"{served}/run", [1])[0] == 400
    status, body = ask(f"{served}/run", {"input": {"text": "raise"}})
    assert (status, "inference.py" in body["traceback"]) == (500, True)


def test_serve_does_not_answer_web_pages(served):
    assert ask(f"{served}/run", {}, **{"Content-Type": "text/plain"})[0] == 400
    assert ask(f"{served}/schema", None, Host="evil.example:80")[0] == 403
