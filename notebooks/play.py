"""Plays the notebooks from top to bottom, each in a kernel of its own, in a copy of the project: nothing here is changed.

    python notebooks/play.py                play all; exit 1 if a cell raises
    python notebooks/play.py 01 02          those whose names begin so
    python notebooks/play.py --write        and keep the new outputs in the files

Owns what of an output is kept: what anybody would see who plays it anew. Ids of widgets, which mean nothing without their
kernel, and names of temporary files are left out.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

HERE = Path(__file__).parent
BESIDE = ("scores", "players")
"""What notebooks find beside their folder."""
PATIENCE_S = 120
WIDGET = "application/vnd.jupyter.widget-view+json"
CELL_FILE = re.compile(r"(?:/[\w.-]+)*/ipykernel_\d+/\d+\.py")
"""The file that Python is told a cell stands in."""


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 all were played; 1 a cell raised; 2 wrong usage."""
    parser = argparse.ArgumentParser(description="Play the notebooks from top to bottom.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="how the file's name begins; all, if none is given")
    parser.add_argument("--write", action="store_true", help="keep the outputs in the files")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the notebooks are")
    given = parser.parse_args(arguments)
    found = sorted(given.folder.glob("*.ipynb"))
    chosen = [file for file in found if not given.names or file.name.startswith(tuple(given.names))]
    if not chosen:
        parser.error(f"no notebook's name begins with {', '.join(given.names)}; there are {', '.join(f.name for f in found)}")
    return max(played(file, is_kept=given.write) for file in chosen)


def played(file: Path, *, is_kept: bool) -> int:
    """Play one; 0 or 1."""
    book: Any = nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nb-") as folder:  # short: Ray makes sockets below
        home = Path(folder) / "notebooks"
        home.mkdir()
        os.environ["JUPYTER_RUNTIME_DIR"] = folder
        for name in BESIDE:
            shutil.copytree(HERE.parent / name, home.parent / name, ignore=shutil.ignore_patterns("__pycache__"))
        client = NotebookClient(
            book,
            timeout=PATIENCE_S,
            kernel_name="python3",
            resources={"metadata": {"path": str(home)}},
            store_widget_state=False,
            record_timing=False,
            extra_arguments=["--log-level=40"],  # it warns of its own ports, which are those of this machine alone
        )
        try:
            client.execute()
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            print(f"{file.name}: {error}", file=sys.stderr)
            return 1
    if is_kept:
        keep(book)
        nbformat.write(book, file)  # type: ignore[no-untyped-call]
    print(f"{file.name}: played in {time.monotonic() - began:.1f} s", file=sys.stderr)
    return 0


def keep(book: Any) -> None:
    """Leave in its outputs what is worth keeping."""
    book.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in book.cells:
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if "data" in output:
                output.data.pop(WIDGET, None)
                output.data = {kind: without_files(text) for kind, text in output.data.items()}
            if "text" in output:
                output.text = without_files(output.text)


def without_files(text: Any) -> Any:
    return CELL_FILE.sub("<cell>", text) if isinstance(text, str) else text


if __name__ == "__main__":
    sys.exit(main())
