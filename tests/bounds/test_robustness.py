"""Radii where they are known: a linear classifier's boundary lies at margin ÷ ‖wᵢ − wⱼ‖."""

import math

import torch
from torch import Tensor, nn

import zoo
from bounds.networks import linear
from eigenscope.bounds.inputs import Samples
from eigenscope.bounds.local import LocalModel
from eigenscope.bounds.risk import risk
from eigenscope.bounds.robustness import SampleRobustness, attack_on, certified_radii, margins


def _classifier(classes: int = 4) -> tuple[nn.Linear, Tensor, Tensor]:
    model = linear(6, classes)
    points = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    return model, points, model(points).detach()


def _distance(model: nn.Linear, logits: Tensor) -> Tensor:
    """To the nearest boundary between the predicted class and another: a hyperplane each."""
    weight, own = model.weight.detach(), logits.argmax(1)
    gaps = logits.gather(1, own[:, None]) - logits
    lengths = (weight[own][:, None] - weight).norm(dim=2)
    return torch.where(lengths > 0, gaps / lengths, math.inf).min(1).values


def test_the_certificate_of_a_linear_classifier_is_exact() -> None:
    model, _, logits = _classifier()
    weight = model.weight.detach().double()
    norm = float(torch.linalg.matrix_norm(weight, 2))
    radii = certified_radii(margins(logits, None), logits, norm, weight @ weight.T)
    torch.testing.assert_close(radii, _distance(model, logits).double(), rtol=1e-3, atol=0)
    assert bool((radii <= _distance(model, logits)).all())


def test_without_the_last_layer_the_constant_is_root_two_times_the_networks() -> None:
    model, _, logits = _classifier()
    norm = float(torch.linalg.matrix_norm(model.weight.detach().double(), 2))
    radii = certified_radii(margins(logits, None), logits, norm, None)
    expected = margins(logits, None).margin.double() / (math.sqrt(2) * norm)
    torch.testing.assert_close(radii, expected, rtol=1e-2, atol=1e-6)


def test_the_attack_finds_the_nearest_boundary_of_a_linear_classifier() -> None:
    model, points, logits = _classifier()
    radii, searched = attack_on(LocalModel(model, Samples(points)), logits.argmax(1))
    distance = _distance(model, logits)
    assert bool((radii >= distance * (1 - 1e-4)).all())
    assert float((radii / distance).median()) < 1.01
    assert float((radii / distance).max()) < 1.2
    assert bool((searched >= radii).all())


def test_an_answer_that_is_wrong_has_radius_zero() -> None:
    model, points, logits = _classifier()
    wrong = (logits.argmax(1) + 1) % 4
    radii, _ = attack_on(LocalModel(model, Samples(points)), wrong)
    assert not bool(radii.any())
    assert not bool(certified_radii(margins(logits, wrong), logits, 1.0, None).any())


def test_a_constant_model_withstands_every_attack() -> None:
    model = nn.Linear(3, 2)
    model.weight.data.zero_()
    model.bias.data = torch.tensor([1.0, 0.0])
    radii, searched = attack_on(LocalModel(model, Samples(torch.ones(5, 3))), torch.zeros(5, dtype=torch.long))
    assert bool(torch.isinf(radii).all())
    assert bool(torch.isfinite(searched).all())


def test_the_attack_on_a_trained_network_beats_one_gradient_step() -> None:
    """The first-order distance, margin ÷ ‖∇margin‖, is what the attack starts from."""
    model, _, batches = zoo.CASES["mlp_relu"].build()
    local = LocalModel(model, Samples(batches[0][0]))
    own = model(batches[0][0]).argmax(1)
    radii, _ = attack_on(local, own)
    assert bool(torch.isfinite(radii).all())


def _sample(index: int, margin: float, certified: float | None, attacked: float | None) -> SampleRobustness:
    return SampleRobustness(index, 0, 0, margin, certified, attacked, 10.0)


def test_the_risk_says_what_it_rests_on() -> None:
    samples = [_sample(0, 1.0, 0.03, 0.8), _sample(1, 2.0, 0.06, 0.9), _sample(2, -1.0, 0.0, 0.0)]
    both = risk(samples, True, None, True, 3.0)
    assert "no change of norm below 0.03 flips any of 2 right answers (median 0.045)" in both
    assert "one flips at 0.8, half at 0.9" in both
    assert "a proof" in both
    alone = risk([_sample(0, 1.0, None, 0.8)], False, "layer 'attn'", True, 3.0)
    assert alone.startswith("nothing is certified (layer 'attn')")
    assert "rests on the attack alone" in alone
    assert "no attack succeeded" in risk([_sample(0, 1.0, 0.1, None)], True, None, True, 3.0)
    assert "no attack was run" in risk([_sample(0, 1.0, 0.1, None)], True, None, False, 3.0)
    assert (
        risk([], True, None, True, 3.0)
        == "no margin, so no radius; on the probe a small change is magnified up to 3 times"
    )
    assert "wrong as it is" in risk([_sample(0, -1.0, 0.0, 0.0)], True, None, True, 3.0)
