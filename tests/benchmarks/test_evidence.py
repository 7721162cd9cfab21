"""The scripts behind "Do the actions help?" run, in small, and their counting is right."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    log = logging.getLogger("eigenscope")
    level = log.level
    yield
    log.setLevel(level)
    for name in [name for name in sys.modules if name.split(".")[0] in ("evidence", "meter")]:
        del sys.modules[name]


@pytest.fixture
def data():
    folder = import_module("evidence.tasks").DATA
    if not folder.is_dir():
        pytest.skip("the real data beside the project is not here")


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("item", "settings"),
    [
        ("edge", {"shrink": 20, "only": ("digits",)}),
        ("warning", {"shrink": 10, "only": ("digits",)}),
        ("sharpness", {"budget": {"digits": 20}}),
    ],
)
def test_an_item_measures_and_tells(item, settings):
    module = import_module(f"evidence.{item}")
    result = module.run(1, **settings)
    assert len(module.tell(result)) >= 2
    assert result.get("agrees_with_monitor", True)  # what is counted from readings is what the monitor itself told


def test_an_alert_counts_only_where_it_stands_before_the_spike():
    alarms = import_module("evidence.alarms")
    readings = [(20, 0.1), (220, 0.2), (240, 1.2), (260, 1.4)]
    driven = alarms.Course("t", "16 times at once", readings, spike=265, steps=266)
    late = alarms.Course("t", "16 times at once", readings, spike=230, steps=231)
    healthy = alarms.Course("t", None, [(20, 0.1), (40, 1.1), (60, 0.1)], steps=1000)
    found = alarms.scored([driven, late, healthy], "level", 1.0, checks=1)
    assert (found["warned"]["hits"], found["warned"]["of"]) == (1, 2)
    assert found["lead"]["value"] == 265 - 240
    assert found["false_alarms"]["events"] == 1
    confirmed = alarms.scored([driven, late, healthy], "level", 1.0, checks=2)
    assert (confirmed["lead"]["value"], confirmed["false_alarms"]["events"]) == (265 - 260, 0)
    assert found["healthy_steps"] == 1000 + 2 * alarms.CALM


def test_no_event_in_so_many_has_an_upper_limit():
    """Of none in n: 1 − 0.025^(1/n), Clopper and Pearson; of none in an exposure: −log 0.025 = 3.689, Garwood."""
    intervals = import_module("evidence.intervals")
    assert intervals.share(0, 100)["high"] == pytest.approx(1 - 0.025**0.01, rel=1e-9)
    assert intervals.rate(0, 10_000)["high"] == pytest.approx(3.689, abs=1e-3)
