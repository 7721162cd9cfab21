"""A whole scan: every tensor accounted for, the numbers those of NumPy, the same bits however it is spread."""

import asyncio
import json
import math
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import eigenscope as es
from eigenscope.errors import CheckpointError, InputError
from eigenscope.scanning.directions import directions
from eigenscope.scanning.findings import failing
from zoo import shared_data


@pytest.fixture
def checkpoint(tmp_path):
    """Matrices, vectors, integers, something broken: as a file."""
    torch.manual_seed(0)
    low = torch.randn(40, 3) @ torch.randn(3, 60)
    broken = torch.randn(5, 6)
    broken[1, 2], broken[3, 3] = math.nan, math.inf
    tensors = {
        "layers.0.weight": torch.randn(40, 60), "layers.0.bias": torch.randn(40), "layers.1.weight": low,
        "layers.1.half": torch.randn(30, 50).half(), "positions": torch.arange(12).view(3, 4), "broken": broken,
        "row": torch.randn(1, 9), "scale": torch.tensor(1.0), "conv.weight": torch.randn(4, 2, 3, 3),
    }  # fmt: skip
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    return path


def test_every_tensor_is_analysed_or_has_its_reason(checkpoint):
    found = es.scan(checkpoint)
    assert {row.name for row in found.matrices} == {
        "layers.0.weight", "layers.1.weight", "layers.1.half", "broken", "conv.weight"
    }  # fmt: skip
    assert {item.name: item.reason for item in found.skipped} == {
        "layers.0.bias": "a vector: no matrix",
        "positions": "integers: indices, masks or packed data",
        "row": "too small: a single row or column",
        "scale": "a single number: no matrix",
    }
    assert found.summary["tensors"] == 9


def test_what_is_not_finite_says_so_and_the_scan_goes_on(checkpoint):
    row = es.scan(checkpoint)["broken"]
    assert row.reading is None
    assert row.problem == "1 NaN and 1 infinite entries of 30"


def test_the_numbers_are_those_of_an_svd(checkpoint):
    row = es.scan(checkpoint)["layers.0.weight"].reading
    torch.manual_seed(0)
    torch.randn(40, 3), torch.randn(3, 60), torch.randn(5, 6)
    sigma = np.linalg.svd(torch.randn(40, 60).double().numpy(), compute_uv=False)
    np.testing.assert_allclose(row.singular_values, sigma, rtol=1e-9)
    assert row.spectral_norm.value == pytest.approx(sigma[0])
    assert row.frobenius_norm == pytest.approx(np.linalg.norm(sigma))
    assert row.condition_number.value == pytest.approx(sigma[0] / sigma[-1], rel=1e-9)
    assert row.spectrum_shape == "noise"


def test_rank_and_rounding_of_what_was_stored_coarsely(checkpoint):
    found = es.scan(checkpoint)
    assert found["layers.1.weight"].reading.rank == 3
    assert found["layers.1.weight"].reading.spectrum_shape == "rank_deficient"
    assert found["layers.1.half"].reading.rounding_floor > 100 * found["layers.0.weight"].reading.rounding_floor


def test_rounding_to_half_moves_singular_values_by_about_the_stated_floor():
    matrix = torch.randn(80, 120, generator=torch.Generator().manual_seed(0))
    reading = es.scan({"w": matrix.half()})["w"].reading
    exact = np.linalg.svd(matrix.double().numpy(), compute_uv=False)
    moved = np.abs(reading.singular_values - exact).max()
    assert moved < reading.rounding_floor < 40 * moved


@pytest.mark.parametrize("options", [{"workers": 2}, {"match": "layers.*"}, {"exclude": ["conv*", "broken"]}])
def test_options(checkpoint, options):
    found, plain = es.scan(checkpoint, **options), es.scan(checkpoint, device="cpu")
    assert len(found.matrices) == {"workers": 5, "match": 3, "exclude": 3}[next(iter(options))]
    for row in found.matrices:
        if row.reading is not None:
            assert row.reading.singular_values.tobytes() == plain[row.title].reading.singular_values.tobytes()
    assert len(found.skipped) + len(found.matrices) == 9


def processes(ray):
    """The cluster's processes, of which as many work at once: each waits until the other has come."""

    @ray.remote(num_cpus=0)
    class Meeting:
        def __init__(self):
            self.met, self.all = set(), asyncio.Event()

        async def come(self, process):
            self.met.add(process)
            if len(self.met) == 2:
                self.all.set()
            await self.all.wait()
            return self.met

    meeting = Meeting.remote()
    work = ray.remote(lambda: ray.get(meeting.come.remote(os.getpid())))
    (met, other) = ray.get([work.remote(), work.remote()], timeout=60)
    assert met == other
    return met


