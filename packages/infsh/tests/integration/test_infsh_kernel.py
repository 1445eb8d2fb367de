"""A kernel in its own process, driven through every message as by a supervisor."""

import asyncio
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from infsh._kernel import protocol
from infsh._kernel.protocol import (
    Cancel,
    Cancelled,
    Done,
    Failed,
    Fatal,
    Hello,
    Loaded,
    Log,
    Output,
    Ping,
    Pong,
    Progress,
    Ready,
    Run,
    Setup,
    Unload,
)

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
ECHO = """
class App(BaseApp):
    async def run(self, app_input: AppInput) -> AppOutput:
        return AppOutput(text=app_input.text.upper())
"""


async def test_a_life_from_hello_to_unload(app_folder, start_worker):
    folder = app_folder("""
        class AppSetup(BaseAppSetup):
            model: str = "small"

        class App(BaseApp):
            def __init__(self):
                self.plain = 1

            async def setup(self, config: AppSetup, metadata: Metadata):
                self.model = config.model
                print("setting up for", metadata.app_id)

            async def run(self, app_input: AppInput, metadata: Metadata) -> AppOutput:
                return AppOutput(text=f"{self.model} {app_input.text} {metadata.task_id} {metadata.app_id}")

            async def unload(self):
                print("unloaded", flush=True)
    """)
    worker = await start_worker(folder, ready=False)
    hello = await worker.receive()
    assert isinstance(hello, Hello)
    assert (hello.version, hello.token) == (protocol.VERSION, "secret")
    assert hello.pid != worker.process.pid
    loaded = await worker.until(Loaded)
    assert loaded.functions == ["run"]
    assert loaded.schemas["setup_schema"]["properties"]["model"]["default"] == "small"
    await worker.send(Setup(setup='{"model": "large"}', metadata={"app_id": "ns/app"}))
    assert (await worker.until(Ready)).took >= 0
    assert "setting up for ns/app" in worker.lines("stdout")
    done = await worker.run({"text": "hi", "ignored": 1}, task_id="t1")
    assert done == Done(run_id="r1", output={"text": "large hi t1 ns/app", "output_meta": None})
    await worker.send(Ping())
    await worker.until(Pong)
    await worker.send(Unload())
    got = await worker.rest()
    assert "unloaded" in worker.lines("stdout")
    assert not [m for m in got if isinstance(m, Fatal)]
    assert await worker.process.wait() == 0


RUNS = """
class App(BaseApp):
    async def coroutine(self, app_input: AppInput) -> AppOutput:
        return AppOutput(text="b")
    def function(self, app_input: AppInput) -> AppOutput:
        return AppOutput(text="b")
    def run(self, app_input):
        return {"text": "b"}
    async def asynchronous_generator(self, app_input: AppInput):
        yield {"text": "a"}
        yield AppOutput(text="b")
    def generator(self, app_input: AppInput):
        yield AppOutput(text="a")
        yield {"text": "b"}
"""


async def test_every_kind_of_run_ends_with_its_last_output(app_folder, start_worker):
    worker = await start_worker(app_folder(RUNS))
    for function in ("coroutine", "function", "run", "asynchronous_generator", "generator"):
        assert (await worker.run(run_id=function, function=function)).output["text"] == "b"
        partial = [m.output["text"] for m in worker.got if isinstance(m, Output) and m.run_id == function]
        assert partial == (["a", "b"] if "generator" in function else [])


async def test_a_partial_output_is_sent_during_the_run(app_folder, start_worker):
    worker = await start_worker(
        app_folder("""
        class App(BaseApp):
            async def run(self, app_input: AppInput):
                yield AppOutput(text="first")
                await asyncio.sleep(60)
    """)
    )
    await worker.send(Run(run_id="r1"))
    assert (await worker.until(Output)).output["text"] == "first"


