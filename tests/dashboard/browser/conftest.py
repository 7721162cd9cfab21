"""The real page in a real Chromium, over a real server. A console error or a CSP violation fails the test."""

import math
import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from dashboard.conftest import serving
from eigenscope.runs import RunWriter
from runs.sample import SCENARIOS, Sample, make_sample_run, sample_config, sample_environment, scalars_of
from runs.sample_measurements import INTEGERS, flow_of, missing_block, sample_block

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip
# A test begins with no choices of an earlier one; and it hears of violations from the event itself.
INITIALLY = """if (!sessionStorage.getItem("visited")) localStorage.clear();
sessionStorage.setItem("visited", "yes");
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} blocked ${event.blockedURI}`))"""

Visit = Callable[..., Page]
expect.set_options(timeout=15_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser a file of tests: Playwright's event loop must be gone before other tests run theirs."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no Chromium ({', '.join(NAMES)}) is on the PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def contexts(chromium: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """A profile for each set of options, so that the page's scripts come from the cache after the first test."""
    known: dict[str, BrowserContext] = {}

    def context(**options: Any) -> BrowserContext:
        key = repr(sorted(options.items()))
        if key not in known:
            known[key] = chromium.new_context(**options)
            known[key].add_init_script(INITIALLY)
        return known[key]

    yield context
    for each in known.values():
        each.close()


class Visits:
    """The pages that one test, or one file of tests, has open, and what went wrong on them."""

    def __init__(self, contexts: Callable[..., BrowserContext]) -> None:
        self.contexts = contexts
        self.pages: list[Page] = []
        self.problems: list[str] = []

    def open(
        self,
        address: str,
        *,
        width: int = 1440,
        height: int = 1000,
        allow: str = "(?!)",
        before: Callable[[Page], object] = lambda page: None,
        **options: Any,
    ) -> Page:
        page = self.contexts(**options).new_page()
        self.pages.append(page)

        def note(text: str) -> None:
            if not re.search(allow, text):
                self.problems.append(text)

        page.on("console", lambda message: note(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: note(str(error)))
        page.set_viewport_size({"width": width, "height": height})
        before(page)
        page.goto(address)
        return page

    def end(self) -> None:
        for page in self.pages:
            page.close()
        assert self.problems == []


@pytest.fixture
def visit(contexts: Callable[..., BrowserContext]) -> Iterator[Visit]:
    """`visit(address, width=, height=, **options of the profile)` opens a page; its errors fail the test.

    `allow` is a pattern of console errors that the test causes on purpose; `before(page)` is called before it loads.
    """
    visits = Visits(contexts)
    yield visits.open
    visits.end()


@pytest.fixture(scope="module")
def shown(contexts: Callable[..., BrowserContext], site: str) -> Iterator[Callable[[str], Page]]:
    """`shown(run)`: a page that the tests of a file share, for looking only."""
    visits = Visits(contexts)
    yield cache(lambda run: visits.open(f"{site}/?run={run}", base_url=site))
    visits.end()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The origin of a dashboard over finished runs; nothing changes them."""
    folder = tmp_path_factory.mktemp("site")
    for scenario in SCENARIOS:
        make_sample_run(folder / scenario, scenario, 340 if scenario == "saddle" else 600)
    make_sample_run(folder / "sweep" / "lr 0.1 % ü", "canyon", 60)
    write_odd_runs(folder)
    write_depths(folder)
    with serving(folder) as browser:
        yield browser.origin


def write_odd_runs(folder: Path) -> None:
    """`waiting`: no reading came. `bare`: no optimizer, a singular Hessian, NaN in the loss. `halted`: by Ctrl+C."""
    waiting = RunWriter(folder / "waiting", config=sample_config("healthy"), environment=sample_environment())
    for step in range(30):
        waiting.scalars(step, {"loss": 2.3 - 0.01 * step, "learning_rate": 0.1})
    waiting.close("failed")
    halted = RunWriter(folder / "halted", config=sample_config("healthy"), environment=sample_environment())
    halted.scalar("loss", 0, 2.3)
    halted.close("interrupted")
    bare = RunWriter(folder / "bare", config=sample_config("healthy"), environment=sample_environment())
    sample = Sample("healthy")
    for step in range(60):
        bare.scalar("loss", step, float("nan") if step == 40 else sample.loss(step))
    none = {"value": None, "reason": "no optimizer was given: pass optimizer= to compare λmax with its threshold"}
    reading = sample.reading(50, 0.5) | {
        "stability_ratio": none, "sharpness_score": none, "condition_status": "singular", "optimizer": "none",
        "condition_number": {"value": None, "reason": "singular: λmin can't be told from 0, so κ has no upper bound"},
    }  # fmt: skip
    bare.reading(50, reading)
    bare.scalars(50, {name: v for name, v in scalars_of(reading).items() if name != "condition_number"})
    bare.close()


def write_depths(folder: Path) -> None:
    """`shallow`: 3 blocks, one of them without numbers. `deep`: 200 with long names, and every odd σ."""
    ends = [sample_block("encoder", 2.4, 1.1, 1.1), sample_block("head", 0.6, 0.2, 0.5)]
    shallow = [ends[0], missing_block("a_module_with_a_long_name_and_no_dot", INTEGERS), ends[1]]
    names = [f"model.decoder.layers.{i}.feed_forward" for i in range(200)]
    deep = [sample_block(name, 3.0 + 9.0 * (i == 137), 1.1, 1.2) for i, name in enumerate(names)]
    deep[40]["sigma_max"] = {"value": math.inf}
    deep[41]["sigma_max"] = {"value": math.nan}
    deep[90]["sigma_max"] = {"value": 0.0, "error": 0.0}
    for name, blocks in (("shallow", shallow), ("deep", deep)):
        writer = RunWriter(folder / name, config=sample_config("healthy"), environment=sample_environment())
        for step in (0, 100, 200):
            writer.scalar("loss", step, 2.0 - step / 200)
            writer.measurement("flow", step, flow_of(blocks, step))
        writer.close()


def figure(page: Page, name: str, panel: str | None = None) -> Any:
    """Where the page shows a number."""
    within = page.locator(f"[data-panel={panel}]") if panel else page
    return within.locator(f"[data-figure={name}]").first


_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def numbers(text: str) -> list[float]:
    """The numbers in a text as the page writes them: "(1.2 ± 0.3)·10⁶", "−0.5", "1,234"."""
    plain = text.replace("−", "-").replace(",", "")
    factor = re.search(r"\)·10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)", plain)
    scale = 10.0 ** int(factor[1].translate(_SUPERSCRIPT)) if factor else 1.0
    found = re.findall(r"(-?\d+(?:\.\d+)?)(?:·10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+))?", plain.partition(")")[0] if factor else plain)
    return [float(m) * 10.0 ** int(e.translate(_SUPERSCRIPT) or 0) * scale for m, e in found]
