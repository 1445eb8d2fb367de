"""The committed messages are what inference.proto says."""

import subprocess
import sys
from pathlib import Path

import pytest

import mien
from mien.nodes.proto.inference_pb2 import Capability, InferRequest, InferResponse, IOTask

SOURCE = Path(mien.__file__).parent.parent


def test_the_generated_messages_are_current(tmp_path: Path) -> None:
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([*protoc, "mien/nodes/proto/inference.proto"], cwd=SOURCE, check=True)
    for name in ("inference_pb2.py", "inference_pb2.pyi"):
        path = Path("mien/nodes/proto") / name
        assert (SOURCE / path).read_text() == (tmp_path / path).read_text(), f"{name} is out of date: `make proto`"


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (InferRequest, "correlation_id task payload meta payload_mime seq total offset"),
        (InferResponse, "correlation_id is_final result meta error seq total offset result_mime result_schema"),
        (Capability, "service_name model_ids runtime max_concurrency precisions extra tasks protocol_version"),
        (IOTask, "name input_mimes output_mimes limits tensor_preprocess_id tensor_batching_supported"),
    ],
)
def test_the_numbers_of_the_fields_are_those_of_the_contract(message: type, fields: str) -> None:
    descriptor = message.DESCRIPTOR  # type: ignore[attr-defined]
    assert {field.number: field.name for field in descriptor.fields} == dict(enumerate(fields.split(), 1))
    assert descriptor.file.package == "home_native.v1"