async def test_public_methods_are_functions(app_folder, start_worker):
    worker = await start_worker(
        app_folder(
            """
        class App(BaseApp):
            async def run(self, app_input: AppInput) -> AppOutput:
                return AppOutput(text="run")
            def shout(self, app_input: AppInput) -> AppOutput:
                "Says it louder."
                return AppOutput(text=app_input.text + "!")
            def helper(self, x: int): ...
            def _private(self, app_input: AppInput): ...
    """,
            manifest="name: a\ndefault_function: shout\n",
        )
    )
    loaded = next(m for m in worker.got if isinstance(m, Loaded))
    assert (loaded.functions, loaded.default_function) == (["run", "shout"], "shout")
    assert loaded.schemas["functions"]["shout"]["description"] == "Says it louder."
    assert (await worker.run({"text": "hey"})).output["text"] == "hey!"
    assert (await worker.run(run_id="r2", function="run")).output["text"] == "run"
    failed = await worker.run(run_id="r3", function="helper")
    assert failed.kind == "function"
    assert "it has run, shout" in failed.error


async def test_logs_and_progress_reach_their_run(app_folder, start_worker):
    worker = await start_worker(
        app_folder("""
        import subprocess
        class App(BaseApp):
            async def run(self, app_input: AppInput, metadata: Metadata) -> AppOutput:
                self.logger.info("one %d", 1)
                metadata.log("two")
                self.progress(0.5, "half")
                print("three\\nfour")
                print("bar 1\\rbar 2\\rbar 3", file=sys.stderr)
                os.write(1, b"five without an end")
                subprocess.run(["sh", "-c", "echo from a child >&2"], check=True)
                return AppOutput(text="x")
    """)
    )
    await worker.run()
    assert worker.lines("log") == ["INFO: one 1", "two"]
    assert worker.lines("stdout") == ["three", "four", "five without an end"]
    assert worker.lines("stderr") == ["bar 3", "from a child"]
    assert {m.run_id for m in worker.got if isinstance(m, Log)} == {"r1"}
    assert [m for m in worker.got if isinstance(m, Progress)] == [Progress("r1", 0.5, "half")]
    assert isinstance(worker.got[-1], Done)


ERRORS = [
    ("raise ValueError('no luck')", "app", "ValueError: no luck (inference.py, line "),
    ("sys.exit(3)", "app", "sys.exit(3)"),
    ("raise MemoryError", "out_of_memory", "MemoryError"),
    ("raise StopIteration(1)", "app", "StopIteration"),
    ("return 5", "output", "run returned int instead of AppOutput"),
    ("return {'text': []}", "output", "`text`"),
    ("return AppOutput.model_construct(text=object())", "output", "cannot be written as JSON"),
]


@pytest.mark.parametrize("prefix", ["", "async "])
async def test_an_error_fails_its_run_only(prefix, app_folder, start_worker):
    branches = "".join(f"        if app_input.text == '{i}':\n            {ERRORS[i][0]}\n" for i in range(len(ERRORS)))
    worker = await start_worker(
        app_folder(f"""
class App(BaseApp):
    {prefix}def run(self, app_input: AppInput) -> AppOutput:
{branches}
        return AppOutput(text="fine")
""")
    )
    for i, (_, kind, said) in enumerate(ERRORS):
        failed = await worker.run({"text": str(i)}, run_id=str(i))
        assert isinstance(failed, Failed)
        assert failed.kind == kind
        assert said in failed.error
        if kind == "app":
            assert "inference.py" in failed.traceback
            assert "runner.py" not in failed.traceback
    assert isinstance(await worker.run(run_id="last"), Done)


@pytest.mark.full
async def test_a_traceback_shows_no_directories_of_the_server(app_folder, start_worker):
    worker = await start_worker(
        app_folder(
            """
        import json, pydantic, traceback, helper
        class App(BaseApp):
            def run(self, app_input: AppInput) -> AppOutput:
                try:
                    pydantic.TypeAdapter(int).validate_json("x")
                except ValueError:
                    traceback.print_exc()
                    helper.parse("{")
    """,
            helper="""
            import json
            def parse(text):
                return json.loads(text)
        """,
        )
    )
    failed = await worker.run()
    assert re.findall(r'File "(.*)"', failed.traceback) == [
        "inference.py", "site-packages/pydantic/type_adapter.py",
        "inference.py", "helper.py", *[f"{PYTHON}/json/{name}.py" for name in ("__init__", "decoder", "decoder")],
    ]  # fmt: skip
    assert "pydantic.TypeAdapter(int).validate_json" in failed.traceback, "the source is shown"
    assert str(Path(app_folder("")).resolve()) in "".join(worker.lines("stderr")), "what the app prints stays as it is"


