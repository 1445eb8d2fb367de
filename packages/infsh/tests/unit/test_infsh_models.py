"""Base models, metadata and the app class."""

import logging

import pytest
from pydantic import Field, create_model

import infsh
from infsh import (
    AudioMeta,
    BaseApp,
    BaseAppInput,
    BaseAppOutput,
    ImageMeta,
    Metadata,
    OutputMeta,
    RawMeta,
    TextMeta,
    VideoMeta,
    VideoResolution,
)
from infsh._context import ActiveRun, running


class Sink:
    def __init__(self):
        self.logs, self.told = [], []

    def log(self, line, run_id):
        self.logs.append((line, run_id))

    def progress(self, run_id, fraction, message):
        self.told.append((run_id, fraction, message))


class Parent(BaseAppInput):
    zebra: int
    apple: str = ""


class Child(Parent):
    yak: str
    apple: str = "mine"
    bee: int = Field(alias="Bee")


def test_own_fields_come_first_then_inherited_ones():
    schema = Child.model_json_schema()
    assert list(schema["properties"]) == ["yak", "apple", "Bee", "zebra"]
    assert schema["required"] == ["yak", "Bee", "zebra"]


def test_classes_without_source_have_ordered_schemas():
    made = create_model("Made", __base__=Parent, second=(int, ...), first=(int, ...))
    assert list(made.model_json_schema()["properties"]) == ["second", "first", "zebra", "apple"]
    names = {}
    exec("from infsh import BaseAppInput\nclass A(BaseAppInput):\n    z: int\n    a: int", names)  # noqa: S102
    assert list(names["A"].model_json_schema()["properties"]) == ["z", "a"]


def test_a_nested_model_keeps_its_order():
    outer = create_model("Outer", __base__=BaseAppInput, child=(Child, ...))
    assert list(outer.model_json_schema()["$defs"]["Child"]["properties"]) == ["yak", "apple", "Bee", "zebra"]


def test_output_meta_is_written_with_the_output():
    class Output(BaseAppOutput):
        text: str

    meta = OutputMeta(
        inputs=[TextMeta(tokens=5)],
        outputs=[
            ImageMeta(width=2, height=3, extra={"seed": 1}),
            VideoMeta(resolution=VideoResolution.RES_720P, seconds=2.0),
            AudioMeta(sample_rate=8000),
            RawMeta(cost=1.5),
        ],
    )
    written = Output(text="a", output_meta=meta).model_dump(mode="json")["output_meta"]
    assert written["inputs"] == [{"type": "text", "tokens": 5, "extra": None}]
    assert [item["type"] for item in written["outputs"]] == ["image", "video", "audio", "raw"]
    assert written["outputs"][1]["resolution"] == "720p"
    assert OutputMeta.model_validate(written) == meta


def test_an_app_is_a_plain_class():
    class App(BaseApp):
        model = None
        count: int = 0

        def __init__(self):
            self.anything = object()

        def setup(self):
            self.logger = logging.getLogger("own")

    app = App()
    assert app.logger.name == "infsh.app.App"
    app.setup()
    assert app.logger.name == "own"
    app.progress(0.5)
    with pytest.raises(NotImplementedError, match="run method must be implemented"):
        app.run(1)


def test_metadata_takes_anything_but_its_own_methods():
    metadata = Metadata(app_id="a", extra_thing=1)
    metadata.update({"task_id": "t", "log": "no", "_run": "no", "cancelled": True})
    metadata.update(Metadata(worker_id="w"))
    assert (metadata.task_id, metadata.worker_id, metadata.extra_thing) == ("t", "w", 1)
    assert metadata.cancelled is False
    metadata.log("into the void")


def test_output_reaches_the_current_run():
    sink, app = Sink(), BaseApp()
    run = ActiveRun("r", sink)
    with running(run):
        app.progress(7, "over")
        Metadata().log("50 %% of %s", "it")
        run.cancelled.set()
        assert Metadata().cancelled
    app.progress(0.1)
    assert sink.told == [("r", 1.0, "over")]
    assert sink.logs == [("50 % of it", "r")]


def test_everything_public_is_there():
    assert all(hasattr(infsh, name) for name in infsh.__all__)
