"""Every command says what it does, with an example that can be run."""

import argparse
import shlex
import subprocess
import sys

import pytest

from eigenscope.cli import parser


def commands() -> dict[str, argparse.ArgumentParser]:
    (choices,) = [action.choices for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(choices)


def examples(command: argparse.ArgumentParser) -> list[str]:
    lines = (command.epilog or "").splitlines()
    return [line.strip() for line in lines if line.strip().startswith(command.prog)]


def test_the_commands_are_those_of_the_design():
    looking = ["demo", "dashboard", "actions", "measure", "flow", "lipschitz", "scan", "compare"]
    assert list(commands()) == [*looking, "compress", "lora", "explain"]


@pytest.mark.parametrize("name", commands())
def test_help_has_an_example_that_the_command_understands(name):
    found = examples(commands()[name])
    assert found, f"eigenscope {name} --help has no example"
    for line in found:
        arguments = shlex.split(line.partition("  ")[0].partition(">")[0])[1:]
        assert parser().parse_args(arguments).run


@pytest.mark.parametrize("name", commands())
def test_every_option_is_explained(name):
    for action in commands()[name]._actions:
        assert action.help, f"{name}: {action.dest}"


@pytest.mark.parametrize("name", ["", *commands()])
@pytest.mark.parametrize("width", ["80", "140"])
def test_help_fits_the_terminal_and_exits_with_0(eigenscope, monkeypatch, name, width):
    monkeypatch.setenv("COLUMNS", width)
    ended = eigenscope(*name.split(), "--help")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("usage: eigenscope")
    assert "example" in ended.out
    assert max(map(len, ended.out.splitlines())) <= int(width)


def test_the_version_is_that_of_the_package(eigenscope):
    ended = eigenscope("--version")
    assert (ended.status, ended.out) == (0, "eigenscope 0.1.0\n")


@pytest.mark.parametrize(
    "arguments", [(), ("frobnicate",), ("measure",), ("demo", "--steps", "many"), ("dashboard",), ("flow",)]
)
def test_bad_usage_is_one_line_that_points_to_the_help(eigenscope, arguments):
    line = eigenscope(*arguments).complaint
    assert line.startswith("eigenscope")
    assert "--help" in line


def test_python_m_runs_the_same_command():
    ended = subprocess.run(
        [sys.executable, "-m", "eigenscope", "measure", "nowhere.py:factory"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "eigenscope: there is no file 'nowhere.py': give a path to a .py file or a dotted module\n"
    )  # fmt: skip
