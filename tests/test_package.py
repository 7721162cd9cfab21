"""What `pip install .` installs: the command, and every file of the dashboard's pages."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PAGES = "eigenscope/dashboard/static/"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built here: without the network, by the build backend that the tests install."""
    pytest.importorskip("hatchling", reason="building a wheel needs hatchling: pip install hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", ROOT, *options, "-w", folder], check=True)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def files_below(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in paths}


def test_the_wheel_holds_every_page_of_the_dashboard(names):
    pages = {PAGES + name for name in files_below(ROOT / "src" / PAGES)}
    assert len(pages) > 20
    assert pages == {name for name in names if name.startswith(PAGES)}


def test_the_wheel_holds_every_module_and_the_mark_of_a_typed_package(names):
    assert {f"eigenscope/{name}" for name in files_below(ROOT / "src" / "eigenscope")} <= names
    assert "eigenscope/py.typed" in names


def test_the_wheel_holds_the_licences(names):
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert PAGES + "vendor/uplot/LICENSE" in names


def test_nothing_else_is_in_it(names):
    assert {name.split("/")[0] for name in names} == {"eigenscope", "eigenscope-0.1.0.dist-info"}


def test_the_wheel_installs_the_command(wheel, tmp_path):
    target = tmp_path / "site"
    options = ["--no-deps", "--quiet", "--disable-pip-version-check", "--target", target]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, wheel], check=True)
    command = [sys.executable, target / "bin" / "eigenscope", "--version"]
    environment = {**os.environ, "PYTHONPATH": str(target)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("eigenscope 0.1.0\n", "")