@pytest.mark.full
async def test_a_traceback_of_an_import_shows_no_directories_of_the_server(app_folder, start_worker):
    worker = await start_worker(app_folder("import helper", helper="def f(:\n"), ready=False)
    fatal = (await worker.rest())[-1]
    assert re.findall(r'File "(.*)"', fatal.traceback) == ["inference.py", "helper.py"]


async def test_invalid_input_names_the_key(app_folder, start_worker):
    worker = await start_worker(app_folder(ECHO))
    failed = await worker.run({"text": 5})
    assert failed.kind == "input"
    assert "`text`" in failed.error
    assert "the input is invalid" in failed.error


@pytest.mark.full
async def test_an_error_in_a_validator_of_the_app_fails_its_run(app_folder, start_worker):
    worker = await start_worker(
        app_folder("""
        class Strict(BaseAppInput):
            text: str = ""

            def model_post_init(self, context):
                if self.text:
                    raise RuntimeError("not this one")

        class App(BaseApp):
            def run(self, app_input: Strict) -> AppOutput:
                return AppOutput(text="fine")
    """)
    )
    failed = await worker.run({"text": "a"})
    assert isinstance(failed, Failed)
    assert (failed.kind, "not this one" in failed.error) == ("app", True)
    assert "inference.py" in failed.traceback
    assert isinstance(await worker.run(run_id="r2"), Done)


@pytest.mark.full
async def test_metadata_that_does_not_fit_fails_its_run(app_folder, start_worker):
    worker = await start_worker(app_folder(ECHO))
    failed = await worker.run(user_id=["nobody"])
    assert isinstance(failed, Failed)
    assert failed.kind == "input"
    assert "the metadata is invalid: `user_id`" in failed.error
    assert isinstance(await worker.run({"text": "a"}, run_id="r2"), Done)


@pytest.mark.full
async def test_invalid_metadata_fails_the_setup_and_is_not_a_crash(app_folder, start_worker):
    worker = await start_worker(app_folder(ECHO), ready=False)
    await worker.send(Setup(metadata={"user_id": ["nobody"]}))
    fatal = (await worker.rest())[-1]
    assert isinstance(fatal, Fatal)
    assert (fatal.kind, "`user_id`" in fatal.error) == ("setup", True)


@pytest.mark.full
async def test_a_generator_without_output_fails(app_folder, start_worker):
    worker = await start_worker(
        app_folder("""
        class App(BaseApp):
            async def run(self, app_input: AppInput):
                if False:
                    yield
    """)
    )
    assert "without yielding" in (await worker.run()).error


async def test_files_come_in_and_local_ones_are_marked(app_folder, start_worker, tmp_path: Path):
    worker = await start_worker(
        app_folder("""
        class FileInput(BaseAppInput):
            image: File
        class FileOutput(BaseAppOutput):
            image: File
            same: File
            more: list[File]
            lost: File
        class App(BaseApp):
            def run(self, app_input: FileInput) -> FileOutput:
                made = os.path.abspath("made.png")
                open(made, "wb").write(open(app_input.image.path, "rb").read())
                return FileOutput(image=File(path=made), same=File("https://h/x.png"),
                                  more=[File(path=made)], lost=File(path="/nowhere/a.png"))
    """)
    )
    done = await worker.run({"image": {"uri": "data:image/png;base64,aGVsbG8=", "id": 1}})
    marked = done.output["image"][worker.marker]
    assert Path(marked["path"]).read_bytes() == b"hello"
    assert (marked["content_type"], marked["size"], marked["filename"]) == ("image/png", 5, "made.png")
    assert done.output["more"] == [{worker.marker: marked}]
    assert done.output["same"]["uri"] == "https://h/x.png"
    assert done.output["lost"]["path"] == "/nowhere/a.png"
    assert any("/nowhere/a.png" in line for line in worker.lines("log"))


