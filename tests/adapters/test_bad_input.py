"""What can't be done is said in one line that names the thing and the remedy, and leaves nothing behind."""

import errno
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from adapters.models import write_adapter
from eigenscope.adapters.adapter import ADAPTER
from eigenscope.adapters.extracting import extract_lora
from eigenscope.adapters.merging import merge_lora
from eigenscope.adapters.resizing import resize_lora
from eigenscope.adapters.storing import Slot, write_safetensors
from eigenscope.errors import CheckpointError, InputError
from eigenscope.folders import new_folder


def weights(**changed):
    """Two blocks and a norm; a keyword replaces a tensor, None leaves it out."""
    names = ("blocks.0.fc.weight", "blocks.1.fc.weight", "norm.weight")
    found = {name: torch.randn(16, 12) if "fc" in name else torch.ones(12) for name in names}
    found |= {key.replace("__", "."): value for key, value in changed.items()}
    return {name: value for name, value in found.items() if value is not None}


def test_two_models_of_different_architectures():
    base = weights()
    with pytest.raises(InputError, match=r"blocks.1.fc.weight is \(16, 12\) in state dict and \(16, 10\)"):
        extract_lora(base, weights(blocks__1__fc__weight=torch.randn(16, 10)))
    with pytest.raises(InputError, match=r"lacks blocks.1.fc.weight, which state dict has: are they of one arch"):
        extract_lora(base, weights(blocks__1__fc__weight=None))
    with pytest.raises(InputError, match=r"lacks blocks.2.fc.weight, which state dict has"):
        extract_lora(base, weights(blocks__2__fc__weight=torch.randn(16, 12)))
    with pytest.raises(InputError, match="have no tensor in common"):
        extract_lora(base, {"other.weight": torch.randn(3, 3)})


def test_nothing_that_changed():
    base = weights()
    with pytest.raises(InputError, match="hold the same values: there is nothing to extract"):
        extract_lora(base, base)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("role", ["base", "tuned"])
def test_a_value_that_is_not_finite_is_named(role, value):
    base, tuned = weights(), weights()
    (base if role == "base" else tuned)["blocks.1.fc.weight"][2, 3] = value
    with pytest.raises(CheckpointError, match=r"blocks.1.fc.weight holds NaN or infinity: no adapter can be made"):
        extract_lora(base, tuned)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 13}, "rank=13 is not possible: the largest layer has a rank of 12 at most"),
        ({"rank": 0}, "rank=0 is not possible: at least 1 is needed"),
        ({"rank": "best"}, "rank='best' is none: give a number"),
        ({"rank": True}, "rank=True is none"),
        ({"energy": 1.5}, "energy=1.5 is no share: give more than 0 and at most 1"),
        ({"energy": float("nan")}, "energy=nan is no share"),
        ({"dtype": "float8"}, "dtype='float8' is unknown"),
    ],
)
def test_options_that_are_not_possible(options, message):
    base = weights()
    with pytest.raises(InputError, match=message):
        extract_lora(base, weights(), **options)


def test_an_adapter_is_no_tuned_model(tmp_path):
    key = "base_model.model.blocks.0.fc.lora_{}.weight"
    write_adapter(tmp_path / "adapter", {key.format("A"): torch.ones(1, 12), key.format("B"): torch.ones(16, 1)})
    with pytest.raises(InputError, match="TUNED, adapter, is an adapter already"):
        extract_lora(weights(), tmp_path / "adapter")


def test_a_model_where_only_norms_can_change_has_nothing_to_stand_beside():
    model = nn.Sequential(nn.LayerNorm(4), nn.LayerNorm(4))
    tuned = nn.Sequential(nn.LayerNorm(4), nn.LayerNorm(4))
    nn.init.constant_(tuned[0].weight, 2.0)
    with pytest.raises(InputError, match="PEFT needs a layer to stand beside"):
        extract_lora(model, tuned)


@pytest.fixture
def adapter():
    base = weights()
    tuned = {**base, "blocks.0.fc.weight": base["blocks.0.fc.weight"] + torch.outer(torch.ones(16), torch.ones(12))}
    return extract_lora(base, tuned)


