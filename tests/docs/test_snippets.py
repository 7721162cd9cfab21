"""Every Python block of the README and the docs runs, every TOML block loads, every link leads somewhere."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch

from eigenscope.monitor.rules import DEFAULTS, load_rules

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(ROOT.glob("docs/*.md"))
PYTHON = re.compile(r"^(?:```python|<!-- python)\n(.*?)^(?:```|-->)$", re.MULTILINE | re.DOTALL)
TOML = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page: Path) -> list[tuple[int, str]]:
    """The Python of a page with the lines where it begins; set-ups stand in HTML comments."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, match.start(1)), match[1]) for match in PYTHON.finditer(text)]


def anchors(page: Path) -> set[str]:
    """What a link into a page may name: headings as they are rendered, and explicit ids."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
    return plain | set(re.findall(r'id="([^"]+)"', text))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch.compile, when it is first imported
def test_python_blocks_run_from_the_top_of_a_page_to_its_end(page, workplace, monkeypatch):
    module = types.ModuleType("page")  # a page is one script
    monkeypatch.setitem(sys.modules, "page", module)
    before = torch.get_rng_state()
    for line, code in blocks(page):
        padded = "\n" * line + code  # so that an error names the line of the page
        exec(compile(padded, str(page), "exec"), module.__dict__)
    torch.set_rng_state(before)


def test_the_loop_in_the_readme_shows_all_that_it_needs_and_gets_a_check(workplace):
    """Somebody pastes the first block as it stands, nothing before it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    first = re.search(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    namespace = {}
    before = torch.get_rng_state()
    exec(first[1], namespace)
    torch.set_rng_state(before)
    assert namespace["monitor"].reading.step == 160


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_toml_blocks_are_rules_that_load(page, tmp_path):
    for block in TOML.findall(page.read_text(encoding="utf-8")):
        (tmp_path / "rules.toml").write_text(block, encoding="utf-8")
        assert load_rules(tmp_path / "rules.toml").keys() == DEFAULTS.keys()


def test_the_example_of_all_rules_says_what_the_defaults_say(tmp_path):
    first, *_ = TOML.findall((ROOT / "docs" / "alerts.md").read_text(encoding="utf-8"))
    (tmp_path / "rules.toml").write_text(first, encoding="utf-8")
    assert load_rules(tmp_path / "rules.toml") == DEFAULTS


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_within_the_repository_lead_somewhere(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_of_the_docs_is_in_its_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index