@pytest.mark.full
async def test_a_long_output_travels_as_a_file(app_folder, start_worker, tmp_path: Path):
    worker = await start_worker(
        app_folder("""
        class App(BaseApp):
            def run(self, app_input: AppInput) -> AppOutput:
                return AppOutput(text=app_input.text * 2)
    """)
    )
    done = await worker.run({"text": "é" * 2_000_000})
    assert done.output["text"] == "é" * 4_000_000
    assert list((tmp_path / "spill").iterdir()) == []


async def test_runs_go_side_by_side_as_the_app_declares(app_folder, start_worker):
    worker = await start_worker(
        app_folder("""
        class App(BaseApp):
            concurrency = 2
            async def setup(self):
                self.here = asyncio.Barrier(2)
            async def run(self, app_input: AppInput) -> AppOutput:
                await self.here.wait()
                return AppOutput(text="together")
    """)
    )
    assert next(m for m in worker.got if isinstance(m, Loaded)).concurrency == 2
    for run_id in ("a", "b"):
        await worker.send(Run(run_id=run_id))
    assert {(await worker.until(Done)).run_id for _ in range(2)} == {"a", "b"}


@pytest.mark.full
async def test_a_queued_run_is_cancelled_immediately(app_folder, start_worker):
    worker = await start_worker(
        app_folder("""
        class App(BaseApp):
            def on_cancel(self):
                print("asked", flush=True)
            async def run(self, app_input: AppInput) -> AppOutput:
                await asyncio.sleep(60)
    """)
    )
    await worker.send(Run(run_id="first"))
    await worker.send(Run(run_id="second"))
    await worker.send(Cancel(run_id="second", grace=30))
    assert (await worker.until(Cancelled)).run_id == "second"
    assert worker.lines("stdout") == []


# --- cancelling


CANCELLED = """
class App(BaseApp):
    async def coroutine(self, app_input: AppInput):
        print("in")
        await asyncio.sleep(60)

    def busy_loop(self, app_input: AppInput):
        print("in")
        while True:
            pass

    def flag(self, app_input: AppInput, metadata: Metadata):
        print("in")
        while not metadata.cancelled:
            time.sleep(0.01)
        return AppOutput(text="x")

    def generator(self, app_input: AppInput):
        print("in")
        yield AppOutput(text="x")
        while True:
            time.sleep(0.01)

    async def stubborn(self, app_input: AppInput):
        print("in")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    def run(self, app_input: AppInput) -> AppOutput:
        return AppOutput(text="alive")
"""
GRACES = {"coroutine": 30, "busy_loop": 0.4, "flag": 30, "generator": 0.4, "stubborn": 5}


async def test_cancel_ends_a_run_and_keeps_the_worker(app_folder, start_worker):
    worker = await start_worker(app_folder(CANCELLED), measured=False)
    for function, grace in GRACES.items():
        await worker.send(Run(run_id=function, function=function))
        await worker.until(Log, run_id=function)
        started = time.monotonic()
        await worker.send(Cancel(run_id=function, grace=grace))
        assert await worker.until(*protocol.RUN_ENDS) == Cancelled(function)
        assert time.monotonic() - started < 10
        assert (await worker.run(run_id=f"after {function}")).output["text"] == "alive"


@pytest.mark.parametrize("prefix", ["", "async "])
async def test_on_cancel_is_asked_first(prefix, app_folder, start_worker):
    worker = await start_worker(
        app_folder(f"""
class App(BaseApp):
    async def setup(self):
        self.stop = asyncio.Event()
    {prefix}def on_cancel(self):
        print("asked", flush=True)
        self.stop.set() if "{prefix}" else self.loop.call_soon_threadsafe(self.stop.set)
    async def run(self, app_input: AppInput) -> AppOutput:
        self.loop = asyncio.get_running_loop()
        print("in")
        await self.stop.wait()
        print("ended by itself")
        return AppOutput(text="x")
""")
    )
    await worker.send(Run(run_id="r1"))
    await worker.until(Log)
    await worker.send(Cancel(run_id="r1", grace=30))
    assert await worker.until(*protocol.RUN_ENDS) == Cancelled("r1")
    assert worker.lines("stdout") == ["in", "asked", "ended by itself"]


