"""The shape of the package: imports point one way, files fit a sitting, public things are explained."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import eigenscope as es

ROOT = Path(es.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LONGEST = 450  # lines; a file fits a sitting

# What we look at ← how we look ← what it means ← one look ← the loop ← what is shown ← the commands. A run file is
# the contract between the monitor that writes it and the dashboard that reads it, so `runs` stands below both and
# knows nothing but errors.
LAYERS = [
    {"errors", "words"},
    {"operators", "runs", "scenarios", "checkpoints", "folders"},
    {"estimators"},
    {"diagnostics", "lowrank"},
    {"escape", "leading", "settings"},
    {"weights"},
    {"look", "bounds", "flow", "explain"},
    {"actions"},
    {"scanning", "compression"},
    {"adapters"},
    {"monitor"},
    {"reports", "dashboard"},
    {"cli"},
    {"__init__", "__main__"},
]
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
ONLY = {  # what stands on less than its place would allow
    "runs": {"errors"},
    "scenarios": {"errors"},
    "dashboard": {"errors", "runs", "diagnostics"},  # reads runs, computes nothing; of diagnostics the definitions
}


def module(path: Path) -> str:
    """The dotted name of a file, without the package's."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = {module(path): path for path in FILES}


def part(name: str) -> str:
    """The folder or file of the package that a module belongs to."""
    return name.partition(".")[0]


def imports(path: Path) -> Iterator[str]:
    """Our own modules that a file imports, by their names in MODULES."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from filter(None, (_ours(name) for name in names))


def _ours(name: str) -> str | None:
    if name.partition(".")[0] != "eigenscope":
        return None
    short = name.removeprefix("eigenscope").lstrip(".")
    while short:
        for candidate in (short, f"{short}.__init__"):
            if candidate in MODULES:
                return candidate
        short = short.rpartition(".")[0]
    return "__init__"


def parts_imported(name: str) -> set[str]:
    found = {part(other) for key, path in MODULES.items() if part(key) == name for other in imports(path)}
    return found - {name}


def test_every_part_of_the_package_has_its_place():
    assert {part(name) for name in MODULES} == set(RANK)


@pytest.mark.parametrize("name", sorted(RANK))
def test_imports_point_one_way(name):
    for other in parts_imported(name):
        assert RANK[other] < RANK[name], f"{name} must not import {other}"


@pytest.mark.parametrize(("name", "allowed"), ONLY.items())
def test_some_parts_stand_on_less(name, allowed):
    assert parts_imported(name) <= allowed


def test_the_dashboard_takes_nothing_but_definitions_from_diagnostics():
    used = {other for key, path in MODULES.items() if part(key) == "dashboard" for other in imports(path)}
    assert {name for name in used if part(name) == "diagnostics"} == {"diagnostics.definitions"}


def test_estimators_know_no_model():
    used = {other for key, path in MODULES.items() if part(key) == "estimators" for other in imports(path)}
    allowed = {"errors", "operators.__init__", "operators.base", "operators.space", "operators.dense"}
    assert {name for name in used if part(name) != "estimators"} <= allowed
    for key, path in MODULES.items():
        if part(key) == "estimators":
            assert "nn.Module" not in path.read_text()


def test_no_file_imports_itself_through_others():
    graph = {name: {other for other in imports(path) if other != name} for name, path in MODULES.items()}
    del graph["__init__"]  # the public names; what is inside imports from where a name is defined
    list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", [name for name in MODULES if name != "__main__"])
def test_nothing_inside_imports_the_public_names(name):
    assert "__init__" not in set(imports(MODULES[name]))


def test_the_public_names_are_sorted_documented_and_there():
    assert es.__all__ == sorted(es.__all__)
    for name in es.__all__:
        assert getattr(es, name).__doc__, name


def test_the_public_names_are_these():
    assert set(es.__all__) == {
        "actions",
        *("EigenscopeError", "InputError", "MeasurementError", "RunFileError"),
        *("Monitor", "Run", "Series", "Settings", "compare", "curvature", "lipschitz", "load_run", "scan", "sharpness"),
        "signal_flow",
        *("PCA", "TruncatedSVD", "truncated_svd"),
        *("Adapter", "extract_lora", "inspect_lora", "merge_lora", "resize_lora"),
        *("Compressed", "CompressionReport", "TradeOff", "compress", "compression_curve", "load_compressed"),
    }


@pytest.mark.parametrize("suffix", [".py", ".js", ".css", ".html"])
def test_files_fit_a_sitting(suffix):
    own = [path for path in ROOT.rglob(f"*{suffix}") if "vendor" not in path.parts]
    assert own
    for path in own:
        assert len(path.read_text().splitlines()) <= LONGEST, path


def test_the_package_is_typed():
    assert (ROOT / "py.typed").is_file()


@pytest.mark.parametrize("path", FILES, ids=module)
def test_modules_and_public_functions_and_classes_are_explained(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name
