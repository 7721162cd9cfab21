"""Write the generated parts of the docs: what stands between `<!-- generated: NAME -->` and `<!-- end -->`.

python docs/build.py            brings the pages up to date
python docs/build.py --check    only says which are stale, with exit status 1

Definitions, default thresholds, help texts and docstrings stand once, in the code. A test runs the check.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
REGION = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


# -- concepts.md and alerts.md ----------------------------------------------------------------------------------------


def definitions() -> str:
    """Each published name: its label, unit, meaning and source."""
    from eigenscope.diagnostics.definitions import DEFINITIONS

    return "\n\n".join(_definition(name, item) for name, item in DEFINITIONS.items())


def weights() -> str:
    """The numbers of a weight matrix, and those of a comparison."""
    from eigenscope.weights.definitions import WEIGHT_DEFINITIONS

    rows = ["| name | | what it is | unit | source |", "|---|---|---|---|---|"]
    for name, item in WEIGHT_DEFINITIONS.items():
        rows.append(f"| `{name}` | {item.label} | {item.definition} | {item.unit} | {item.source} |")
    return "\n".join(rows)


def _definition(name: str, item: Any) -> str:
    aside = ", ".join(part for part in (item.label if item.label != name else "", item.unit) if part)
    source = f" *{item.source}.*" if item.source else ""
    return f"**`{name}`**{f' ({aside})' if aside else ''}  \n{item.definition}{source}"


def rules() -> str:
    """The rules with their default thresholds."""
    from eigenscope.monitor.judgements import RULES
    from eigenscope.monitor.rules import DEFAULTS

    rows = ["| rule | watches | warning from | critical from | action |", "|---|---|---|---|---|"]
    for name, limits in DEFAULTS.items():
        rule = RULES.get(name)
        others = {
            "signal_flow": ("how far the gradient's norm gets over the depth", "by the remedy, as RE-INITIALIZE"),
            "loss_rise": ("the training loss over its lowest", "LOWER THE STEP SIZE, then STOP & GO BACK"),
            "diverged": ("the training loss", "STOP & GO BACK"),
        }
        watches, action = (f"`{rule.metric}`", rule.action) if rule else others[name]
        graded = limits.warning != limits.critical
        levels = (f"{limits.warning:,g}", f"{limits.critical:,g}") if graded else ("", "at once")
        rows.append(f"| `{name}` | {watches} | {' | '.join(levels)} | {action} |")
    return "\n".join(rows)


def rules_toml() -> str:
    """A rules file that says what the defaults say."""
    from eigenscope.monitor.rules import DEFAULTS, settings

    tables = []
    for name, limits in DEFAULTS.items():
        lines = [f"{key} = {str(getattr(limits, key)).lower()}" for key in settings(name)]
        tables.append("\n".join([f"[{name}]", *lines]))
    return "```toml\n" + "\n\n".join(tables) + "\n```"


# -- cli.md -----------------------------------------------------------------------------------------------------------


def commands() -> str:
    """What each command prints with --help, 80 columns wide."""
    from eigenscope.cli import parser

    os.environ["COLUMNS"] = "80"
    root = parser()
    (subparsers,) = (action for action in root._actions if isinstance(action, argparse._SubParsersAction))
    parsers = {"eigenscope": root} | {f"eigenscope {name}": sub for name, sub in subparsers.choices.items()}
    return "\n\n".join(f"## {name}\n\n```text\n{sub.format_help().rstrip()}\n```" for name, sub in parsers.items())


def exit_statuses() -> str:
    """What a command's exit status says."""
    from eigenscope.cli import EXIT_STATUSES

    rows = ["| exit status | |", "|---|---|"]
    return "\n".join([*rows, *(f"| {status} | {meaning} |" for status, meaning in EXIT_STATUSES.items())])


# -- reference.md -----------------------------------------------------------------------------------------------------


def public() -> str:
    """The names of `import eigenscope as es`."""
    import eigenscope as es

    return "\n\n".join(_entry(f"es.{name}", getattr(es, name)) for name in es.__all__)


def results() -> str:
    """What a measurement takes and gives."""
    from eigenscope.diagnostics.estimate import Estimate
    from eigenscope.diagnostics.reading import CountEstimate, CurvatureReading, Density, Escape
    from eigenscope.leading import Sharpness
    from eigenscope.operators.checks import SelfCheck
    from eigenscope.settings import Settings

    found = [Settings, CurvatureReading, Estimate, CountEstimate, Density, Escape, SelfCheck, Sharpness]
    return "\n\n".join(_entry(item.__name__, item) for item in found)


def scans() -> str:
    """What a scan and a comparison give."""
    from eigenscope.scanning.comparison import Change, Comparison
    from eigenscope.scanning.result import MatrixRow, Scan, Skipped
    from eigenscope.weights.reading import WeightReading

    found = [Scan, MatrixRow, Skipped, WeightReading, Comparison, Change]
    return "\n\n".join(_entry(item.__name__, item) for item in found)


def operators() -> str:
    """The public names of `eigenscope.operators`."""
    return _module_names("eigenscope.operators")


def actions() -> str:
    """The public names of `eigenscope.actions`."""
    import eigenscope.actions as found

    classes = [name for name in found.__all__ if inspect.isclass(getattr(found, name))]
    return "\n\n".join(_entry(f"es.actions.{name}", getattr(found, name)) for name in classes)