@pytest.mark.parametrize("prefix", ["", "async "])
async def test_a_run_that_blocks_is_pinged_but_not_cancelled(prefix, app_folder, start_worker):
    worker = await start_worker(
        app_folder(f"""
class App(BaseApp):
    {prefix}def run(self, app_input: AppInput) -> AppOutput:
        print("in")
        time.sleep(60)
"""),
        measured=False,
    )
    await worker.send(Run(run_id="r1"))
    await worker.until(Log)
    await worker.send(Cancel(run_id="r1", grace=0.1))
    await asyncio.sleep(0.3)
    await worker.send(Ping())
    await worker.until(Pong)
    assert not [m for m in worker.got if isinstance(m, protocol.RUN_ENDS)]
    os.killpg(worker.process.pid, signal.SIGKILL)
    assert await worker.process.wait() == -signal.SIGKILL


async def test_cancel_of_an_unknown_run_does_nothing(app_folder, start_worker):
    worker = await start_worker(app_folder(ECHO))
    await worker.send(Cancel(run_id="other", grace=1))
    assert isinstance(await worker.run(), Done)


# --- ends


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ("class App(BaseApp):\n    def run(self): ...", "load", "run must take the input"),
        ("import missing_module", "load", "missing_module"),
        ("def broken(:", "load", "SyntaxError"),
        ("sys.exit(2)", "load", "sys.exit(2)"),
        ("x = 1", "load", "derives from BaseApp"),
    ],
)
@pytest.mark.full
async def test_an_app_that_cannot_be_imported_is_fatal(body, kind, said, app_folder, start_worker):
    worker = await start_worker(app_folder(body), ready=False)
    fatal = (await worker.rest())[-1]
    assert isinstance(fatal, Fatal)
    assert fatal.kind == kind
    assert said in fatal.error
    assert await worker.process.wait() == 1


async def test_a_failed_setup_is_fatal(app_folder, start_worker):
    worker = await start_worker(
        app_folder("""
        class App(BaseApp):
            def setup(self, metadata):
                print("no weights")
                raise OSError("disk on fire")
            def run(self, app_input: AppInput): ...
    """),
        ready=False,
    )
    await worker.send(Setup())
    fatal = (await worker.rest())[-1]
    assert (fatal.kind, "disk on fire" in fatal.error) == ("setup", True)
    assert "inference.py" in fatal.traceback
    assert worker.lines("stdout") == ["no weights"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("os._exit(7)", 7, "status 7"),
        ("os.kill(os.getpid(), 9)", -9, "SIGKILL"),
        ("os.kill(os.getpid(), 11)", -11, "SIGSEGV"),
        ("os._exit(0)", 0, "status 0"),
    ],
)
async def test_a_crash_is_reported_and_loses_no_line(body, status, said, app_folder, start_worker):
    worker = await start_worker(
        app_folder(f"""
class App(BaseApp):
    def run(self, app_input: AppInput):
        for i in range(1000):
            print("line", i)
        os.write(1, b"the last words")
        {body}
""")
    )
    await worker.send(Run(run_id="r1"))
    fatal = (await worker.rest())[-1]
    assert isinstance(fatal, Fatal)
    assert (fatal.kind, fatal.exit_code) == ("crashed", status)
    assert said in fatal.error
    assert fatal.max_rss_bytes is not None
    assert fatal.max_rss_bytes > 1 << 20
    assert worker.lines("stdout") == [*(f"line {i}" for i in range(1000)), "the last words"]
    assert await worker.process.wait() == status


@pytest.mark.full
async def test_a_line_without_its_newline_is_kept_when_the_output_is_closed(app_folder, start_worker):
    worker = await start_worker(
        app_folder("""
        class App(BaseApp):
            def run(self, app_input: AppInput):
                os.write(1, b"the last words")
                os.close(1)
                time.sleep(0.3)
                os._exit(7)
    """)
    )
    await worker.send(Run(run_id="r1"))
    await worker.rest()
    assert worker.lines("stdout") == ["the last words"]


