"""Rules raise, hold and clear alerts: without flapping, with one action and its reason."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import eigenscope as es
from eigenscope.diagnostics.estimate import Estimate
from eigenscope.diagnostics.reading import CurvatureReading
from eigenscope.diagnostics.stability import is_adaptive
from eigenscope.monitor.alerts import AlertBook
from eigenscope.monitor.judgements import RULES
from eigenscope.monitor.rules import DEFAULTS, Limits, load_rules
from spectra import SPECTRA, quadratic


@pytest.fixture(scope="module")
def calm() -> CurvatureReading:
    """A real reading of a quadratic bowl, in which nothing is wrong."""
    return es.curvature(*quadratic(SPECTRA["definite_1e2"]().matrix, distance=1.0))


def ratios(book: AlertBook, calm: CurvatureReading, values: list[float]) -> list[str]:
    """The level of the edge rule after each value."""
    levels = []
    for step, value in enumerate(values):
        book.update(replace(calm, step=step, stability_ratio=Estimate(value, error=0.0)))
        levels.append(book.level("edge_of_stability"))
    return levels


def test_a_value_that_trembles_at_the_threshold_raises_one_alert(calm: CurvatureReading) -> None:
    book = AlertBook(DEFAULTS)
    changes = [
        alert
        for step, value in enumerate([0.99, 1.01] * 50)
        for alert in book.update(replace(calm, step=step, stability_ratio=Estimate(value, error=0.0)))
        if alert.rule == "edge_of_stability" and not alert.reworded
    ]
    assert len(changes) == 1


def test_levels_rise_at_once_and_fall_behind_the_hysteresis(calm: CurvatureReading) -> None:
    values = [0.5, 1.0, 1.5, 1.25, 1.19, 0.85, 0.79]
    expected = ["ok", "warning", "critical", "critical", "warning", "warning", "ok"]
    assert ratios(AlertBook(DEFAULTS), calm, values) == expected


def test_an_alert_that_is_over_says_how_bad_it_was(calm: CurvatureReading) -> None:
    book, over = AlertBook(DEFAULTS), []
    for step, value in enumerate([1.6, 2.9, 0.83, 0.57]):
        reading = replace(calm, step=step, stability_ratio=Estimate(value, error=0.0), optimizer="SGD")
        over += [alert for alert in book.update(reading) if alert.level == "ok"]
    assert [alert.message for alert in over] == ["over; at its worst: 2.9× the stability threshold of SGD"]


def test_a_ratio_that_is_not_a_number_is_critical_and_one_that_is_not_known_is_not(calm: CurvatureReading) -> None:
    assert ratios(AlertBook(DEFAULTS), calm, [float("nan")]) == ["critical"]
    book = AlertBook(DEFAULTS)
    book.update(replace(calm, stability_ratio=Estimate(None, reason="no optimizer")))
    assert book.worst() is None


def test_an_alert_that_stands_speaks_of_the_last_reading_and_of_when_it_began(calm: CurvatureReading) -> None:
    book = AlertBook(DEFAULTS)
    (raised,) = book.update(replace(calm, step=7, stability_ratio=Estimate(1.1, error=0.0), optimizer="SGD"))
    at_1_3 = replace(calm, step=9, stability_ratio=Estimate(1.3, error=0.0), optimizer="SGD")
    (now,) = book.update(at_1_3)
    assert (raised.reworded, now.reworded) == (False, True)
    assert (now.step, now.value, now.message) == (7, 1.3, "1.3× the stability threshold of SGD")
    assert "1.3× smaller" in now.reason
    assert book.worst() == now
    assert book.update(at_1_3) == []  # nothing new to say
    assert "reworded" not in now.to_dict()


def test_while_the_hysteresis_holds_an_alert_no_larger_step_is_advised(calm: CurvatureReading) -> None:
    book = AlertBook(DEFAULTS)
    for value in (1.1, 0.9):
        book.update(replace(calm, stability_ratio=Estimate(value, error=0.0)))
    worst = book.worst()
    assert worst is not None
    assert "smaller" not in worst.reason


def test_a_saddle_that_seems_over_keeps_its_words_until_it_is(calm: CurvatureReading) -> None:
    book = AlertBook(DEFAULTS)
    book.update(replace(calm, verdict="saddle", negative_count_certified=1))
    assert book.update(replace(calm, verdict="not_converged")) == []
    assert "at a saddle: 1 certified negative eigenvalue, " in book.active["saddle"].message


def test_a_maximum_is_called_one(calm: CurvatureReading) -> None:
    book = AlertBook(DEFAULTS)
    top, low = Estimate(-1.0, error=1e-3), Estimate(-9.0, error=1e-3)
    book.update(replace(calm, verdict="saddle", lambda_max=top, lambda_min=low, noise_floor=1e-2))
    assert "at a maximum" in book.active["saddle"].message


def test_a_saddle_is_over_only_after_two_checks(calm: CurvatureReading) -> None:
    book, levels = AlertBook(DEFAULTS), []
    for step, name in enumerate(["saddle", "not_converged", "saddle", "not_converged", "not_converged"]):
        book.update(replace(calm, step=step, verdict=name))
        levels.append(book.level("saddle"))
    assert levels == ["critical", "critical", "critical", "critical", "ok"]


def test_the_worst_alert_is_the_one_to_act_on(calm: CurvatureReading) -> None:
    book = AlertBook(DEFAULTS)
    book.update(replace(calm, step=3, verdict="saddle"))
    book.update(replace(calm, step=9, verdict="saddle", stability_ratio=Estimate(1.2, error=0.0)))
    worst = book.worst()
    assert worst is not None
    assert (worst.rule, worst.action) == ("saddle", "PAUSE & PERTURB")


@pytest.mark.parametrize("name", RULES)
def test_every_rule_names_its_action_and_its_reason_in_one_sentence(name: str, calm: CurvatureReading) -> None:
    reading = replace(
        calm,
        adaptive=name == "adaptive_edge",
        verdict="saddle",
        stability_ratio=Estimate(9.0, error=0.0),
        condition_number=Estimate(1e9, error=0.0),
        condition_status="singular" if name == "stretched" else "definite",
        condition_mean=Estimate(1e9, standard_error=0.0),
    )
    book = AlertBook(DEFAULTS)
    raised = {alert.rule: alert for _ in range(DEFAULTS[name].checks) for alert in book.update(reading)}
    assert raised[name].level == "critical"
    assert raised[name].action.isupper()
    assert len(raised[name].reason.split()) > 5


def test_under_adam_the_edge_is_told_of_sooner_and_for_longer(calm: CurvatureReading) -> None:
    book, levels = AlertBook(DEFAULTS), []
    for step, value in enumerate([0.6, 0.4, 0.6, 0.6, 0.3, 0.24]):
        book.update(
            replace(calm, step=step, optimizer="AdamW", adaptive=True, stability_ratio=Estimate(value, error=0.0))
        )
        levels.append(book.level("adaptive_edge"))
        assert book.level("edge_of_stability") == "ok"
    assert levels == ["ok", "ok", "ok", "warning", "warning", "ok"], "what one check finds the next one has to find"
    assert ratios(AlertBook(DEFAULTS), calm, [0.8, 0.8]) == ["ok", "ok"]


def test_a_level_that_two_checks_in_a_row_call_for_is_the_lower_of_theirs(calm: CurvatureReading) -> None:
    def book(checks: int) -> AlertBook:
        return AlertBook(load_rules({"edge_of_stability": {"checks": checks}}))

    values = [1.6, 1.1, 1.6, 1.7, 1.1, 0.5, 1.2, float("nan"), 1.2]
    expected = ["ok", "warning", "warning", "critical", "warning", "ok", "ok", "warning", "warning"]
    assert ratios(book(2), calm, values) == expected
    assert ratios(book(3), calm, [1.6, 1.1, 1.6, 1.6, 1.6]) == ["ok", "ok", "warning", "warning", "critical"]
    assert ratios(book(1), calm, [1.6]) == ["critical"]


def test_what_was_told_of_one_optimizer_is_over_with_the_next(calm: CurvatureReading) -> None:
    book = AlertBook(DEFAULTS)
    assert ratios(book, calm, [1.2]) == ["warning"]
    changes = book.update(replace(calm, step=9, optimizer="AdamW", adaptive=True, stability_ratio=Estimate(0.2)))
    assert [(alert.rule, alert.level) for alert in changes] == [("edge_of_stability", "ok")]


def test_a_wide_hysteresis_is_that_of_a_warning(calm: CurvatureReading) -> None:
    limits, levels = DEFAULTS["adaptive_edge"], ["ok"]
    for value in (1.7, 1.3, 1.1, 0.3, 0.2):
        levels.append(limits.level(value, levels[-1]))
    assert levels[1:] == ["critical", "critical", "warning", "warning", "ok"]


def test_whose_the_edge_is_goes_by_what_an_optimizer_descends_from() -> None:
    class Mine(torch.optim.SGD):
        pass

    weights = [torch.nn.Parameter(torch.zeros(2))]
    assert not is_adaptive(Mine(weights, lr=0.1))
    assert not is_adaptive(None)
    assert is_adaptive(torch.optim.AdamW(weights))
    assert is_adaptive(torch.optim.RMSprop(weights))


def test_a_rule_can_be_switched_off(calm: CurvatureReading) -> None:
    book = AlertBook(load_rules({"edge_of_stability": {"enabled": False}}))
    assert ratios(book, calm, [5.0]) == ["ok"]


def test_a_file_overrides_only_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("[edge_of_stability]\nwarning = 0.5\n")
    rules = load_rules(path)
    assert rules["edge_of_stability"] == Limits(0.5, 1.5)
    assert rules["saddle"] == DEFAULTS["saddle"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("edge_of_stability = 1", r"edge_of_stability must be a table"),
        ("[edge_of_stabilty]\nwarning = 1", "did you mean 'edge_of_stability'"),
        ("[saddle]\nwarnin = 1", "no setting 'warnin': did you mean 'warning'"),
        ("[saddle]\nwarning = 'high'", "warning = 'high' must be a number"),
        ("[saddle]\nwarning = true", "warning = True must be a number"),
        ("[saddle]\nenabled = 1", "enabled = 1 must be true or false"),
        ("[stretched]\nwarning = 1e9", r"got warning = 1e\+09 and critical = 1e\+06 \(the default: set it as well\)$"),
        ("[stretched]\nwarning = -1", "needs 0 < warning ≤ critical"),
        ("[stretched]\nwarning = nan", "needs 0 < warning ≤ critical"),
        ("[stretched]\nhysteresis = 1.5", "hysteresis = 1.5 must be over 0 and at most 1"),
        ("[stretched]\nchecks = 1.5", "checks = 1.5 must be a whole number, 1 to 100"),
        ("[stretched]\nchecks = nan", "checks = nan must be a whole number"),
        ("[stretched]\nchecks = 0", "checks = 0 must be a whole number"),
        ("[loss_rise]\nchecks = 2", "no setting 'checks'"),
        ("[stretched", "is not TOML"),
    ],
)
def test_a_bad_rules_file_is_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(es.InputError, match=message) as caught:
        load_rules(path)
    assert "\n" not in str(caught.value)


def test_a_rules_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(es.InputError, match=r"absent\.toml' can't be read"):
        load_rules(tmp_path / "absent.toml")
