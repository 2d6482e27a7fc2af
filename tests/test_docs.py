"""The code in the README and in the docs runs, and gives what it is said to give.

    python     runs; the blocks of a document one after the other, as the cells of a notebook
    text       right after a python block: what that block prints
    console    the lines after `$ ` run, and print the lines that follow; another score's store lies there already
    sh         the lines that begin with `ensemble` run
    yaml       a whole score loads
    any        after `<!-- file: PATH -->`: what that file says

`...` in an expected text stands for anything; seconds and sizes may be others.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import ensemble

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

FENCE = re.compile(r"(?:<!-- file: (?P<file>\S+) -->\n)?^```(?P<language>[\w-]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
MEASURED = re.compile(r"([\d.]+) (s|kB|MB)\b")
END = "\x00"


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int
    file: str | None
    prints: str | None
    """The text block right after it."""


def blocks(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    made = []
    for match, after in zip(found, [*found[1:], None], strict=False):
        prints = None
        if after is not None and after["language"] == "text" and not text[match.end() : after.start()].strip():
            prints = after["text"]
        made.append(Block(match["language"], match["text"], text.count("\n", 0, match.start()) + 1, match["file"], prints))
    return made


def documents(*languages: str) -> list[object]:
    """The documents that have such blocks."""
    having = [path for path in DOCUMENTS if any(block.language in languages for block in blocks(path))]
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in having]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with the repertoire in it, where commands may leave what they like."""
    for name in ("scores", "players"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = tmp_path / "bin/ensemble"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ensemble "$@"\n')
    command.chmod(0o755)
    return tmp_path


def run(desk: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{desk / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run(
        command, cwd=desk, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False
    )


def agrees(wanted: str, got: str) -> bool:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(MEASURED.sub("# \\2", wanted), MEASURED.sub("# \\2", got), flags)


def commands(text: str) -> list[tuple[str, str]]:
    """Each command of a console block, and what it prints."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif found:
            command, prints = found[-1]
            found[-1] = (command, f"{prints}{line}\n")
    return found


@pytest.mark.parametrize("path", documents("python"))
def test_the_python_of_a_document_runs_and_prints_what_it_says(path: Path, desk: Path) -> None:
    cells = [block for block in blocks(path) if block.language == "python"]
    program = "cell = {}\n" + "".join(
        f"exec(compile({block.text!r}, '{path.name}:{block.line}', 'exec'), cell)\nprint({END!r}, end='')\n" for block in cells
    )

    ended = run(desk, sys.executable, "-c", program)

    assert ended.returncode == 0, ended.stdout
    for block, printed in zip(cells, ended.stdout.split(END), strict=False):
        if block.prints is not None:
            assert agrees(block.prints, printed), f"{path.name}:{block.line} prints\n{printed}"


@pytest.mark.parametrize("path", documents("console"))
def test_the_commands_of_a_document_print_what_it_says(path: Path, desk: Path) -> None:
    run(desk, "ensemble", "run", "scores/hello.yaml", "--store", ".ensemble/hello")  # as `make play` leaves one before them

    for block in blocks(path):
        if block.language == "console":
            for command, wanted in commands(block.text):
                ended = run(desk, "bash", "-c", command)
                assert agrees(wanted, ended.stdout), f"{command}\nprints\n{ended.stdout}"


@pytest.mark.parametrize("path", documents("sh"))
def test_the_shell_lines_of_a_document_run(path: Path, desk: Path) -> None:
    lines = [line for block in blocks(path) if block.language == "sh" for line in block.text.splitlines()]

    for line in lines:
        if line.startswith("ensemble "):
            ended = run(desk, "bash", "-c", line)
            assert ended.returncode == 0, f"{line}\n{ended.stdout}"
        elif line.startswith("make "):
            target = line.split()[1]
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line


@pytest.mark.parametrize("path", documents("yaml"))
def test_the_scores_of_a_document_load(path: Path) -> None:
    scores = [block.text for block in blocks(path) if block.language == "yaml" and "ensemble: 1" in block.text]

    assert [ensemble.load(text).name for text in scores].count("") == 0


@pytest.mark.parametrize(
    ("path", "block"),
    [
        pytest.param(path, block, id=f"{path.name}:{block.file}")
        for path in DOCUMENTS
        for block in blocks(path)
        if block.file is not None
    ],
)
def test_a_file_that_is_shown_is_shown_as_it_is(path: Path, block: Block) -> None:
    assert block.file is not None
    assert (ROOT / block.file).read_text(encoding="utf-8") == block.text


@pytest.mark.parametrize("path", [pytest.param(path, id=str(path.relative_to(ROOT))) for path in DOCUMENTS])
def test_what_a_document_points_to_is_there(path: Path) -> None:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))

    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]

    assert [target for target in targets if target and not (path.parent / target).exists()] == []


def test_a_text_that_is_not_printed_is_seen() -> None:
    assert agrees("a ... c\n", "a b c\n")
    assert agrees("in 0.1 s\n", "in 0.2 s\n")
    assert not agrees("a ... d\n", "a b c\n")
    assert not agrees("6 events in 0.1 s\n", "7 events in 0.1 s\n")
    assert commands("$ one\nprints\n$ two\n") == [("one", "prints\n"), ("two", "")]
