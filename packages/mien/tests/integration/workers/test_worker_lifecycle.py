"""From a folder to an output: statuses, warm workers, partial outputs, logs, files, sessions."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mien.encoded import Encoded
from mien.errors import NoResources
from mien.tasks.executor import AppFailed
from mien.workers.files import NoFiles, OutputFile
from mien.workers.fit import Fit

SEED_APP = """
from infsh import BaseApp, BaseAppInput, BaseAppOutput, File

class AppInput(BaseAppInput):
    image: str  # URL or file path to image
    mask: str   # URL or file path to mask

class AppOutput(BaseAppOutput):
    image: File

class MyApp(BaseApp):
    async def setup(self):
        # Initialize your model here
        pass

    async def run(self, app_input: AppInput) -> AppOutput:
        # Process input and return output
        result_path = "{result}"
        return AppOutput(image=File(path=result_path))

    async def unload(self):
        # Clean up resources
        pass
"""
COLD = ["PREPARING", "SERVING", "SETTING_UP", "RUNNING"]


class Kept(NoFiles):
    """A file gate that reads output files while they exist."""

    def __init__(self) -> None:
        self.files: list[tuple[str, bytes, str | None]] = []

    async def fetch(self, task_id: str, owner: str, given: Encoded, folder: Path) -> Encoded:
        value = given.value
        for key, text in value.items():
            if str(text).startswith("inf://"):
                (folder / "given.txt").write_text(f"content of {text}")
                value = {**value, key: str(folder / "given.txt")}
        return Encoded.of(value)

    async def store(self, task_id: str, owner: str, file: OutputFile) -> Any:
        self.files.append((file.path.name, file.path.read_bytes(), file.content_type))
        return f"inf://{len(self.files)}"


async def test_the_sample_app_runs_from_its_folder(app_server: Any, app_folder: Any, tmp_path: Path) -> None:
    result = tmp_path / "result.png"
    result.write_bytes(b"\x89PNG\r\n\x1a\n")
    kept = Kept()
    server = app_server(files=kept)
    app = await server.deploy(app_folder("my-app", code=SEED_APP.format(result=result)))
    assert list(app.version.functions) == ["run"]
    assert list(app.version.functions["run"].input_schema["properties"]) == ["image", "mask"]
    assert server.fit(app) is Fit.COLD

    output, report = await server.run(app, {"image": "a.png", "mask": "b.png"})
    assert report.statuses == [*COLD, "UPLOADING"]
    assert output["image"] == "inf://1"
    assert kept.files == [("result.png", b"\x89PNG\r\n\x1a\n", "image/png")]

    assert server.fit(app) is Fit.WARM
    _, report = await server.run(app, {"image": "a.png", "mask": "b.png"})
    assert report.statuses == ["RUNNING", "UPLOADING"]


async def test_partial_outputs_logs_and_progress_arrive_while_it_runs(
    app_server: Any, example: Callable[[str], Path]
) -> None:
    server = app_server()
    app = await server.deploy(example("hello"))
    _, report, work = server.submit(app, {"name": "Ada", "times": 3, "pause": 0.15}, setup={"greeting": "Hi"})
    await report.until("log", "line 1")
    assert not work.done()
    output = await work
    assert output["text"] == "Hi, Ada!\nHi, Ada!\nHi, Ada!"
    assert [value["text"].count("\n") for value in report.all("output")][:2] == [0, 1]
    arrived = [at for at, kind, _ in report.events if kind == "output"]
    assert arrived[1] - arrived[0] > 0.1
    assert ("SETTING_UP", "greeting with Hi") in report.all("log")
    assert (1.0, "3 of 3") in report.all("progress")


@pytest.mark.full
async def test_a_worker_is_warm_for_its_setup_only(app_server: Any, example: Callable[[str], Path]) -> None:
    server = app_server(app_workers=2)
    app = await server.deploy(example("hello"))
    one = {"setup": {"greeting": "Hi"}}
    other = {"setup": {"greeting": "Salut"}}
    await server.run(app, {"name": "A"}, **one)
    assert server.fit(app, **one) is Fit.WARM
    assert server.fit(app, **other) is Fit.SAME_VERSION
    output, report = await server.run(app, {"name": "A"}, **other)
    assert report.statuses == COLD
    assert output["text"] == "Salut, A!"
    assert len(server.pool.slots) == 2

    await server.run(app, {"name": "A"}, setup={"greeting": "Ciao"})  # the one that was idle for longest has to go
    assert server.fit(app, **one) is Fit.SAME_VERSION
    assert server.fit(app, **other) is Fit.WARM


@pytest.mark.full
async def test_busy_workers_are_not_evicted(probe: Any) -> None:
    server, app = await probe("await asyncio.sleep(float(app_input.text or 0))", app_workers=1)
    _, report, work = server.submit(app, {"text": "1.5"})
    await report.until("status", "RUNNING")
    assert server.fit(app) is Fit.NO_CAPACITY
    await work
    assert server.fit(app) is Fit.WARM


@pytest.mark.full
async def test_memory_limits_the_number_of_concurrent_workers(probe: Any) -> None:
    server, app = await probe(app_memory=300 << 20, workers_memory=500 << 20)
    await server.run(app, setup={"a": 1})
    await server.run(app, setup={"a": 2})
    assert len(server.pool.slots) == 1


async def test_what_never_fits_fails_with_the_reason(app_server: Any, app_folder: Any) -> None:
    server = app_server(app_gpus=0)
    app = await server.deploy(app_folder("big", inf="name: big\nresources: {gpu: {count: 2}}\n"))
    with pytest.raises(NoResources, match="needs 2 GPUs; this server has 0"):
        await server.run(app)


async def test_concurrent_runs_up_to_the_number_that_the_app_declares(app_server: Any, app_folder: Any) -> None:
    server = app_server(app_workers=1)
    body = "await asyncio.sleep(1.5 if app_input.text else 0)"
    folder = app_folder("many", body=body, inf="name: many\nconcurrency: 4\n")
    app = await server.deploy(folder)
    assert app.version.concurrency == 4
    await server.run(app)
    started = time.monotonic()
    works = [server.submit(app, {"text": "long"})[2] for _ in range(4)]
    assert server.fit(app) is Fit.NO_CAPACITY
    await asyncio.gather(*works)
    assert time.monotonic() - started < 4.5  # 6 s one after the other


@pytest.mark.full
async def test_idle_workers_end_and_some_stay(probe: Any) -> None:
    server, app = await probe(app_idle_seconds=0.2, app_min_warm=1)
    await asyncio.gather(server.submit(app)[2], server.submit(app)[2])
    assert len(server.pool.slots) == 2
    for _ in range(100):
        if len(server.pool.slots) == 1:
            break
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.6)
    assert len(server.pool.slots) == 1
    assert server.fit(app) is Fit.WARM


async def test_a_session_keeps_its_worker_and_its_state(probe: Any) -> None:
    server, app = await probe(app_workers=2)
    first, _ = await server.run(app, {"text": "x"}, session_id="s1")
    await server.run(app, {"text": "x"}, session_id="s2")
    again, report = await server.run(app, {"text": "x"}, session_id="s1")
    assert (first["text"], again["text"]) == ("1 x", "2 x")
    assert report.statuses == ["RUNNING"]
    assert server.fit(app) is Fit.NO_CAPACITY  # sessions are not evicted
    assert server.pool.end_session("s2")
    await asyncio.sleep(0)
    assert not server.pool.has_session("s2")
    assert server.pool.has_session("s1")


@pytest.mark.full
async def test_input_files_are_there_for_the_run_only(probe: Any) -> None:
    body = "app_input.text = open(app_input.text).read() + ' ' + app_input.text"
    server, app = await probe(body, files=Kept())
    output, _ = await server.run(app, {"text": "inf://abc"})
    _, content, path = output["text"].split(" ", 1)[0], output["text"], output["text"].rsplit(" ", 1)[1]
    assert "content of inf://abc" in content
    assert not Path(path).exists()


async def test_the_app_sees_no_secrets_of_the_server(probe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_APP_SECRETS", '{"TOKEN": "t0ps3cret"}')
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    server, app = await probe("app_input.text = ' '.join(os.environ) + ' '.join(os.environ.values()) + os.getcwd()")
    output, _ = await server.run(app)
    for word in ("MIEN_", "t0ps3cret", "AWS", "another", "INFSH_KERNEL_TOKEN"):
        assert word not in output["text"]
    assert "worker-1" in output["text"]


@pytest.mark.full
async def test_an_app_gets_telemetry_disabled(app_server: Any, app_folder: Any) -> None:
    server = app_server()
    body = "app_input.text = os.environ['ORT_DISABLE_TELEMETRY']"
    output, _ = await server.run(await server.deploy(app_folder("quiet", body=body, inf="name: quiet\n")))
    assert output["text"] == "1 1"


async def test_secrets_that_an_app_names_are_given_to_it(app_server: Any, app_folder: Any) -> None:
    folder = app_folder("asks", body="app_input.text = os.environ['TOKEN']", inf="name: asks\nsecrets: [TOKEN]\n")
    server = app_server(app_secrets={"TOKEN": "t0ps3cret"})
    output, _ = await server.run(await server.deploy(folder))
    assert output["text"] == "1 t0ps3cret"


@pytest.mark.full
async def test_an_app_cannot_change_its_deployed_files(probe: Any) -> None:
    server, app = await probe("open('inference.py', 'w').write('broken'); open('new.txt', 'w').write('x')")
    await server.run(app)
    assert "class App" in (app.content / "inference.py").read_text()
    assert not (app.content / "new.txt").exists()
    await server.run(app, setup={"another": "worker"})


@pytest.mark.parametrize(("code", "error_code", "words"), [
    ("raise ValueError('no such thing')", "load_failed", "no such thing"),
    ("import a_module_that_is_missing", "load_failed", "a_module_that_is_missing"),
])  # fmt: skip
async def test_an_app_that_cannot_be_imported_is_not_deployed(
    app_server: Any, app_folder: Any, code: str, error_code: str, words: str
) -> None:
    from mien.errors import AppInvalid

    with pytest.raises(AppInvalid, match=words):
        await app_server().deploy(app_folder("bad", code=code))


async def test_errors_of_the_app_are_the_tasks(probe: Any) -> None:
    server, app = await probe("raise RuntimeError('the model is grumpy')")
    with pytest.raises(AppFailed, match="the model is grumpy") as caught:
        await server.run(app)
    assert caught.value.code == "app_failed"
    assert server.fit(app) is Fit.WARM  # the worker goes on
    with pytest.raises(AppFailed) as caught:
        await server.run(app, {"text": {"not": "text"}})
    assert caught.value.code == "invalid_input"


async def test_a_failed_setup_fails_the_task(app_server: Any, app_folder: Any) -> None:
    code = (
        "from infsh import BaseApp, BaseAppInput, BaseAppOutput\n"
        "class App(BaseApp):\n"
        "    async def setup(self): raise OSError('no weights')\n"
        "    async def run(self, app_input: BaseAppInput) -> BaseAppOutput: return BaseAppOutput()\n"
    )
    server = app_server()
    app = await server.deploy(app_folder("weights", code=code))
    with pytest.raises(AppFailed, match="no weights") as caught:
        await server.run(app)
    assert caught.value.code == "setup_failed"
    assert server.pool.slots == ()
