"""ONNX: every tensor of main graph, subgraphs and functions, against the onnx package."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from checkpoints import samples
from eigenscope.checkpoints import open_checkpoint
from eigenscope.checkpoints.protobuf import packed
from eigenscope.errors import CheckpointError
from zoo import shared_data


def model(tmp_path: Path, initializers: list[TensorProto], nodes: list[onnx.NodeProto] | None = None) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes or [], "main", [], [], initializers)), path)
    return path


def test_main_graph_branches_and_constants_are_all_found(tmp_path: Path):
    checkpoint = open_checkpoint(samples.onnx_file(tmp_path))
    written = samples.tensors()
    expected = {
        "outer": written["layer.0.weight"],
        "constant": written["conv.weight"],
        "result/then_branch/inner": written["layer.1.weight"],
        "result/else_branch/inner": written["layer.1.weight"],
    }
    assert {entry.name for entry in checkpoint.entries} == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(checkpoint.load(name), tensor)


@pytest.mark.timeout(20)
def test_thousands_without_a_name_get_one_each(tmp_path: Path):
    tensor = helper.make_tensor("", TensorProto.FLOAT, [1], [1.0])
    checkpoint = open_checkpoint(model(tmp_path, [tensor] * 30_000))
    assert [entry.name for entry in checkpoint.entries[:3]] == ["tensor", "tensor #2", "tensor #3"]
    assert checkpoint.entries[-1].name == "tensor #30000"


NUMBERS = [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT8]


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("code", [*NUMBERS, TensorProto.INT64, TensorProto.UINT64, TensorProto.BOOL, TensorProto.INT32])
def test_values_are_read_as_bytes_and_as_lists(code: int, raw: bool, tmp_path: Path):
    """Half precision and small integers stand in lists of variable-length integers."""
    kind = helper.tensor_dtype_to_np_dtype(code)
    values = np.array([[0, 1, 3], [100, 7, 1]]).astype(kind)
    if code not in (TensorProto.BOOL, TensorProto.UINT64):
        values[1] *= np.array(-1).astype(kind)
    flat = values.flatten()
    tensor = helper.make_tensor(
        "w", code, values.shape, flat.tobytes() if raw else flat.astype(float).tolist(), raw=raw
    )
    loaded = open_checkpoint(model(tmp_path, [tensor])).load("w")
    assert loaded.double().tolist() == values.astype(float).tolist()


def test_a_list_of_integers_is_what_the_varints_say():
    numbers = [0, 1, 127, 128, 300, 2**31, 2**62, 2**63 - 1]
    encoded = b"".join(encode(number) for number in [*numbers, 2**64 - 5])
    assert packed(np.frombuffer(encoded, np.uint8)).tolist() == [*numbers, -5]
    with pytest.raises(ValueError, match="without an end"):
        packed(np.frombuffer(encoded[:-1], np.uint8))


def encode(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def external(tmp_path: Path, location: str) -> Path:
    tensor = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(3, 4), "w")
    onnx.external_data_helper.set_external_data(tensor, location, offset=16, length=48)
    tensor.data_location = TensorProto.EXTERNAL
    (tmp_path / "weights.bin").write_bytes(bytes(16) + tensor.raw_data)
    tensor.ClearField("raw_data")
    return model(tmp_path, [tensor])


def test_weights_beside_the_model_are_read(tmp_path: Path):
    checkpoint = open_checkpoint(external(tmp_path, "weights.bin"))
    assert checkpoint.load("w").flatten().tolist() == list(range(12))


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "sub/../../weights.bin", "link/passwd", ""])
def test_weights_outside_of_the_folder_are_refused(location: str, tmp_path: Path):
    (tmp_path / "link").symlink_to("/etc")
    checkpoint = open_checkpoint(external(tmp_path, location))
    with pytest.raises(CheckpointError, match="outside of its folder: that is refused"):
        checkpoint.load("w")


def test_weights_that_should_be_beside_the_model_are_named(tmp_path: Path):
    path = external(tmp_path, "weights.bin")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(CheckpointError, match=r"keeps weights in weights.bin, which is not beside it: copy it there"):
        open_checkpoint(path).load("w")


def of_graph(graph: onnx.GraphProto) -> Iterator[np.ndarray]:
    """Initializers and the tensors of nodes, however deep, by the onnx package."""
    yield from (numpy_helper.to_array(tensor) for tensor in graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield numpy_helper.to_array(attribute.t)
            if attribute.HasField("g"):
                yield from of_graph(attribute.g)


@pytest.mark.parametrize(("name", "count"), [("silero-vad-half.onnx", 172), ("super_resolution.onnx", 8)])
def test_real_models_hold_what_the_onnx_package_finds(name: str, count: int):
    path = shared_data(f"formats/{name}")
    expected = list(of_graph(onnx.load(path).graph))
    with open_checkpoint(path) as checkpoint:
        found = [checkpoint.load(entry.name).numpy() for entry in checkpoint.entries]
    assert len(found) == len(expected) == count
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
