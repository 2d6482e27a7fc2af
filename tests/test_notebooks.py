"""The notebooks: they play from top to bottom, and what they show is kept in the files, small and of no certain machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
FILES = sorted(NOTEBOOKS.glob("*.ipynb"))
MOST_BYTES = 300_000
PATH = re.compile(r"(?<![\w.:/<])/(?:work|tmp|home|root|Users|usr|opt|var|private|mnt)/")
"""How a file of a certain machine begins."""


def play(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ACME_", "RAY_"))}
    command = [sys.executable, str(NOTEBOOKS / "play.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def cells(file: Path, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(file.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def book(folder: Path, *sources: str) -> Path:
    file = folder / "some.ipynb"
    code: list[dict[str, Any]] = [
        {"cell_type": "code", "id": f"c-{i}", "metadata": {}, "execution_count": None, "outputs": [], "source": source}
        for i, source in enumerate(sources)
    ]
    file.write_text(json.dumps({"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    return file


@pytest.mark.everywhere("`make notebooks` plays them all")
@pytest.mark.parametrize("name", ["01", "02", "04"])
def test_a_notebook_plays_from_top_to_bottom(name: str) -> None:
    done = play(name)

    assert done.returncode == 0, done.stderr
    assert "played in" in done.stderr


def test_playing_changes_no_notebook() -> None:
    before = [file.read_bytes() for file in FILES]

    play("01")

    assert [file.read_bytes() for file in FILES] == before


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_outputs_are_kept_small_and_name_no_file_of_a_machine(file: Path) -> None:
    text = file.read_text(encoding="utf-8")

    assert len(text.encode()) < MOST_BYTES
    assert not PATH.search(text), PATH.findall(text)
    assert "vnd.jupyter.widget" not in text


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_all_cells_were_played_in_order_and_their_values_are_there(file: Path) -> None:
    code = cells(file, "code")

    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    pictures = [output for output in outputs if "<svg" in json.dumps(output.get("data", {}))]
    assert len(pictures) >= 2


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_links_of_notebooks_lead_somewhere(file: Path) -> None:
    text = "".join("".join(cell["source"]) for cell in cells(file, "markdown"))

    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (NOTEBOOKS / link).exists(), link


def test_a_cell_that_raises_fails_the_run_and_says_which(tmp_path: Path) -> None:
    book(tmp_path, "x = 1", "print(x); 1 / 0")

    done = play("--folder", str(tmp_path))

    assert done.returncode == 1
    assert "some.ipynb" in done.stderr and "1 / 0" in done.stderr and "ZeroDivisionError" in done.stderr


def test_what_is_written_leaves_out_widgets_and_files_of_cells(tmp_path: Path) -> None:
    file = book(
        tmp_path,
        "import anywidget\nclass Empty(anywidget.AnyWidget): pass\nEmpty()",
        "print(compile.__name__, (lambda: None).__code__.co_filename)",
    )

    assert play("--folder", str(tmp_path), "--write").returncode == 0

    widget, where = (cell["outputs"] for cell in cells(file, "code"))
    assert [*widget[0]["data"]] == ["text/plain"]
    assert where[0]["text"] == ["compile <cell>\n"]


def test_a_name_that_no_notebook_has_is_wrong_usage() -> None:
    done = play("99")

    assert done.returncode == 2
    assert "99" in done.stderr and "01_first_tune.ipynb" in done.stderr
