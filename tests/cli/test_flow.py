"""`eigenscope flow`: strict JSON alone on standard output, or a table; bad input is one line."""

import json

import pytest

FACTORIES = """
import torch
from torch import nn

DATA = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))

def chain(sigma, layers=50):
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(layers)])
    for layer in model:
        nn.init.orthogonal_(layer.weight, sigma)
    return model

def wave(model, batch):
    return (model(batch) + 0.3).sum() / 100

def exploding():
    print("this line is the model's own")
    return chain(1.1), wave, DATA

def healthy():
    return chain(1.0, 3), wave, DATA

def dead():
    return chain(0.0, 3), wave, DATA

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.body, self.head = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 9)

    def forward(self, ids):
        return self.head(self.body(self.embedding(ids)).tanh())

def words():
    torch.manual_seed(0)
    return Words(), wave, torch.arange(6).view(2, 3)

def broken():
    model = chain(1.0, 3)
    model.insert(2, nn.LogSigmoid())
    model[1].register_forward_hook(lambda module, args, out: out * float("nan"))
    return model, wave, DATA

def crashes():
    return chain(1.0, 3), lambda model, batch: model(batch[:, :3]).sum(), DATA

def no_tensor():
    return chain(1.0, 3), lambda model, batch: 1.0, DATA

def frozen():
    return chain(1.0, 3).requires_grad_(False), wave, DATA

def no_batches():
    return chain(1.0, 3), wave, []

def two_things():
    return chain(1.0, 3), wave
"""


@pytest.fixture
def mine(eigenscope, tmp_path):
    """A file of factories in the working folder."""
    (tmp_path / "mine.py").write_text(FACTORIES)
    return eigenscope


def strict(text: str) -> dict:
    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_is_strict_and_alone_on_standard_output(mine):
    ended = mine("flow", "mine.py:exploding", "--json")
    assert (ended.status, ended.err) == (0, "this line is the model's own\n")
    reading = strict(ended.out)
    assert {"blocks", "growth", "depth_factor", "verdict", "verdict_reason", "layer_at_fault", "remedies"} <= set(
        reading
    )
    assert (reading["verdict"], reading["layer_at_fault"]) == ("exploding", "0")
    assert (reading["growth"], reading["depth_factor"]) == pytest.approx((1.1, 117.39), rel=1e-3)
    assert [block["name"] for block in reading["blocks"]] == [str(i) for i in range(50)]


def test_a_block_has_its_quantities_with_their_errors(mine):
    block = strict(mine("flow", "mine.py:healthy", "--json").out)["blocks"][0]
    assert set(block["sigma_max"]) == {"value", "error"}
    assert set(block["sigma_rms"]) == {"value", "standard_error"}
    assert block["gradient_norm"].keys() == block["activation_norm"].keys() == {"input", "output"}
    assert block["shape"] == {"input": [6, 8], "output": [6, 8]}
    assert (block["sigma_min"], block["spectrum"], block["branch"], block["reason"]) == (None, None, None, None)


def test_or_its_reason(mine):
    blocks = strict(mine("flow", "mine.py:words", "--json").out)["blocks"]
    assert [block["name"] for block in blocks] == ["embedding", "body", "head"]
    assert blocks[0]["reason"] == "its inputs are integers: the flow starts at its output"
    assert blocks[0]["sigma_max"] == {"value": None, "reason": blocks[0]["reason"]}


def test_more_is_measured_on_request(mine):
    block = strict(mine("flow", "mine.py:healthy", "--json", "--sigma-min", "--spectrum").out)["blocks"][0]
    assert block["sigma_min"]["value"] == pytest.approx(1, rel=1e-4)
    assert block["spectrum"]["method"] == "exact"
    assert block["spectrum"]["sigma"] == pytest.approx([1.0] * 48, rel=1e-4)


def test_remedies_are_tried_on_request(mine):
    reading = strict(mine("flow", "mine.py:exploding", "--json").out)
    assert [remedy["tried"] for remedy in reading["remedies"]] == [None] * 5
    tried = strict(mine("flow", "mine.py:exploding", "--json", "--try").out)["remedies"]
    assert {remedy["name"] for remedy in tried} == {remedy["name"] for remedy in reading["remedies"]}
    for remedy in tried:
        assert {"verdict", "growth", "depth_factor", "sigma_max", "gradient_norm", "reason"} == set(remedy["tried"])
        assert remedy["what"]
        assert remedy["why"]
    assert tried[0]["tried"]["verdict"] == "healthy"


def test_a_dead_network_is_strict_json_too(mine):
    reading = strict(mine("flow", "mine.py:dead", "--json").out)
    assert (reading["verdict"], reading["layer_at_fault"], reading["depth_factor"]) == ("vanishing", "0", 0.0)
    assert [block["growth"] for block in reading["blocks"]] == [None, None, 0.0]


def test_the_table_holds_the_same_figures_as_the_json(mine):
    table = mine("flow", "mine.py:exploding").out
    reading = strict(mine("flow", "mine.py:exploding", "--json").out)
    assert table.startswith("EXPLODING")
    assert f"{reading['num_matvecs']} products" in table
    assert "clip_grad_norm_" in table


def test_blocks_may_be_named(mine):
    reading = strict(mine("flow", "mine.py:words", "--json", "--blocks", "body", "h*").out)
    assert [block["name"] for block in reading["blocks"]] == ["body", "head"]


def test_a_seed_gives_the_same_numbers_again(mine):
    first, second = (strict(mine("flow", "mine.py:words", "--json", "--seed", 5).out) for _ in range(2))
    for timed in ("seconds", "cost_in_gradients"):
        first.pop(timed), second.pop(timed)
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mine.py:words", "--blocks", "boddy"), "no module named 'boddy' runs on this batch; there are body"),
        (("mine.py:healthy", "--tolerance", 2), "tolerance=2: a relative error between 0 and 1 is needed"),
        (("mine.py:healthy", "--max-matvecs", 1), "max_matvecs=1: at least 2 products are needed"),
        (("mine.py:broken",), "layer '1' (Linear) gives NaN or infinity"),
        (("mine.py:crashes",), "loss_fn failed at "),
        (("mine.py:no_tensor",), "loss_fn returned a float: it must return the mean loss as a tensor"),
        (("mine.py:frozen",), "Sequential has no trainable parameter"),
        (("mine.py:no_batches",), "the probe is empty"),
        (("mine.py:two_things",), "mine.py:two_things returned a tuple of 2: it must return (model, loss_fn, batches)"),
        (("mine.py:nothing",), "'mine.py' has no function 'nothing'"),
        (("nowhere.py:f",), "there is no file 'nowhere.py'"),
    ],
)
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["table", "json"])
def test_bad_input_is_one_line_that_names_it(mine, arguments, words, form):
    line = mine("flow", *arguments, *form).complaint
    assert line.startswith("eigenscope: ")
    assert words in line
