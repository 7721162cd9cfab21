"""The verdict over the depth: by two kinds of evidence, with the layer at fault."""

import json
import math

import pytest

from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.flow import BlockFlow, FlowReading, growth_of, judge


def block(name, growth, rms=None, *, largest=None, about="Linear", shape=((4, 8), (4, 8)), norms=None):
    """A block by its growth; a random signal passes it in the same way if not said otherwise."""
    rms = growth if rms is None else rms
    largest = 2 * max(rms, growth or 0.0) if largest is None else largest
    sigma, spread = Estimate(largest, error=0.0), Estimate(rms, standard_error=0.0)
    if norms is None and growth is not None:
        norms = (growth, 1.0)
    return BlockFlow(name, about, sigma, spread, growth=growth, gradient_norm=norms, shape=shape)


def chain(*growths, rms=None):
    return [block(str(index), growth, rms) for index, growth in enumerate(growths)]


@pytest.mark.parametrize(
    ("growth", "layers", "verdict"),
    [
        (1.1, 50, "exploding"),  # 117
        (1.1, 48, "healthy"),  # 97
        (0.9, 50, "vanishing"),  # 1/194
        (0.92, 50, "healthy"),  # 1/65
        (1.0, 500, "healthy"),
        (1.5, 50, "exploding"),
        (0.25, 50, "vanishing"),
    ],
)
def test_a_factor_of_a_hundred_over_the_depth_is_the_line(growth, layers, verdict):
    found = judge(chain(*[growth] * layers))
    assert found.name == verdict
    assert found.growth == pytest.approx(growth)
    assert found.depth_factor == pytest.approx(growth**layers)
    assert found.layers_at_fault == (() if verdict == "healthy" else tuple(str(i) for i in range(layers)))


def test_a_trained_network_whose_gradient_alone_grows_is_healthy():
    """The trained `gpt_nano_sort`: 135× over five blocks along few directions, a random signal keeps its size."""
    growths = [135 ** (1 / 5)] * 5
    assert judge(chain(*growths, rms=1.1)).name == "healthy"
    assert judge(chain(*growths, rms=1.7)).name == "exploding", "1.7⁵ = 14 for a random signal too"


def test_a_gradient_that_grows_ten_thousand_times_needs_no_other_evidence():
    assert judge(chain(*[2.0] * 14, rms=1.0)).name == "exploding"  # 16,384
    assert judge(chain(*[2.0] * 13, rms=1.0)).name == "healthy"  # 8,192
    assert judge(chain(*[0.5] * 14, rms=1.0)).name == "vanishing"


def test_evidence_that_points_the_other_way_is_none():
    assert judge(chain(*[1.5] * 15, rms=0.5)).name == "healthy"


def test_a_hump_on_the_way_counts_though_the_ends_agree():
    """Up 10⁴ and down again: the layers in the middle drown out the others."""
    found = judge(chain(*[0.1] * 4, *[10.0] * 4))
    assert found.name == "exploding"
    assert found.depth_factor == pytest.approx(1)
    assert found.layers_at_fault == ("4", "5", "6", "7")


@pytest.mark.parametrize(("push", "name"), [(40.0, "exploding"), (1 / 40, "vanishing")])
def test_one_block_may_be_at_fault_alone(push, name):
    growths = [1.0] * 50
    growths[17] = push
    found = judge(chain(*growths))
    assert (found.name, found.layers_at_fault) == (name, ("17",))
    assert "in 17 (Linear) it goes" in found.reason


@pytest.mark.parametrize(
    "benign",
    [
        block("norm", 40.0, about="LayerNorm"),
        block("pool", 1 / 40, about="AdaptiveAvgPool2d + Flatten", shape=((4, 3, 64), (4, 3))),
        block("head", 40.0, 1.0),
        block("small", 25.0),
    ],
    ids=lambda block: block.name,
)
def test_one_block_that_rescales_by_design_is_no_fault(benign):
    assert judge([*chain(1.0, 1.0), benign]).name == "healthy"


def test_of_uneven_layers_those_that_push_are_at_fault():
    found = judge(chain(1.0, 0.9, 8.0, 1.0, 1.1, 9.0, 1.0, 7.0))
    assert (found.name, found.layers_at_fault) == ("exploding", ("2", "5", "7"))


def test_a_jacobian_of_zero_is_at_fault_whatever_comes_before_it():
    blocks = [block("0", None, 0.0, largest=0.0, norms=(0.0, 0.0)), block("1", 1.2), block("2", 0.0, 0.0, largest=0.0)]
    found = judge(blocks)
    assert (found.name, found.layers_at_fault) == ("vanishing", ("0", "2"))
    assert (found.growth, found.depth_factor) == (0.0, 0.0)
    assert "the Jacobian is 0 (weights of 0, or units that are all off)" in found.reason


def test_a_block_that_passes_all_but_what_the_loss_asks_for():
    found = judge([block("0", None, 1.0, norms=(0.0, 0.0)), block("1", 0.0, 1.0, largest=1.0)])
    assert (found.name, found.layers_at_fault) == ("vanishing", ("1",))
    assert "in the one direction that the loss asks for" in found.reason


def test_a_loss_without_gradient_is_no_blocks_fault():
    found = judge([block(name, None, 1.0, norms=(0.0, 0.0)) for name in "abc"])
    assert (found.name, found.layers_at_fault, found.growth) == ("unresolved", (), None)
    assert found.reason == "the loss has no gradient at any block's output: there is nothing to follow"


def test_without_a_measured_block_nothing_is_resolved():
    missing = BlockFlow.missing("a", "Embedding", "its inputs are integers")
    assert judge([missing]).reason == "no block could be measured"
    assert judge([]).reason == "no module of the model runs when loss_fn is called"
    infinite = block("a", None, 1.0, norms=(math.inf, math.inf))
    assert judge([infinite]).reason == "the gradient is not finite at any block"


def test_blocks_without_numbers_are_passed_over():
    found = judge([BlockFlow.missing("e", "Embedding", "integers"), *chain(*[1.1] * 50)])
    assert found.depth_factor == pytest.approx(117.39, rel=1e-4)


@pytest.mark.parametrize(
    ("growths", "words"),
    [
        ([1.0, 1.0], "over 2 blocks, from the last to the first, the gradient's norm stays as it is"),
        ([2.0], "over 1 block, from the last to the first, the gradient's norm goes up 2×"),
        ([1.5] * 20, "goes up 3,330×; in 0 (Linear) it goes up 1.5×"),
        ([0.1] * 9, "goes down 1e+09×; in 0 (Linear) it goes down 10×"),
    ],
)
def test_the_reason_is_a_sentence(growths, words):
    assert words in judge(chain(*growths)).reason


def test_growth_is_not_known_where_no_gradient_arrives():
    assert growth_of(1.0, 4.0) == 0.25
    assert growth_of(0.0, 4.0) == 0.0
    assert growth_of(1.0, 0.0) is None
    assert growth_of(math.inf, 1.0) is None


def test_a_reading_is_strict_json():
    one = block("a", None, 1.0, norms=(math.inf, math.nan))
    reading = FlowReading(
        (one,), None, None, "unresolved", "", (), (), 1.0, math.nan, 4, 3, 2.0, 0.1, notes=("a note",)
    )  # fmt: skip
    plain = json.loads(json.dumps(reading.to_dict(), allow_nan=False))
    assert plain["blocks"][0]["gradient_norm"] == {"input": None, "output": None}
    assert plain["gradient_norm"] is None
    assert plain["notes"] == ["a note"]
