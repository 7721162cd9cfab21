"""Between two checks the edge is foreseen from the learning rate, to which the ratio is proportional."""

import pytest
import torch

import eigenscope as es
from eigenscope.scenarios import scenario


def run(rates, every=10, **rules):
    """Full-batch descent on the digits whose learning rate is set before each step; the alerts of the edge."""
    chosen = scenario("healthy")
    optimizer = torch.optim.SGD(chosen.model.parameters(), lr=rates[0])
    with es.Monitor(
        chosen.model, chosen.loss_fn, chosen.probe, optimizer=optimizer, every=every, flow=False, lipschitz=False,
        rules={"edge_of_stability": rules} if rules else None,
    ) as monitor:  # fmt: skip
        readings = []
        for rate in rates:
            optimizer.param_groups[0]["lr"] = rate
            loss = chosen.loss_fn(chosen.model, chosen.data)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            readings += [reading] if (reading := monitor.step(loss)) else []
        return [alert for alert in monitor.history if alert.rule == "edge_of_stability"], readings


@pytest.fixture(scope="module")
def calm():
    """A learning rate far inside the edge, and the ratio there after ten steps."""
    _, (reading,) = run([0.01] * 10)
    return 0.01, reading.stability_ratio.value


def test_a_rate_that_rises_past_the_edge_is_told_before_the_next_check(calm):
    rate, ratio = calm
    past = 1.2 * rate / ratio
    (alert,), _ = run([rate] * 10 + [past] * 5)
    assert (alert.step, alert.level) == (11, "warning")
    assert alert.value == pytest.approx(1.2, rel=1e-6)
    assert (
        alert.message
        == "1.2× the stability threshold of SGD, foreseen: its learning rate has risen since the last check"
    )


def test_each_level_is_told_once(calm):
    rate, ratio = calm
    alerts, _ = run([rate] * 10 + [k * rate / ratio for k in (0.9, 1.1, 1.2, 1.6, 1.7, 3.0)])
    assert [(alert.step, alert.level) for alert in alerts] == [(12, "warning"), (14, "critical")]


def test_the_next_check_has_the_last_word(calm):
    rate, ratio = calm
    alerts, _ = run([rate] * 10 + [1.2 * rate / ratio] + [rate] * 9)
    assert [(alert.step, alert.level) for alert in alerts] == [(11, "warning"), (20, "ok")]


def test_a_rule_that_is_off_foresees_nothing(calm):
    rate, ratio = calm
    assert run([rate] * 10 + [2 * rate / ratio] * 3, enabled=False)[0] == []


def test_a_rate_that_falls_or_stays_tells_nothing(calm):
    rate, _ = calm
    assert run([rate] * 10 + [rate / 2] * 5)[0] == []


def test_of_another_optimizer_nothing_is_foreseen_before_its_first_reading(calm):
    """Its rate is in other units: twenty times the old one may be the same step."""
    chosen = scenario("healthy")
    optimizer = torch.optim.SGD(chosen.model.parameters(), lr=calm[0])
    with es.Monitor(
        chosen.model, chosen.loss_fn, chosen.probe, optimizer=optimizer, every=1, flow=False, lipschitz=False,
        act="ask", replace_optimizer=lambda _: None,
    ) as monitor:  # fmt: skip
        monitor.step(1.0)
        assert monitor._foreseeing.limit < 1e3
        monitor._replace_optimizer(torch.optim.AdamW(chosen.model.parameters(), lr=1e4))
        assert monitor._foreseeing.limit == float("inf")