def test_by_force_nothing_but_the_adapter_in_a_folder_is_replaced(adapter, tmp_path):
    out = tmp_path / "adapter"
    adapter.save(out)
    (out / "checkpoint-100").mkdir()
    (out / "checkpoint-100" / "optimizer.pt").write_text("a week of training")
    with pytest.raises(InputError, match=r"exists: give another folder, or force to replace it"):
        adapter.save(out)
    (out / "adapter_config.json").write_text("{}")
    adapter.save(out, force=True)
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "checkpoint-100",
    ]  # fmt: skip
    assert (out / "adapter_config.json").read_text() != "{}"
    assert (out / "checkpoint-100" / "optimizer.pt").read_text() == "a week of training"
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_what_an_adapter_was_made_of_is_not_written_over(tmp_path):
    base, tuned = weights(), weights()
    for name, values in (("base", base), ("tuned", tuned)):
        (tmp_path / name).mkdir()
        save_file(values, tmp_path / name / "model.safetensors")
    made = extract_lora(tmp_path / "base", tmp_path / "tuned", rank=2)
    for out in ("base", "tuned", "tuned/adapter"):
        with pytest.raises(InputError, match="which is read: give another folder"):
            made.save(tmp_path / out, force=True)
    made.save(tmp_path / "adapter")
    with pytest.raises(InputError, match="which is read: give another folder"):
        resize_lora(tmp_path / "adapter", 1).save(tmp_path / "adapter", force=True)


def test_a_single_layer_has_no_name_for_peft():
    with pytest.raises(InputError, match=r"Linear is a single layer, without a name for PEFT to find: put it in nn"):
        extract_lora(nn.Linear(16, 16), nn.Linear(16, 16))


def test_norms_of_different_sizes_are_no_grown_vocabulary():
    with pytest.raises(InputError, match=r"norm.weight is \(12,\) in state dict and \(8,\)"):
        extract_lora(weights(), weights(norm__weight=torch.ones(8)))


def test_a_full_disk_half_way_leaves_nothing(tmp_path):
    """/dev/full takes no byte: the write fails as on a full disk."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full, which Linux has")

    def write():
        with new_folder(tmp_path / "out", ADAPTER) as partial:
            (partial / "model.safetensors").symlink_to("/dev/full")
            write_safetensors(partial / "model.safetensors", [Slot("a", (3,), torch.float32)], iter([torch.ones(3)]))

    with pytest.raises(InputError, match=r"can't be written \(No space left on device\): nothing was left there"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_half_way_leaves_what_was_there(adapter, tmp_path):
    adapter.save(tmp_path / "out")
    before = (tmp_path / "out" / "adapter_model.safetensors").read_bytes()

    def interrupted():
        yield torch.ones(3)
        raise KeyboardInterrupt

    def write():
        with new_folder(tmp_path / "out", ADAPTER, force=True) as partial:
            slots = [Slot("a", (3,), torch.float32), Slot("b", (3,), torch.float32)]
            write_safetensors(partial / "model.safetensors", slots, interrupted())

    with pytest.raises(KeyboardInterrupt):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == before


def test_a_merge_that_fails_leaves_nothing(tmp_path):
    base = weights(blocks__1__fc__weight=torch.full((16, 12), 3e38))
    save_file(base, tmp_path / "base.safetensors")
    key = "base_model.model.blocks.1.fc.lora_{}.weight"
    write_adapter(
        tmp_path / "adapter", {key.format("A"): torch.ones(1, 12), key.format("B"): torch.full((16, 1), 3e38)}
    )
    with pytest.raises(CheckpointError, match="with the adapter holds NaN or infinity: not written"):
        merge_lora(tmp_path / "base.safetensors", tmp_path / "adapter", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base.safetensors"]


def test_the_writer_s_files_are_what_safetensors_reads(tmp_path):
    generator = torch.Generator().manual_seed(0)
    kinds = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
    tensors = {f"a {kind}": (10 * torch.randn(3, 4, generator=generator)).to(kind) for kind in kinds}
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4), "turned": torch.arange(6.0).view(2, 3).T}
    slots = [Slot(name, tuple(value.shape), value.dtype) for name, value in tensors.items()]
    write_safetensors(tmp_path / "x.safetensors", slots, iter(tensors.values()), {"alias": "scalar"})
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in tensors.items())
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "alias": "scalar"}


def test_a_disk_error_is_told_with_its_reason(tmp_path):
    with (
        pytest.raises(InputError, match=r"can't be written \(Disk quota exceeded\)"),
        new_folder(tmp_path / "out", ADAPTER),
    ):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    assert list(tmp_path.iterdir()) == []
