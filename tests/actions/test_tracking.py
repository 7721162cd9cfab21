"""λmax followed through training: where its vectors wait between two measurements."""

import pytest
import torch

from eigenscope.actions.tracking import Tracker, _home
from eigenscope.operators import HessianOperator, Probe
from eigenscope.scenarios import cross_entropy

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.mark.parametrize(("nbytes", "limit", "home"), [
    (100, float("inf"), CUDA), (100, 400.0, CUDA), (101, 400.0, CPU), (100, 0.0, CPU),
])  # fmt: skip
def test_vectors_stay_on_their_device_unless_they_would_take_a_quarter_of_the_limit(nbytes, limit, home):
    assert _home(nbytes, CUDA, limit) == home


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("limit", "home"), [(float("inf"), "cuda"), (0.0, "cpu")])
def test_what_is_measured_is_the_same_wherever_they_wait(limit, home, model, data):
    model, data = model.cuda(), tuple(part.cuda() for part in data)
    hessian = HessianOperator(Probe(model, cross_entropy, data))
    tracker = Tracker()
    found = [tracker.measure(hessian, hessian.gradient, memory_limit=limit) for _ in range(3)]
    hessian.close()
    assert tracker.vectors.device.type == home
    assert found[1:] == pytest.approx(found[:2], rel=0.02)
