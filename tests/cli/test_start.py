"""The command line loads no more than it needs, helps, and completes itself. How fast it is: benchmarks/startup.py."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.shell import ROOT, Shell

COMMANDS = [
    *("run", "check", "schema", "publish", "events", "tail", "why", "table", "status", "new"),
    *("dead list", "dead show", "dead retry"),
    *("up", "down", "join", "leave", "scale", "reshard", "trim"),
]


def test_help_imports_nothing_of_the_engine() -> None:
    program = (
        "import sys; from ensemble.cli import run; run(['--help']); "
        "print(*sorted(name for name in sys.modules if name.partition('.')[0] in "
        "('msgspec', 'yaml', 'rich', 'networkx', 'cel', 'ray', 'matplotlib', 'asyncio') "
        "or name.startswith('ensemble.') and not name.startswith('ensemble.cli')), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert ended.stderr.split() == []


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_helps_with_an_example_that_names_it(shell: Shell, command: str) -> None:
    ran = shell.run(*command.split(), "--help")

    assert ran.code == 0
    assert f"Usage: ensemble {command} " in ran.out
    assert f"ensemble {command}" in ran.out.partition("Example:")[2]


def test_help_names_every_command(shell: Shell) -> None:
    text = shell.run("--help").out

    assert [command for command in COMMANDS if f"\n  {command.split()[0]} " not in text] == []


def test_colours_are_for_terminals_only(shell: Shell) -> None:
    code, drawn = shell.on_a_terminal("check", "nope.yaml", env={"NO_COLOR": ""})
    piped = shell.run("check", "nope.yaml", env={"FORCE_COLOR": "1"})

    assert code == piped.code == 1
    assert "\x1b" not in piped.out
    assert "nope.yaml: there is no such file" in drawn


def test_the_shell_can_complete_commands_and_options(shell: Shell) -> None:
    def completed(*words: str) -> str:
        return shell.run(
            env={
                "_ENSEMBLE_COMPLETE": "complete_bash",
                "COMP_WORDS": " ".join(["ensemble", *words]),
                "COMP_CWORD": str(len(words)),
            }
        ).out

    assert completed("ru").split() == ["run"]
    assert "--durability" in completed("run", "--du")
    assert {"list", "show", "retry"} <= {*completed("dead", "").split()}


def test_the_version_is_told(shell: Shell) -> None:
    ran = shell.run("--version")

    assert ran.code == 0
    assert ran.out.startswith("ensemble ")
