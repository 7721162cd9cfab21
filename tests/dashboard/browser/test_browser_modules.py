"""The small parts of the page that are pure functions, in the browser that runs them."""

import math

import pytest

IMPORT = "async ([module, name, args]) => (await import(`/js/${module}.js`))[name](...args)"


@pytest.fixture(scope="module")
def call(contexts, site):
    """`call("format", "number", 1.5)` runs a function of one of the page's modules."""
    page = contexts().new_page()
    page.goto(f"{site}/vendor/uplot/LICENSE")  # an empty page of this origin
    yield lambda module, name, *args: page.evaluate(IMPORT, [module, name, args])
    page.close()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (12.3, "12.3"), (-0.5, "−0.5"), (2100, "2,100"), (12345.678, "12,346"), (1e5, "1·10⁵"),
        (3.25e-7, "3.25·10⁻⁷"), (0.001, "0.001"), (99999.7, "100,000"), (float("nan"), "NaN"),
        (float("inf"), "∞"), (float("-inf"), "−∞"), (None, "—"),
    ],
)  # fmt: skip
def test_a_number_is_written_to_four_digits(call, value, text):
    assert call("format", "number", value) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (12.3456, 0.01, "12.35 ± 0.010"), (12.3456, 0.04, "12.35 ± 0.04"), (2100, 80, "2,100 ± 80"),
        (-0.8, 0.0017, "−0.8000 ± 0.0017"), (1.234e6, 5e3, "(1.234 ± 0.005)·10⁶"), (0.3, 1.2, "0.3 ± 1.2"),
        (1.0, 1e-9, "1 ± 1·10⁻⁹"), (3, 0, "3 ± 0"), (3, float("inf"), "3 ± ∞"), (3, None, "3"), (None, 1, "—"),
        (-0.0001, 0.01, "0.000 ± 0.010"), (38.2847, 1e-4, "38.28 ± 1·10⁻⁴"), (2058, 661, "2,100 ± 700"),
        (12345.678, 0.5, "12,346 ± 0.5"), (0.99999, 1e-4, "1.000 ± 1·10⁻⁴"), (0.0945, 7e-4, "0.0945 ± 0.0007"),
    ],
)  # fmt: skip
def test_an_error_decides_the_digits_of_its_value_four_at_most(call, value, error, text):
    assert call("format", "withError", value, error) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1e-4, "10⁻⁴"), (-2e5, "−2·10⁵"), (0.05, "0.05"), (5000, "5,000")]
)
def test_a_tick_is_short(call, value, text):
    assert call("format", "tick", value) == text


TICKS = """async ([kind, min, max, most]) => {
    const scales = await import("/js/scales.js");
    const scale = kind === "asinh" ? scales.asinh(0.01) : scales[kind];
    return scale.ticks(min, max, most);
}"""


@pytest.mark.parametrize(
    ("kind", "low", "high", "most", "ticks"),
    [
        ("linear", 0, 100, 5, [0, 20, 40, 60, 80, 100]),
        ("log", 0.5, 2000, 6, [1, 10, 100, 1000]),
        ("log", 150, 320, 6, [150, 200, 250, 300]),
        ("log", 1e-8, 1e8, 6, [1e-6, 1e-3, 1, 1e3, 1e6]),
        ("asinh", -5, 50, 9, [-1, -0.1, -0.01, 0, 0.01, 0.1, 1, 10]),
        ("asinh", 20, 300, 6, [20, 50, 100, 200]),
    ],
)
def test_ticks_are_round_and_few(call, contexts, site, kind, low, high, most, ticks):
    page = contexts().pages[0]
    assert page.evaluate(TICKS, [kind, low, high, most]) == pytest.approx(ticks)


DATA = """async () => {
    const { Track } = await import("/js/track.js");
    const { columns } = await import("/js/chart/data.js");
    const kappa = new Track({ steps: [0, 10, 40], values: [1, NaN, 3], errors: [0.5, null, Infinity] });
    const mean = new Track({ steps: [0, 10, 20, 30, 40], values: [1, 1, 1, 1, 1], errors: [] });
    kappa.put(40, 4, Infinity);
    kappa.put(5, 2, 0.1);
    return columns(kappa, mean);
}"""


def test_a_line_breaks_where_a_check_gave_no_value_and_shows_an_unbounded_error(call, contexts):
    found = contexts().pages[0].evaluate(DATA)
    assert found["steps"] == [0, 5, 10, 20, 40]
    assert found["value"] == [1, 2, None, None, 4]
    assert found["low"] == pytest.approx([0.5, 1.9, None, None, -1e300])
    assert found["high"] == pytest.approx([1.5, 2.1, None, None, 1e300])