def test_a_ray_cluster_of_two_processes_gives_the_same_bits(checkpoint):
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'eigenscope[ray]'")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        assert len(processes(ray)) == 2
        found, plain = es.scan(checkpoint, backend="ray"), es.scan(checkpoint, device="cpu")
    finally:
        ray.shutdown()
    assert len(found.matrices) == len(plain.matrices)
    for row, other in zip(found.matrices, plain.matrices, strict=True):
        if row.reading is not None:
            assert row.reading.singular_values.tobytes() == other.reading.singular_values.tobytes()


def test_a_live_module_and_its_tied_weights():
    model = nn.Sequential(nn.Embedding(30, 8), nn.Linear(8, 8), nn.Linear(8, 30, bias=False))
    model[2].weight = model[0].weight
    found = es.scan(model)
    assert [row.name for row in found.matrices] == ["0.weight", "1.weight"]
    assert [item.reason for item in found.skipped if item.name == "2.weight"] == ["tied to 0.weight: counted there"]


def test_the_true_norm_of_a_convolution_where_its_input_is_known(checkpoint):
    plain, sized = es.scan(checkpoint), es.scan(checkpoint, input_size=(8, 8))
    assert plain["conv.weight"].operator_norm is None
    kernel = torch.zeros(8 * 8 * 2, 4 * 8 * 8)
    from safetensors.torch import load_file

    weight = load_file(checkpoint)["conv.weight"]
    eye = torch.eye(128).view(128, 2, 8, 8)
    kernel = nn.functional.conv2d(eye, weight, padding=1).flatten(1)
    exact = float(torch.linalg.matrix_norm(kernel, 2))
    assert exact * 0.9999 <= sized["conv.weight"].operator_norm <= exact * 1.02


def test_json_is_strict_and_has_the_names_of_the_issue(checkpoint):
    plain = json.loads(json.dumps(es.scan(checkpoint).to_dict(), allow_nan=False))
    assert {"matrices", "skipped", "summary"} <= plain.keys()
    first = next(row for row in plain["matrices"] if "shape" in row)
    assert {"name", "part", "shape", "effective_rank", "condition_number", "alpha", "noise_edge"} <= first.keys()
    assert {"name", "reason"} <= plain["skipped"][0].keys()


@pytest.mark.parametrize("shape", [(4, 4), (3, 70), (60, 80)])
def test_zeros_are_strict_json_too(shape):
    plain = es.scan({"zeros": torch.zeros(shape), "other": torch.eye(3)}).to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False))["matrices"][0]["spectral_norm"]["value"] == 0.0


@pytest.mark.parametrize(("rule", "names"), [
    ("condition_number>1e6", {"layers.1.weight", "broken"}),
    ("spectrum_shape==noise", {"layers.0.weight", "layers.1.half", "broken"}),  # of 4 values hardly any is noise
    ("rank_at_99<=3", {"layers.1.weight", "broken"}),
])  # fmt: skip
def test_rules_name_the_rows_at_fault(checkpoint, rule, names):
    assert {line.partition(":")[0] for line in failing(es.scan(checkpoint), rule)} == names


@pytest.mark.parametrize(("rule", "message"), [
    ("condition_number", "is no rule"), ("conditon_number>3", "did you mean 'condition_number'"),
    ("alpha>big", "is no number"), ("spectrum_shape>noise", "compare it by =="),
])  # fmt: skip
def test_bad_rules(checkpoint, rule, message):
    with pytest.raises(InputError, match=message):
        list(failing(es.scan(checkpoint), rule))


def test_the_strongest_directions_are_those_of_the_svd():
    torch.manual_seed(0)
    matrix = 5 * torch.outer(torch.eye(6)[2], torch.eye(9)[7]) + 0.01 * torch.randn(6, 9)
    first = directions({"w": matrix}, "w", 2)[0]
    assert first.inputs[0][0] == "#7"
    assert first.outputs[0][0] == "#2"
    assert first.sigma == pytest.approx(5, rel=0.01)
    assert first.share > 0.99


@pytest.mark.parametrize(("options", "message"), [
    ({"match": "layer.0*"}, "no tensor matches"), ({"workers": 0}, "at least one"),
    ({"backend": "dask"}, "is not one of"),
])  # fmt: skip
def test_bad_options(checkpoint, options, message):
    with pytest.raises(InputError, match=message):
        es.scan(checkpoint, **options)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(CheckpointError) as error:
        es.scan(tmp_path / "nothing.safetensors")
    assert "\n" not in str(error.value)


def test_a_llama_s_first_query_has_the_known_figures():
    """../shared/data/README.md: effective rank 20.69, condition 2462, top 10 86.0 %."""
    found = es.scan(shared_data("weights/stories260K.npz"), match="wq")["wq [0]"].reading
    assert found.effective_rank == pytest.approx(20.69, abs=0.005)
    assert found.condition_number.value == pytest.approx(2462, abs=0.5)
    assert found.variance_at_10 == pytest.approx(0.860, abs=5e-4)
