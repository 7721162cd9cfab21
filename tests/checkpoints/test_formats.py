"""Every format gives back what its own library wrote, tensor by tensor, and says what it is before it is loaded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from checkpoints import samples
from eigenscope.checkpoints import Checkpoint, open_checkpoint
from eigenscope.checkpoints.registry import formats
from eigenscope.errors import CheckpointError
from zoo import shared_data

KERAS = {f"layers/{name}/vars/0": tensor for name, tensor in samples.tensors().items()}
WRITTEN: dict[str, tuple[str, dict[str, Tensor]]] = {
    **dict.fromkeys(["safetensors", "sharded"], ("", samples.tensors())),
    **dict.fromkeys(["pytorch", "pytorch_legacy", "npz", "npz_compressed"], ("", samples.tensors())),
    **dict.fromkeys(["hdf5", "keras"], ("keras", KERAS)),
}


def loaded(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return {entry.name: checkpoint.load(entry.name) for entry in checkpoint.entries}


def assert_holds(checkpoint: Checkpoint, expected: dict[str, Tensor]) -> None:
    """The same names, and the same values to the last bit."""
    found = loaded(checkpoint)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype is tensor.dtype, name
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("name", WRITTEN)
def test_what_was_written_is_read_bit_for_bit(name: str, tmp_path: Path):
    with open_checkpoint(samples.SAMPLES[name](tmp_path)) as checkpoint:
        assert_holds(checkpoint, WRITTEN[name][1])


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_shapes_and_types_are_known_before_anything_is_loaded(name: str, tmp_path: Path):
    with open_checkpoint(samples.SAMPLES[name](tmp_path)) as checkpoint:
        for entry in checkpoint.entries:
            tensor = checkpoint.load(entry.name)
            assert tuple(tensor.shape) == entry.shape
            assert (entry.kind == "integer") == (not tensor.is_floating_point() and not tensor.is_complex())
            assert (entry.kind == "complex") == tensor.is_complex()


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_a_file_is_recognized_by_what_is_in_it(name: str, tmp_path: Path):
    """ONNX alone has no mark of its own; a folder is known by the names in it."""
    path = samples.SAMPLES[name](tmp_path)
    if path.is_dir() or name == "onnx":
        return
    with open_checkpoint(path) as first, open_checkpoint(path.rename(tmp_path / "weights.of.a.model")) as second:
        assert (second.format, second.entries[-1].shape) == (first.format, first.entries[-1].shape)


def test_the_rounding_that_storage_implies_is_half_of_the_spacing(tmp_path: Path):
    types = {
        **{torch.float64: 2**-53, torch.float32: 2**-24, torch.float16: 2**-11, torch.bfloat16: 2**-8},
        **{torch.float8_e4m3fn: 2**-4, torch.float8_e5m2: 2**-3, torch.int32: 0.0},
    }
    state = {str(dtype): torch.ones(2, 2).to(dtype) for dtype in types}
    torch.save(state, tmp_path / "types.pt")
    for checkpoint in (open_checkpoint(state), open_checkpoint(tmp_path / "types.pt")):
        assert [entry.roundoff for entry in checkpoint.entries] == list(types.values())


def test_a_value_that_is_stored_in_less_is_off_by_at_most_the_roundoff():
    exact = torch.randn(100, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn):
        checkpoint = open_checkpoint({"w": exact.to(dtype)})
        off = (checkpoint.load("w").double() - exact).abs().max() / exact.abs().max()
        assert off <= checkpoint.entries[0].roundoff


def test_one_file_a_format():
    assert len({known.name for known in formats()}) == len(formats()) == 7


def test_a_tensor_that_is_not_there_is_an_error_with_the_nearest_names(tmp_path: Path):
    checkpoint = open_checkpoint(samples.safetensors(tmp_path))
    with pytest.raises(
        CheckpointError, match=r"model.safetensors has no tensor 'layer.0.wait': did you mean layer.0.we"
    ):
        checkpoint.load("layer.0.wait")


# -- the real files beside the project ------------------------------------------------------------------------------

PYTORCH = ["gpt-nano-sort.pt", "cifar-resnet20-12fca82f.th", "vit-mnist.pth", "simplecnn-noise5.pth"]


@pytest.mark.parametrize("name", [*PYTORCH, "realsn-simplecnn-noise5.pth"])
def test_real_files_hold_what_torch_load_finds(name: str):
    path = shared_data(f"weights/{name}")
    state = torch.load(path, weights_only=True, map_location="cpu")
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.format == "pytorch"
        assert_holds(checkpoint, state.get("state_dict", state))


def test_the_prefix_of_data_parallel_is_kept_as_stored():
    with open_checkpoint(shared_data("weights/cifar-resnet20-12fca82f.th")) as checkpoint:
        assert all(entry.name.startswith("module.") for entry in checkpoint.entries)


def test_gpt_2_keeps_its_shapes():
    with open_checkpoint(shared_data("weights/gpt2-small-block0.safetensors")) as checkpoint:
        shapes = {entry.name: entry.shape for entry in checkpoint.entries}
        weight = checkpoint.load("transformer.h.0.attn.c_attn.weight").double()
    assert shapes["transformer.h.0.attn.c_attn.weight"] == (768, 2304)
    values = torch.linalg.svdvals(weight)
    assert float(values.sum() ** 2 / (values**2).sum()) == pytest.approx(542.72, abs=0.01)


def test_stories_are_read_as_numpy_reads_them():
    path = shared_data("weights/stories260K.npz")
    with open_checkpoint(path) as checkpoint, np.load(path) as expected:
        assert_holds(checkpoint, {name: torch.from_numpy(expected[name]) for name in expected.files})
