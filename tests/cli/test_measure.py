"""`eigenscope measure`: strict JSON alone on standard output, or a table; bad input is one line."""

import json
import math

import pytest

FACTORIES = """
import torch
from torch import nn

DATA = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))

def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))

def square(model, batch):
    return model(batch).square().mean()

def factory():
    print("this line is the model's own")
    return model(), square, list(DATA.split(8))

def linear():
    return nn.Linear(3, 1), lambda model, batch: model(batch).mean(), DATA

def a_number():
    return 3

def two_things():
    return model(), square

def no_module():
    return 1, square, DATA

def no_loss():
    return model(), None, DATA

def crashes():
    raise RuntimeError("first\\nsecond")

def exits():
    raise SystemExit(3)

def a_vector():
    return model(), lambda model, batch: model(batch).square(), DATA

def not_a_tensor():
    return model(), lambda model, batch: 0.5, DATA

def infinite():
    return model(), lambda model, batch: square(model, batch) / 0, DATA

def without_gradient():
    return model(), lambda model, batch: square(model, batch).detach(), DATA

def loss_crashes():
    return model(), lambda model, batch: model(batch[:, :2]).mean(), DATA

def nan_weight():
    broken = model()
    broken[2].weight.data[0, 1] = float("nan")
    return broken, square, DATA

def frozen():
    return model().requires_grad_(False), square, DATA

def no_batches():
    return model(), square, []

def a_generator():
    return model(), square, iter(DATA)

not_a_function = 3
"""

RESTLESS = """
stream = torch.Generator().manual_seed(1)

def restless():
    return model(), lambda model, batch: square(model, batch + torch.randn(batch.shape, generator=stream)), DATA
"""

# The "Curvature" table of the design: these names, and no others for the same things.
NAMES = [
    *("lambda_max", "lambda_min", "spectral_radius", "resolution", "noise_floor", "condition_number"),
    *("condition_status", "condition_mean", "iterations_to_halve", "negative_count_certified"),
    *("negative_count_estimate", "negative_share", "verdict", "escape", "trace", "density", "stability_ratio"),
    *("sharpness_score", "gradient_norm", "num_matvecs", "cost_in_gradients", "probe_samples", "method"),
]
WITH_AN_ERROR = {
    "error": ("lambda_max", "lambda_min", "spectral_radius", "negative_share"),
    "sampling_error": ("lambda_max", "lambda_min"),
    "standard_error": ("condition_mean", "negative_count_estimate", "trace"),
}


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
    ended = mine("measure", "mine.py:factory", "--json")
    assert ended.status == 0
    assert ended.err == "this line is the model's own\n"
    assert set(NAMES) <= set(strict(ended.out))


def test_numbers_come_with_the_errors_that_the_design_names(mine):
    reading = strict(mine("measure", "mine.py:factory", "--json").out)
    for error, names in WITH_AN_ERROR.items():
        for name in names:
            assert math.isfinite(reading[name][error]), f"{name} has no {error}"
            assert "value" in reading[name]


def test_what_can_not_be_given_is_null_with_a_reason(mine):
    reading = strict(mine("measure", "mine.py:linear", "--json").out)
    for name in ("condition_number", "iterations_to_halve", "stability_ratio", "sharpness_score"):
        assert reading[name]["value"] is None
        assert reading[name]["reason"]


def test_the_table_holds_the_same_figures_as_the_json(mine):
    table = mine("measure", "mine.py:factory").out
    reading = strict(mine("measure", "mine.py:factory", "--json").out)
    assert reading["verdict"].replace("_", " ").upper() in table
    assert f"{reading['lambda_max']['value']:.4g}" in table
    assert f"{reading['num_matvecs']} products" in table


def test_a_seed_gives_the_same_numbers_again(mine):
    first, second = (strict(mine("measure", "mine.py:factory", "--json", "--seed", 5).out) for _ in range(2))
    for timed in ("seconds", "cost_in_gradients"):
        first.pop(timed), second.pop(timed)
    assert first == second


def test_settings_reach_the_measurement(mine):
    options = "--matrix gauss_newton --method double_backward_recomputed --top 3 --memory-limit 0.5 --train-mode"
    reading = strict(mine("measure", "mine.py:factory", "--json", *options.split()).out)
    assert (reading["matrix"], reading["method"]) == ("gauss_newton", "double_backward_recomputed")
    assert len(reading["top_eigenvalues"]) == 3


