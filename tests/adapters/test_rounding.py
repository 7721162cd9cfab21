"""The edge of the rounding holds what rounding does, and little more: measured on matrices that were only rounded."""

import copy

import pytest
import torch

from adapters.models import FAMILIES, loaded, logits, made
from eigenscope.adapters.extracting import extract_lora
from eigenscope.adapters.rounding import is_rounding, roundings
from eigenscope.checkpoints import Entry
from eigenscope.errors import InputError

SHAPES = [(32, 32), (64, 256), (256, 64), (300, 300)]
HALF = [torch.bfloat16, torch.float16]


def entry(dtype):
    return Entry.of("w", (1, 1), dtype)


def weights(shape, spread, seed):
    """Gaussian, with rows of very different sizes where `spread` is set: outliers of language models."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(shape, generator=generator)
    return matrix * torch.logspace(0, spread, shape[0])[:, None]


def found(base, tuned):
    change = tuned.double() - base.double()
    return roundings(base, tuned, change, (entry(base.dtype), entry(tuned.dtype)))


@pytest.mark.parametrize("spread", [0.0, 2.0])
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_rounding_of_storage_stays_below_its_edge(shape, dtype, spread):
    """A small change of full rank, well below the spacing, is there too: as after a little training."""
    for seed in range(20):
        base = weights(shape, spread, seed)
        tuned = (base * (1 + 1e-4 * weights(shape, 0.0, 100 + seed))).to(dtype)
        pair = (base.to(dtype), tuned)
        certain, possible = found(*pair)
        norm = float(torch.linalg.matrix_norm(pair[1].double() - pair[0].double(), 2))
        assert certain == possible
        assert norm < certain.edge
        assert certain.edge < 1.25 * 6 * max(norm, 1e-30) or spread or norm < 0.3 * certain.edge


@pytest.mark.parametrize("dtype", HALF)
def test_the_expected_energy_is_what_rounding_both_leaves(dtype):
    base = weights((300, 300), 0.0, 0)
    tuned = base + 3.0 * weights((300, 300), 0.0, 1)  # the roundings are then independent of each other
    rounded = base.to(dtype), tuned.to(dtype)
    left = (rounded[1].double() - rounded[0].double()) - (tuned.double() - base.double())
    _, possible = found(*rounded)
    assert possible.energy == pytest.approx(float((left**2).sum()), rel=0.05)
    assert possible.explains(float((left**2).sum()))
    assert not possible.explains(0.5 * float((left**2).sum()))


def test_bf16_that_was_saved_as_fp32_is_still_bf16():
    base = weights((64, 64), 0.0, 0)
    fine = found(base, base + 1e-3)[0].edge
    coarse = found(base, (base + 1e-3).bfloat16().float())[0].edge
    stored = found(base, (base + 1e-3).bfloat16())[0].edge
    assert coarse == pytest.approx(stored, rel=1e-6)
    assert fine < 1e-3 * coarse


def test_a_coarse_base_is_exact_where_the_tuned_model_is_finer():
    base = weights((64, 64), 0.0, 0).bfloat16()
    certain, possible = found(base, base.float() + 0.01)
    assert certain.edge < 0.01 * possible.edge


@pytest.mark.parametrize("dtype", HALF)
def test_the_same_number_in_two_types_is_told_from_a_change(dtype):
    base = weights((50, 40), 1.0, 0)
    pair = (entry(torch.float32), entry(dtype))
    assert is_rounding(base, base.to(dtype), pair)
    moved = base.to(dtype)
    moved[3, 3] *= 1.02
    assert not is_rounding(base, moved, pair)


def test_one_step_in_the_same_type_is_a_change():
    base = torch.ones(5, dtype=torch.bfloat16)
    moved = base.clone()
    moved[0] += 2**-7
    assert not is_rounding(base, moved, (entry(torch.bfloat16), entry(torch.bfloat16)))


@pytest.mark.parametrize("dtype", HALF)
def test_a_coarser_base_hides_rounding_alone(dtype):
    """TUNED may have moved within the rounding of BASE: then the difference is not of the size that rounding has."""
    tuned = weights((50, 40), 1.0, 0)
    base, pair = tuned.to(dtype), (entry(dtype), entry(torch.float32))
    assert is_rounding(base, tuned, pair)
    step = torch.finfo(dtype).eps / 4 * base.float().abs()
    assert not is_rounding(base, base.float() + 0.6 * step * torch.sign(tuned - base.float()), pair)
    assert not is_rounding(torch.ones(64, dtype=dtype), torch.ones(64) - 0.4 * torch.finfo(dtype).eps, pair)


@pytest.mark.filterwarnings("ignore")
def test_norms_that_training_moved_within_the_rounding_of_the_base_are_brought(tmp_path):
    base = made(FAMILIES["llama"][0], dtype=torch.float32).bfloat16()
    tuned = copy.deepcopy(base).float()
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "norm" in name:
                parameter += 0.0019 * torch.sign(torch.randn(parameter.shape))
    adapter = extract_lora(base, tuned)
    adapter.save(tmp_path / "adapter")
    assert adapter.report.rounded == ()
    assert torch.allclose(logits(loaded(copy.deepcopy(base).float(), tmp_path / "adapter")), logits(tuned), atol=1e-5)


def test_what_is_left_out_as_rounding_is_told():
    stored = {"a.fc.weight": torch.randn(40, 30), "norm.weight": 1 + 0.1 * torch.randn(30)}
    base = {name: value.bfloat16() for name, value in stored.items()}
    tuned = {**stored, "a.fc.weight": base["a.fc.weight"].float() + torch.outer(torch.randn(40), torch.randn(30))}
    adapter = extract_lora(base, tuned)
    assert adapter.report.rounded == ("norm.weight",)
    assert "norm.weight: the difference is no more than the rounding of the storage, and is left out" in (
        adapter.report.notes
    )
    with pytest.raises(InputError, match=r"differ in norm.weight alone, by no more than the rounding of their storage"):
        extract_lora(base, {**base, "norm.weight": stored["norm.weight"]})
