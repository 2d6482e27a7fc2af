"""Draws what a terminal shows of a run, as SVG: the live table in the middle of it, and the sum at its end.

    python docs/terminal.py docs/terminal.svg

It is a real run of a real score, in a copy of the project, on a terminal of its own. Of the sum its tables are left
out, for room. The picture asks for no font from anywhere: it is set in those of who looks.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from fcntl import ioctl
from io import StringIO
from pathlib import Path
from termios import TIOCSWINSZ

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
SCORE = "scores/acme_fitness.yaml"
ROWS, COLUMNS = 40, 72
AGAIN = re.compile(r"(?:\r?\x1b\[2K|\x1b\[1A)+")
"""How a live table begins to be drawn over itself."""
FONTS = re.compile(r"\s*@font-face\s*\{.*?\}", re.DOTALL)


def main(target: Path) -> None:
    talk, result = played()
    frames = [frame for frame in AGAIN.split(talk) if "heard/s" in frame and "lag" in frame]
    middle = frames[len(frames) // 3]
    headline, *rest = result.rstrip().splitlines()
    lines = [f"$ ensemble run {SCORE}", middle.strip("\r\n"), "", headline, "...", *rest[-2:]]
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor")
    for line in "\n".join(lines).replace("\r", "").splitlines():
        console.print(Text.from_ansi(line), no_wrap=True, overflow="ellipsis", soft_wrap=False)
    drawn = console.export_svg(title="ensemble run", theme=DIMMED_MONOKAI, unique_id="run")
    target.write_text(FONTS.sub("", drawn), encoding="utf-8")


def played() -> tuple[str, str]:
    """What the run writes to stderr and to stdout, each a terminal."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("scores", "players"):
            shutil.copytree(ROOT / name, Path(folder) / name, ignore=shutil.ignore_patterns("__pycache__"))
        out, err = Terminal(), Terminal()
        subprocess.run(
            [str(Path(sys.executable).parent / "ensemble"), "run", SCORE],
            cwd=folder,
            stdout=out.inner,
            stderr=err.inner,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            check=True,
        )
        return err.text(), out.text()


class Terminal:
    """A terminal that keeps what is written to it."""

    def __init__(self) -> None:
        self._outer, self.inner = pty.openpty()
        ioctl(self.inner, TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._written: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._outer, 1 << 16)
            except OSError:  # nobody holds its other end any more
                return
            if not data:
                return
            self._written.append(data)

    def text(self) -> str:
        os.close(self.inner)
        self._reader.join()
        os.close(self._outer)
        return b"".join(self._written).decode()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
