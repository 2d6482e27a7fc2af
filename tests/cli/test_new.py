"""`ensemble new` makes a project that plays and passes its tests at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.shell import ROOT, Shell


@pytest.mark.parametrize(("template", "tests"), [("hello", 2), ("quakes", 1)])
def test_a_new_project_plays_and_passes_its_tests(shell: Shell, template: str, tests: int) -> None:
    made = shell.run("new", "my-band", "--from", template)
    project = Shell(shell.folder / "my-band")

    checked = project.run("check", "scores/my-band.yaml", "--strict")
    ran = project.run("run", "scores/my-band.yaml", "--json")
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert made.code == 0
    assert checked.code == 0, checked.out
    assert ran.code == 0
    assert ran.json["name"] == "my-band"
    assert ran.json["events"] > 0
    assert tested.returncode == 0, tested.stdout
    assert f"{tests} passed" in tested.stdout
    assert project.run("events", "--limit", 1).out != ""


def test_a_new_project_has_what_its_score_needs_and_no_more(shell: Shell) -> None:
    shell.run("new", "my-band")

    files = {
        str(path.relative_to(shell.folder / "my-band")) for path in (shell.folder / "my-band").rglob("*") if path.is_file()
    }

    assert files == {
        ".gitignore",
        "README.md",
        "conftest.py",
        "players/__init__.py",
        "players/hello.py",
        "scores/ensemble.schema.json",
        "scores/my-band.yaml",
        "tests/test_players.py",
        "tests/test_score.py",
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["my band"], "'my band' is no name for a project"),
        (["../elsewhere"], "is no name for a project"),
        (["a" * 300], "is no name for a project; use letters, digits, '_', '-' and '.', at most 100 of them"),
        (["taken"], "taken is there already"),
        (["x", "--from", "nope"], "there is no such score; there are acme_fitness, hello, quakes"),
    ],
)
def test_what_can_not_be_made_is_refused_and_nothing_is_written(shell: Shell, arguments: list[str], words: str) -> None:
    (shell.folder / "taken").mkdir()

    ran = shell.run("new", *arguments)

    assert ran.code == 2
    assert words in " ".join(ran.err.split())
    assert [path.name for path in shell.folder.iterdir()] == ["taken"]
    assert list((shell.folder / "taken").iterdir()) == []