@pytest.mark.full
async def test_an_app_that_writes_into_its_connection_is_ended(app_folder, start_worker):
    worker = await start_worker(
        app_folder("""
        import contextlib, stat

        class App(BaseApp):
            def run(self, app_input: AppInput):
                for descriptor in range(3, 64):
                    with contextlib.suppress(OSError):
                        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                            os.write(descriptor, b"[1]" * 99)
                time.sleep(60)
    """)
    )
    await worker.send(Run(run_id="r1"))
    fatal = (await worker.rest())[-1]
    assert isinstance(fatal, Fatal)
    assert (fatal.kind, "sent bytes that are not a message" in fatal.error) == ("protocol", True)


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.full
async def test_a_sigterm_after_the_apps_end_loses_no_line(app_folder, start_worker):
    worker = await start_worker(
        app_folder("""
        class App(BaseApp):
            def run(self, app_input: AppInput):
                os.write(1, b"x" * 99 + b"\\n" + (b"y" * 99 + b"\\n") * 20_000)
                os._exit(7)
    """)
    )
    pid = worker.got[0].pid
    await worker.send(Run(run_id="r1"))
    await asyncio.sleep(0.5)
    drained = asyncio.create_task(worker.rest())
    await asyncio.to_thread(wait_until_gone, pid)
    worker.process.terminate()
    messages = await drained
    assert isinstance(messages[-1], Fatal)
    assert len(worker.lines("stdout")) == 20_001


@pytest.mark.full
async def test_a_flood_of_logs_is_complete_and_in_order(app_folder, start_worker):
    worker = await start_worker(
        app_folder("""
        class App(BaseApp):
            def run(self, app_input: AppInput) -> AppOutput:
                for i in range(20000):
                    print(i, "x" * 80)
                return AppOutput(text="done")
    """)
    )
    await worker.send(Run(run_id="r1"))
    await asyncio.sleep(0.3)  # nobody reads: the app is held back, not the memory filled
    await worker.until(Done)
    assert [int(line.split()[0]) for line in worker.lines("stdout")] == list(range(20000))


@pytest.mark.parametrize("body", ["await asyncio.sleep(60)", "time.sleep(60)"])
async def test_the_worker_exits_when_its_supervisor_has_died(body, app_folder, start_worker):
    worker = await start_worker(
        app_folder(f"""
class App(BaseApp):
    async def run(self, app_input: AppInput):
        print("in")
        {body}
""")
    )
    await worker.send(Run(run_id="r1"))
    await worker.until(Log)
    app_pid = next(m for m in worker.got if isinstance(m, Hello)).pid
    await worker.channel.close()
    async with asyncio.timeout(10):
        await worker.process.wait()
    with pytest.raises(ProcessLookupError):
        os.kill(app_pid, 0)


@pytest.mark.full
async def test_the_app_dies_with_its_relay(app_folder, start_worker):
    worker = await start_worker(app_folder(ECHO))
    app_pid = next(m for m in worker.got if isinstance(m, Hello)).pid
    worker.process.kill()
    await worker.process.wait()
    async with asyncio.timeout(5):
        while _lives(app_pid):  # noqa: ASYNC110  # another process has no event
            await asyncio.sleep(0.02)


@pytest.mark.full
async def test_bytes_that_are_not_a_message_are_fatal(app_folder, start_worker):
    worker = await start_worker(app_folder(ECHO))
    worker.channel._writer.write(b"\xff\xff\xff\xffnonsense")
    fatal = (await worker.rest())[-1]
    assert (type(fatal), fatal.kind) == (Fatal, "protocol")


async def test_the_token_is_hidden_from_the_app(app_folder, start_worker):
    worker = await start_worker(
        app_folder("""
        class App(BaseApp):
            def run(self, app_input: AppInput) -> AppOutput:
                return AppOutput(text=",".join(k for k in os.environ if k.startswith("INFSH_KERNEL")))
    """)
    )
    assert (await worker.run()).output["text"] == ""


def _lives(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
