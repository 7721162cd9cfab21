"""A model in memory and its state dict."""

import numpy as np
import pytest
import torch
from torch import nn

from eigenscope.checkpoints import open_checkpoint
from eigenscope.errors import CheckpointError


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("mask", torch.ones(4, 4), persistent=False)


def test_parameters_and_buffers_are_entries_and_tied_ones_are_told():
    checkpoint = open_checkpoint(Tied())
    reasons = {entry.name: entry.aside for entry in checkpoint.entries}
    assert reasons == {
        **dict.fromkeys(["embedding.weight", "head.weight", "norm.weight", "norm.bias"]),
        **dict.fromkeys(["norm.running_mean", "norm.running_var", "norm.num_batches_tracked", "mask"], "a buffer"),
    }
    assert checkpoint.tied == {"head.weight": "embedding.weight"}
    assert (checkpoint.name, checkpoint.format) == ("Tied", "module")


def test_a_state_dict_keeps_what_is_tied_and_may_be_nested():
    checkpoint = open_checkpoint({"model": Tied().state_dict()})
    assert checkpoint.tied == {"head.weight": "embedding.weight"}


def test_two_views_of_one_tensor_are_not_tied():
    base = torch.randn(4, 4)
    checkpoint = open_checkpoint(
        {"a": base, "transposed": base.T, "half": base[:2], "empty": base[:0], "none": base[:0]}
    )
    assert checkpoint.tied == {}
    assert torch.equal(checkpoint.load("transposed"), base.T)


def test_what_is_loaded_has_no_graph():
    assert not open_checkpoint(nn.Linear(2, 2)).load("weight").requires_grad


def test_a_tensor_without_values_is_refused():
    with torch.device("meta"):
        model = nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match="Linear: weight is on the meta device, without values: load the weights"):
        open_checkpoint(model).load("weight")


@pytest.mark.parametrize("kind", ["<f4", ">f4", "f8", "longdouble", "c8", ">i2", "?"])
def test_numpy_arrays_are_tensors_too(kind: str):
    array = np.arange(12).reshape(3, 4).astype(kind)
    views = array, array[::-1], array.T[:, ::2]
    array.flags.writeable = False
    for view in views:
        found = open_checkpoint({"w": view, "name": np.array(["x"])})
        assert [entry.name for entry in found.entries] == ["w"]
        np.testing.assert_array_equal(found.load("w").numpy(), view)


@pytest.mark.parametrize("source", [nn.ReLU(), {}, {"a": 1}, {"a": np.array(["x"])}])
def test_nothing_to_read_says_so(source: object):
    with pytest.raises(CheckpointError, match="holds no tensors or arrays: hand in a model, its state_dict"):
        open_checkpoint(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [None, 7, "", [1]])
def test_what_is_no_checkpoint_at_all_says_so(source: object):
    with pytest.raises(CheckpointError, match="is no checkpoint: hand in a path, an id, a model or a state dict"):
        open_checkpoint(source)  # type: ignore[arg-type]
