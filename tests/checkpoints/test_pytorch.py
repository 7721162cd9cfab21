"""What torch.save writes is read without running any of it."""

import argparse
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from checkpoints import samples
from eigenscope.checkpoints import open_checkpoint
from eigenscope.checkpoints.pickles import read_pickle
from eigenscope.errors import CheckpointError


def saved(tmp_path: Path, what: Any, **options: Any) -> Path:
    path = tmp_path / "model.pt"
    torch.save(what, path, **options)
    return path


class Bomb:
    """Leaves a file behind wherever it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(zipped: bool, tmp_path: Path):
    witness = tmp_path / "ran"
    state = {"weight": torch.ones(2, 2), "bomb": Bomb(witness)}
    path = saved(tmp_path, state, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"model.pt: a pickle with code \(_?io.open\), which is never run: if you"
    ):
        open_checkpoint(path)
    assert not witness.exists()


def test_a_whole_module_is_code_too(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"a pickle with code \(torch.nn.modules.linear.Linear\)"):
        open_checkpoint(saved(tmp_path, nn.Linear(2, 2)))


def test_the_containers_that_all_weights_share_are_not_in_their_names(tmp_path: Path):
    state = OrderedDict(weight=torch.ones(3, 2))
    for what in (state, {"state_dict": state}, {"epoch": 1, "model": {"net": state}}, [state, "comment"]):
        assert [entry.name for entry in open_checkpoint(saved(tmp_path, what)).entries] == ["weight"]


def test_two_models_in_one_file_keep_their_names_apart(tmp_path: Path):
    path = saved(tmp_path, {"model": {"w": torch.ones(2, 2)}, "ema": {"w": torch.zeros(2, 2)}})
    assert [entry.name for entry in open_checkpoint(path).entries] == ["model.w", "ema.w"]


def test_the_optimizer_s_state_is_listed_with_the_reason_why_it_is_no_weight(tmp_path: Path):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    path = saved(tmp_path, {"model_state": model.state_dict(), "optimizer_state": optimizer.state_dict()})
    reasons = {entry.name: entry.aside for entry in open_checkpoint(path).entries}
    assert reasons["weight"] is None
    assert reasons["optimizer_state.state.0.exp_avg"] == "state of the optimizer"


def test_tied_tensors_are_told_and_views_of_one_storage_are_not_tied(tmp_path: Path):
    shared, base = torch.randn(4, 4), torch.randn(4, 6)
    state = {"wte": shared, "head": shared, "whole": base, "left": base[:, :3], "turned": base.T}
    checkpoint = open_checkpoint(saved(tmp_path, state))
    assert checkpoint.tied == {"head": "wte"}
    for name, tensor in state.items():
        assert torch.equal(checkpoint.load(name), tensor)


def test_plain_data_beside_the_weights_does_no_harm(tmp_path: Path):
    extras = {"args": argparse.Namespace(lr=0.1), "size": torch.Size([2]), "device": torch.device("cpu"), "set": {1, 2}}
    path = saved(tmp_path, {"model": nn.Linear(2, 2).state_dict(), **extras, "type": torch.float16, "c": 1j})
    assert [entry.name for entry in open_checkpoint(path).entries] == ["weight", "bias"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_every_pickle_protocol_is_read(protocol: int, zipped: bool, tmp_path: Path):
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    checkpoint = open_checkpoint(saved(tmp_path, samples.tensors(), **options))
    for name, tensor in samples.tensors().items():
        assert torch.equal(checkpoint.load(name), tensor)


def test_parameters_empty_and_scalar_tensors_are_read(tmp_path: Path):
    state = {"p": nn.Parameter(torch.ones(2, 2)), "empty": torch.zeros(0, 3), "scalar": torch.tensor(3.0)}
    checkpoint = open_checkpoint(saved(tmp_path, state))
    assert [entry.shape for entry in checkpoint.entries] == [(2, 2), (0, 3), ()]
    assert checkpoint.load("scalar").item() == 3.0
    assert checkpoint.load("empty").shape == (0, 3)


@pytest.mark.filterwarnings("ignore:.*quantize.*:DeprecationWarning", "ignore:.*quantiz.*:UserWarning")
def test_a_quantized_tensor_is_given_as_the_numbers_that_it_stands_for(tmp_path: Path):
    exact = torch.linspace(-1, 1, 64).view(8, 8)
    quantized = torch.quantize_per_tensor(exact, 2 / 255, 3, torch.qint8)
    checkpoint = open_checkpoint(saved(tmp_path, {"w": quantized}))
    (entry,) = checkpoint.entries
    assert (entry.dtype, entry.kind, entry.roundoff) == ("qint8", "quantized", 2**-8)
    assert torch.allclose(checkpoint.load("w"), quantized.dequantize(), atol=1e-7)


def test_a_sparse_tensor_is_listed_and_not_read(tmp_path: Path):
    path = saved(tmp_path, {"w": torch.ones(2, 2), "s": torch.eye(3).to_sparse()})
    checkpoint = open_checkpoint(path)
    assert {entry.name: entry.aside for entry in checkpoint.entries} == {"w": None, "s": "a sparse tensor"}
    with pytest.raises(CheckpointError, match="s can't be read: a sparse tensor"):
        checkpoint.load("s")


def test_a_tensor_that_claims_more_than_its_storage_is_damage(tmp_path: Path):
    path = saved(tmp_path, {"w": torch.ones(2, 2).expand(3, 2, 2)})
    with pytest.raises(CheckpointError, match=r"shape \(3, 2, 2\) claims more than the 4 values of its storage"):
        open_checkpoint(path)


def test_a_file_without_tensors_says_so(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"model.pt holds no tensors: name a file with a state_dict\(\)"):
        open_checkpoint(saved(tmp_path, {"epoch": 1}))


@pytest.mark.parametrize(("made", "kind"), [
    (lambda: torch.eye(3).to_sparse(), "a sparse tensor"),
    (lambda: torch.empty(3, 3, device="meta"), "a tensor without values"),
])  # fmt: skip
def test_a_file_whose_tensors_can_not_be_read_names_the_reason(tmp_path: Path, made: Callable[[], Tensor], kind: str):
    said = f"model.pt holds no tensor that can be read, only {kind}: save dense tensors with their values"
    with pytest.raises(CheckpointError, match=said):
        open_checkpoint(saved(tmp_path, {"w": made()}))


def test_another_programs_file_is_told_with_what_to_name_instead(tmp_path: Path):
    (tmp_path / "tokens.bin").write_bytes(b"\x07\x00\x00\x00abc")
    with pytest.raises(CheckpointError, match="it may be a tokenizer's; name the file with the weights, such as model"):
        open_checkpoint(tmp_path / "tokens.bin")


def test_a_pickle_that_torch_save_did_not_write_is_named_as_such(tmp_path: Path):
    path = tmp_path / "model.bin"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(CheckpointError, match=r"is a pickle of a list, not of torch.save"):
        open_checkpoint(path)


def test_torchscript_is_named_as_such(tmp_path: Path):
    path = tmp_path / "script.pt"
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.script(nn.Linear(2, 2)).save(str(path))
    with pytest.raises(CheckpointError, match=r"a TorchScript program, not plain weights: torch.jit.load it and save"):
        open_checkpoint(path)


def archive(path: Path, pickled: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in {"data.pkl": pickled, "byteorder": b"little", "data/0": bytes(64)}.items():
            file.writestr(f"x/{name}", content)
    return path


@pytest.mark.timeout(20)
@pytest.mark.parametrize("end", [b"Q.", b"ctorch._utils\n_rebuild_tensor\n(h\x00h\x00h\x00h\x00tR."])
def test_a_pickle_that_would_take_for_ever_to_print_is_refused_at_once(end: bytes, tmp_path: Path):
    """A persistent id, or the shape of a tensor, that is a tuple of two tuples of two tuples of …"""
    doubled = b"\x80\x02)q\x00" + b"h\x00h\x00\x86q\x00" * 60
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        open_checkpoint(archive(tmp_path / "x.pt", doubled + end))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("shape", [True, False])
def test_a_shape_or_stride_that_would_take_for_ever_to_print_is_refused_at_once(shape: bool, tmp_path: Path):
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x10tQ"
    doubled = b")q\x00" + b"h\x00h\x00\x86q\x00" * 60
    sizes = b"h\x00K\x04K\x01\x86" if shape else b"K\x04K\x04\x86h\x00"
    pickled = b"\x80\x02" + doubled + b"0ctorch._utils\n_rebuild_tensor\n(" + storage + b"K\x00" + sizes + b"tR."
    said = "a tensor of shape" if shape else "a tensor with the strides"
    with pytest.raises(CheckpointError, match=rf"\({said} \(a tuple, a tuple\)\)"):
        open_checkpoint(archive(tmp_path / "x.pt", pickled))


@pytest.mark.timeout(20)
def test_a_storage_s_key_that_would_take_for_ever_to_hash_is_refused_at_once(tmp_path: Path):
    """In the older layout the keys stand in a pickle of their own."""
    before = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}]
    keys = b"\x80\x02]" + b")" + b"2\x86" * 60 + b"a."  # DUP, TUPLE2
    path = tmp_path / "x.pt"
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in before) + keys)
    with pytest.raises(CheckpointError, match=r"a storage whose key is a tuple"):
        open_checkpoint(path)


@pytest.mark.timeout(20)
def test_lists_nested_without_an_end_are_refused_at_once(tmp_path: Path):
    pickled = b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."
    with pytest.raises(CheckpointError, match=r"x.pt: it nests over 100 containers: save the state_dict\(\) alone"):
        open_checkpoint(archive(tmp_path / "x.pt", pickled))


def test_a_state_dict_in_memory_nests_as_deep_and_no_deeper():
    def nested(depth: int) -> dict[str, Any]:
        return {"w": torch.ones(2, 2)} if depth == 0 else {"inner": nested(depth - 1)}

    assert len(open_checkpoint(nested(90)).entries) == 1
    with pytest.raises(CheckpointError, match="it nests over 100 containers"):
        open_checkpoint(nested(200))


def nested_tuples(depth: int) -> bytes:
    """A dict whose key is a tuple of two tuples of two tuples of …: hashing it takes 2^depth steps."""
    doubled = b"2\x86" * depth  # DUP, TUPLE2
    return b"\x80\x02})" + doubled + b"K\x01s."


def test_a_pickle_that_would_take_for_ever_to_hash_is_read_at_once():
    assert read_pickle(BytesIO(nested_tuples(60)), lambda *_: None, lambda _: None) == {"<class 'tuple'>": 1}
