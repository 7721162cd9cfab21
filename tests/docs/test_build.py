"""The generated parts of the docs are what the code says now."""

import importlib.util
from pathlib import Path

import pytest

from eigenscope.cli import parser
from eigenscope.diagnostics.definitions import DEFINITIONS
from eigenscope.weights.definitions import WEIGHT_DEFINITIONS

DOCS = Path(__file__).parents[2] / "docs"
_spec = importlib.util.spec_from_file_location("docs_build", DOCS / "build.py")
build = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build)


def words(text: str) -> list[str]:
    """Without line breaks: how argparse wraps lines differs between versions of Python."""
    return text.split()


@pytest.mark.parametrize("page", build.pages(), ids=lambda page: page.name)
def test_no_page_is_stale(page, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = page.read_text(encoding="utf-8")
    assert words(build.built(text)) == words(text), "stale: run python docs/build.py"


@pytest.mark.parametrize(("page", "parts"), [
    ("concepts.md", {"definitions", "weights"}),
    ("alerts.md", {"rules", "rules_toml"}),
    ("cli.md", {"commands", "exit_statuses"}),
    ("reference.md", {"public", "results", "scans", "actions", "operators", "estimators"}),
])  # fmt: skip
def test_each_generated_part_has_its_page(page, parts):
    assert {match[2] for match in build.REGION.finditer((DOCS / page).read_text(encoding="utf-8"))} == parts


def test_every_definition_and_every_command_is_in_the_docs():
    concepts = (DOCS / "concepts.md").read_text(encoding="utf-8")
    assert all(f"**`{name}`**" in concepts for name in DEFINITIONS)
    assert all(f"| `{name}` |" in concepts for name in WEIGHT_DEFINITIONS)
    cli = (DOCS / "cli.md").read_text(encoding="utf-8")
    choices = next(action.choices for action in parser()._actions if action.choices)
    assert all(f"## eigenscope {name}" in cli for name in choices)


def test_every_page_is_in_both_lists_of_pages():
    pages = {page.name for page in DOCS.glob("*.md")} - {"index.md"}
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8").partition("## Documentation")[2]
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    assert not [name for name in pages if f"(docs/{name})" not in readme or f"({name})" not in index]


def test_check_finds_a_stale_page_and_leaves_it(tmp_path, monkeypatch, capsys):
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("<!-- generated: rules -->\nold\n<!-- end -->\n", encoding="utf-8")
    monkeypatch.setattr(build, "DOCS", page.parent)
    assert build.main(["--check"]) == 1
    assert "old" in page.read_text(encoding="utf-8")
    assert build.main([]) == 0
    assert "edge_of_stability" in page.read_text(encoding="utf-8")
    assert build.main(["--check"]) == 0
    assert "docs/page.md: stale" in capsys.readouterr().out