ALERTS = """async (alerts) => {
    const { Run } = await import("/js/run.js");
    const run = new Run("a", []);
    run.take({ history: [], alerts: [], names: [] }, {}, []);
    for (const alert of alerts) run.apply({ type: "alert", alert });
    return [run.history, run.active()];
}"""


def alert(number, level, message, **more):
    return {"id": number, "rule": "edge", "level": level, "step": 10 * number, "message": message, **more}


def test_an_alert_that_comes_again_replaces_itself(call, contexts):
    said = [alert(1, "warning", "1.2x", acknowledged=True), alert(1, "critical", "1.7x")]
    history, active = contexts().pages[0].evaluate(ALERTS, said)
    assert history == active == [alert(1, "critical", "1.7x", acknowledged=True)]


def test_a_newer_text_does_not_bring_a_cleared_alert_back(call, contexts):
    said = [alert(1, "warning", "1.2x"), alert(2, "ok", "over"), alert(1, "warning", "1.3x")]
    history, active = contexts().pages[0].evaluate(ALERTS, said)
    assert [each["message"] for each in history] == ["1.3x", "over"]
    assert active == []


def test_a_density_ends_at_the_extreme_eigenvalues(call):
    smoothed = {
        "grid": [-2, -1, 0, 1, 2, 3], "values": [1, 3, 9, 9, 5, 1], "bulk": [-0.5, 1.0],
        "outliers": [{"value": 2.5}], "step": 0,
    }  # fmt: skip
    found = call("density", "trimmed", smoothed)
    assert found["grid"] == [-0.5, 0, 1, 2, 2.5]
    assert found["values"] == [6, 9, 9, 5, 3]
    assert math.isnan(call("density", "densityAt", found, -0.51))


@pytest.mark.parametrize(
    ("optimizer", "settings", "formula"),
    [
        ("SGD", "SGD(lr=0.1, momentum=0)", "SGD: λmax·η / 2"),
        ("SGD", "SGD(lr=0.1, momentum=0.9)", "SGD, heavy ball: λmax·η / (2+2β)"),
        ("SGD", "SGD(lr=0.1, momentum=0.9, nesterov=True)", "SGD, Nesterov: λmax·η·(1+2β) / (2+2β)"),
        ("SGD", "SGD(lr=0.1, momentum=0.9, nesterov=False)", "SGD, heavy ball: λmax·η / (2+2β)"),
        ("AdamW", "AdamW(lr=0.001)", "AdamW: λ₁(P⁻¹H)·η·(1−β₁) / (2+2β₁)"),
        ("none", "", ""),
    ],
)
def test_the_formula_is_the_optimizers(call, optimizer, settings, formula):
    assert call("panels/sharpness", "formulaOf", optimizer, settings) == formula


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["net.0", "net.2"], ["net.0", "net.2"]),
        (["model.layers.0.mlp", "model.layers.11.mlp"], ["0", "11"]),
        (["transformer.wte", "transformer.h.0"], ["wte", "h.0"]),
        (["transformer.wte", "lm_head"], ["…wte", "lm_head"]),
        (["an_endless_name", "a"], ["…less_name", "a"]),
        (["alone.in.the.network"], ["…network"]),
    ],
)
def test_names_of_blocks_are_short_on_an_axis(call, names, short):
    assert call("flow", "shortNames", names, 10) == short


MEASURED = """async (steps) => {
    const { Run } = await import("/js/run.js");
    const row = ({ step, value }) => ({ step, value });
    const run = new Run("a", [], [{ kind: "flow", fields: [], row }]);
    run.take({ history: [], alerts: [], names: [], measurements: {} }, {}, []);
    steps.forEach((step, value) => run.apply({ type: "measurement", kind: "flow", measurement: { step, value } }));
    run.apply({ type: "measurement", kind: "unknown", measurement: { step: 0 } });
    return [run.rows.get("flow"), run.latest("flow")];
}"""


def test_measurements_are_kept_by_step_and_a_repeated_one_replaces(call, contexts):
    rows, latest = contexts().pages[0].evaluate(MEASURED, [10, 20, 10])
    assert rows == [{"step": 10, "value": 2}, {"step": 20, "value": 1}]
    assert latest == {"step": 10, "value": 2}


def test_a_long_history_is_thinned_and_keeps_its_last(call, contexts):
    rows, _ = contexts().pages[0].evaluate(MEASURED, [*range(2000)])
    assert len(rows) <= 400
    assert rows[-1]["step"] == 1999
    assert rows[0]["step"] == 0