def test_a_dotted_module_is_found_in_the_working_folder(mine, tmp_path):
    package = tmp_path / "models_of_mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "small.py").write_text(FACTORIES)
    assert mine("measure", "models_of_mine.small:factory", "--json").status == 0


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("mine.py", "'mine.py' is not MODULE:NAME"),
        ("mine.py:", "is not MODULE:NAME"),
        ("nowhere.py:factory", "there is no file 'nowhere.py'"),
        ("no.such.module:factory", "there is no module 'no'"),
        ("mine.py:xyzzy", "'mine.py' has no function 'xyzzy': there are a_generator, a_number, "),
        ("mine.py:factry", "'mine.py' has no function 'factry': did you mean 'factory'?"),
        ("mine.py:not_a_function", "'mine.py' has no function 'not_a_function'"),
        ("mine.py:a_number", "returned a value of type int: it must return (model, loss_fn, batches)"),
        ("mine.py:two_things", "returned a tuple of 2: it must return (model, loss_fn, batches)"),
        ("mine.py:no_module", "it must return (model, loss_fn, batches)"),
        ("mine.py:no_loss", "it must return (model, loss_fn, batches)"),
        ("mine.py:crashes", "mine.py:34: RuntimeError: first second"),
        ("mine.py:exits", "mine.py:37: SystemExit: 3"),
        ("mine.py:a_vector", "loss_fn returned shape (32, 1): it must return a scalar (use .mean())"),
        ("mine.py:not_a_tensor", "loss_fn returned a float: it must return the mean loss as a tensor"),
        ("mine.py:infinite", "the loss of probe batch 0 is inf: it must be finite"),
        ("mine.py:without_gradient", "the loss does not depend on any trainable parameter"),
        ("mine.py:loss_crashes", "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        ("mine.py:nan_weight", "parameter '2.weight' holds NaN or infinity"),
        ("mine.py:frozen", "Sequential has no trainable parameter"),
        ("mine.py:no_batches", "the probe is empty: pass at least one batch"),
        ("mine.py:a_generator", "pass one batch or a list of batches"),
    ],
)
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["table", "json"])
def test_bad_input_is_one_line_that_names_it(mine, target, words, form):
    line = mine("measure", target, *form).complaint
    assert line.startswith("eigenscope: ")
    assert words in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--max-matvecs", 3), "max_matvecs=3 is too little: at least 8 is needed"),
        (("--top", 0), "top=0 is too little: at least 1 is needed"),
        (("--memory-limit", 0), "memory_limit=0: a number of bytes over 0 is needed"),
        (("--tolerance", 0), "tolerance=0.0 is too little"),
        (("--matrix", "fisher"), "invalid choice: 'fisher'"),
        (("--method", "guess"), "invalid choice: 'guess'"),
    ],
)
def test_bad_settings_are_one_line(mine, options, words):
    assert words in mine("measure", "mine.py:linear", *options).complaint


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import no_such_package",
            "importing 'broken.py' failed: ModuleNotFoundError: No module named 'no_such_package'",
        ),
        ("def factory(:", "importing 'broken.py' failed: SyntaxError: invalid syntax"),
        ("raise SystemExit(1)", "importing 'broken.py' failed: SystemExit: 1"),
    ],
)
def test_a_module_that_can_not_be_imported_says_why(eigenscope, tmp_path, source, words):
    (tmp_path / "broken.py").write_text(source)
    assert words in eigenscope("measure", "broken.py:factory").complaint


def test_an_error_inside_loss_fn_names_its_line(mine, tmp_path):
    line = (tmp_path / "mine.py").read_text().splitlines().index("def loss_crashes():") + 2
    assert f"loss_fn failed at {tmp_path / 'mine.py'}:{line}: " in mine("measure", "mine.py:loss_crashes").complaint


def test_an_error_inside_the_factory_names_the_innermost_line_of_the_file(eigenscope, tmp_path):
    """Not the line of the library that it called, nor the one that called the helper."""
    (tmp_path / "deep.py").write_text("import torch\ndef build():\n    return torch.zeros(2) @ torch.zeros(3)\n"
                                      "def factory():\n    return build()\n")  # fmt: skip
    complaint = eigenscope("measure", "deep.py:factory").complaint
    assert f"deep.py:factory failed at {tmp_path / 'deep.py'}:3: RuntimeError: " in complaint


def test_products_that_contradict_each_other_end_with_status_1(eigenscope, tmp_path):
    """A loss that is another one at each call, from a random stream that can't be put back."""
    (tmp_path / "restless.py").write_text(FACTORIES + RESTLESS)
    ended = eigenscope("measure", "restless.py:restless", "--method", "double_backward_recomputed")
    assert (ended.status, ended.out) == (1, "")
    (line,) = ended.err.splitlines()
    assert "make loss_fn deterministic" in line