def estimators() -> str:
    """The public names of `eigenscope.estimators`."""
    return _module_names("eigenscope.estimators")


def _module_names(name: str) -> str:
    module = __import__(name, fromlist=["__all__"])
    return "\n\n".join(_entry(f"{name}.{item}", getattr(module, item)) for item in module.__all__)


def _entry(name: str, item: Any) -> str:
    """A heading, the signature, the docstring, and of a class its fields or public methods."""
    parts = [f"### `{name}`"]
    record = inspect.isclass(item) and (issubclass(item, Exception) or dataclasses.is_dataclass(item))
    if not (record or inspect.ismodule(item)):
        parts.append(f"```text\n{_signature(name, item)}\n```")
    parts.append(_markdown(inspect.getdoc(item) or ""))
    if dataclasses.is_dataclass(item):
        parts.append(_fields(item))
    if inspect.isclass(item):
        parts += _members(item)
    return "\n\n".join(part for part in parts if part)


def _signature(name: str, item: Any) -> str:
    """The call as it is written in the source, without the types of the caller's own things."""
    signature = inspect.signature(item)
    words = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words and not any("*" in w for w in words):
            words.append("*")
        default = "" if parameter.default is parameter.empty else f"={_default(parameter.default)}"
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        words.append(f"{stars}{parameter.name}{default}")
    return "\n".join(textwrap.wrap(f"{name}({', '.join(words)})", 100, subsequent_indent="    "))


def _default(value: Any) -> str:
    name = getattr(value, "__name__", repr(value))
    return "..." if name == "<lambda>" else name


def _members(item: type) -> list[str]:
    """The public methods and properties that the class itself defines, with the first sentence of each."""
    lines = []
    for name, member in vars(item).items():
        plain = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        text = inspect.getdoc(plain) if inspect.isroutine(plain) else None
        if text and (not name.startswith("_") or name in ("__getitem__", "__matmul__", "__contains__")):
            call = name if isinstance(member, property) else _call(name, plain)
            lines.append(f"- `{call}`: {' '.join(text.split(chr(10) * 2)[0].split())}")
    return ["\n".join(lines)] if lines else []


def _call(name: str, method: Any) -> str:
    names = [*inspect.signature(method).parameters][1:]
    return {"__getitem__": "[name]", "__contains__": "name in", "__matmul__": "@ v"}.get(
        name, f"{name}({', '.join(names)})"
    )


def _fields(item: type) -> str:
    """A table of a dataclass: names, defaults, and the comments that stand behind them in the source."""
    source, rows = textwrap.dedent(inspect.getsource(item)), []
    lines = source.splitlines()
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            comment = lines[(node.end_lineno or 1) - 1].partition("  # ")[2]
            default = f"`{ast.unparse(node.value)}`" if node.value and "field(" not in ast.unparse(node.value) else ""
            kind = ast.unparse(node.annotation).replace("|", "\\|")
            rows.append(f"| `{node.target.id}` | `{kind}` | {default} | {comment} |")
    return "\n".join(["| field | type | default | |", "|---|---|---|---|", *rows])


def _markdown(doc: str) -> str:
    """A NumPy docstring as Markdown: sections in bold, parameters as a list, `::` blocks fenced."""
    doc = re.sub(r"\n*(?:(?<=\s)|^)::\n\n((?: {4}.*\n|\n)+(?: {4}.*)?)", _fenced, doc + "\n")
    doc = re.sub(r"^(\w+)\n-{3,}\n((?:.+\n?|\n(?=\S.*\n    ))*)", _section, doc, flags=re.MULTILINE)
    return doc.strip()


def _fenced(match: re.Match[str]) -> str:
    code = textwrap.dedent(match[1]).strip("\n")
    kind = "python" if "es." in code else "toml" if code.startswith("[") else "text"
    return f"\n\n```{kind}\n{code}\n```\n"


def _section(match: re.Match[str]) -> str:
    entries = re.split(r"\n(?=\S)", match[2].strip("\n"))
    lines = []
    for entry in entries:
        name, _, text = entry.partition("\n")
        words = ", ".join(f"`{part}`" for part in name.split(", "))
        lines.append(f"- {words}: {' '.join(text.split())}" if text else f"- {name}")
    return f"**{match[1]}**\n\n" + "\n".join(lines) + "\n"


# -- all of it --------------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part
    for part in (
        definitions,
        weights,
        rules,
        rules_toml,
        commands,
        exit_statuses,
        public,
        results,
        scans,
        actions,
        operators,
        estimators,
    )
}


def built(text: str) -> str:
    """A page with its generated parts as they should be."""
    return REGION.sub(lambda match: f"{match[1]}{PARTS[match[2]]()}\n{match[3]}", text)


def pages() -> Iterable[Path]:
    """The pages that may hold generated parts."""
    return sorted(DOCS.glob("*.md"))


def main(arguments: list[str]) -> int:
    """Write or check; gives the exit status."""
    check, stale = "--check" in arguments, 0
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (fresh := built(text)) != text:
            stale += 1
            print(f"{page.relative_to(DOCS.parent)}: {'stale, run python docs/build.py' if check else 'written'}")
            if not check:
                page.write_text(fresh, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
