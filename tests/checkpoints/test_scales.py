"""Quantized weights whose scales stand beside them."""

import json

import pytest
import torch
from safetensors.torch import save_file

from eigenscope.checkpoints import open_checkpoint
from eigenscope.checkpoints.scales import block_of

WEIGHT = "layers.0.weight"


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def by_blocks(values: torch.Tensor, scale: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Written out: each value times the factor of its block."""
    found = values.double().clone()
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            found[i, j] *= scale[i // rows, j // columns].double()
    return found


@pytest.mark.parametrize(("shape", "scale", "block"), [
    ((256, 384), (2, 3), (128, 128)), ((200, 130), (2, 2), (128, 128)), ((12, 16), (3, 2), (4, 8)),
    ((12, 16), (12, 1), (1, 16)), ((12, 16), (12,), (1, 16)), ((12, 16), (), (12, 16)), ((12, 16), (1,), (12, 16)),
    ((12, 16), (5, 2), None), ((12, 16), (2, 3, 2), None), ((12, 16), (0,), None),
])  # fmt: skip
def test_which_values_share_a_factor(shape, scale, block):
    """DeepSeek-V3: blocks of 128 × 128, the last ones smaller; compressed-tensors: rows, or the whole."""
    assert block_of(shape, scale) == block


@pytest.mark.parametrize(("ending", "scale"), [
    ("_scale_inv", torch.rand(2, 3) + 0.1), ("_scale", torch.rand(40, 1) + 0.1), ("_scale", torch.tensor(0.3)),
])  # fmt: skip
@pytest.mark.parametrize("where", ["memory", "file", "shards"])
def test_an_8_bit_weight_is_loaded_times_its_scale(ending, scale, where, tmp_path):
    weight = normal(40, 60).to(torch.float8_e4m3fn)
    state = {WEIGHT: weight, WEIGHT + ending: scale}
    source = {"memory": lambda _, state: state, "file": written, "shards": split}[where]
    block = block_of((40, 60), scale.shape)
    full = scale if scale.dim() == 2 else scale.reshape(1, 1)
    with open_checkpoint(source(tmp_path, state)) as checkpoint:
        expected = by_blocks(weight.float(), full, *block)
        torch.testing.assert_close(checkpoint.load(WEIGHT).double(), expected, rtol=1e-6, atol=0)
        aside = {entry.name: entry.aside for entry in checkpoint.entries}
    assert aside == {WEIGHT: None, WEIGHT + ending: f"the scale of {WEIGHT}: applied there"}


def written(folder, state):
    save_file(state, folder / "model.safetensors")
    return folder


def split(folder, state):
    """Weight and scale in two shards."""
    names = {name: f"model-0000{number}-of-00002.safetensors" for number, name in enumerate(state, 1)}
    for name, shard in names.items():
        save_file({name: state[name]}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return folder


def test_what_is_loaded_once_is_not_changed_by_loading_it_again(tmp_path):
    state = {WEIGHT: normal(8, 8).to(torch.float8_e4m3fn), f"{WEIGHT}_scale": torch.tensor(0.5)}
    checkpoint = open_checkpoint(state)
    assert torch.equal(checkpoint.load(WEIGHT), checkpoint.load(WEIGHT))


def test_a_scale_that_does_not_fit_leaves_both_in_the_ledger():
    checkpoint = open_checkpoint({WEIGHT: normal(12, 16).to(torch.float8_e5m2), f"{WEIGHT}_scale_inv": normal(5, 2)})
    aside = {entry.name: entry.aside for entry in checkpoint.entries}
    assert aside[WEIGHT] == "8-bit values with a scale of shape (5, 2), which is not known how to apply"
    assert aside[f"{WEIGHT}_scale_inv"].startswith(f"scales or zeros of {WEIGHT}")
