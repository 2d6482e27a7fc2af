"""Runs `ensemble` as real processes, in a folder of a test's own, and gives what they wrote."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.cli.forked import can_fork, run
from tests.conformance.stand import eventually

ROOT = Path(__file__).parents[2]
SCORES = ROOT / "scores"

SHOP_SCORE = """
ensemble: 1
name: shop
events:
  order.placed:
    key: order_id
    schema:
      type: object
      required: [order_id, total]
      properties: {order_id: {type: string}, total: {type: number}}
  order.paid: {}
players:
  pay: {play: "shop:pay", on: order.placed, emits: [order.paid], retry: {attempts: 2, first: 1ms}}
  tally: {play: "shop:tally", on: order.paid}
"""

SHOP_PLAYERS = """
import threading
from ensemble import emit

def pay(order):
    if order.data["total"] > 1000:
        raise ValueError("too much")
    if order.data["total"] < 0:
        print("stuck", flush=True)
        threading.Event().wait()
    return emit("order.paid", total=order.data["total"])

def tally(event, ctx):
    ctx.state["paid"] = ctx.state.get("paid", 0) + 1
"""


@dataclass(frozen=True)
class Ran:
    """What a process came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one line of JSON that it wrote."""
        [line] = self.out.splitlines()
        return json.loads(line)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """A folder, and processes that were started in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def run(self, *arguments: object, stdin: str = "", env: Mapping[str, str] | None = None) -> Ran:
        """Run a command to its end."""
        given = self._env(env)
        if not can_fork(given, self._env(None)):
            ended = subprocess.run(
                self._command(arguments),
                cwd=self.folder,
                env=given,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            return Ran(ended.returncode, ended.stdout, ended.stderr)
        with TemporaryDirectory() as streams:
            files = [Path(streams, name) for name in ("in", "out", "err")]
            for file, text in zip(files, (stdin, "", ""), strict=True):
                file.write_text(text, encoding="utf-8")
            code = run(list(map(str, arguments)), self.folder, given, files, timeout=120)
            return Ran(code, files[1].read_text(encoding="utf-8"), files[2].read_text(encoding="utf-8"))

    def start(self, *arguments: object, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        """Start a command; it is killed when the test ends, if it still runs."""
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            self._command(arguments), cwd=self.folder, env=self._env(env), text=True, **(pipes | options)
        )
        self._started.append(process)
        return process

    def serve(self, *arguments: object) -> subprocess.Popen[str]:
        """Start to play the shop until it is told to end; returns once it can be spoken to."""
        process = self.start("run", "shop.yaml", "--serve", *arguments)
        eventually(lambda: (self.folder / ".ensemble/shop/door").exists() or process.poll() is not None, "the door")
        return process

    def on_a_terminal(
        self, *arguments: object, env: Mapping[str, str] | None = None, columns: int = 100, interrupt_at: str | None = None
    ) -> tuple[int, str]:
        """Run a command on a terminal; its exit code and all that was drawn. It is interrupted once a text has been drawn."""
        leader, follower = pty.openpty()
        termios.tcsetwinsize(follower, (40, columns))
        process = subprocess.Popen(
            self._command(arguments),
            cwd=self.folder,
            env=self._env({"TERM": "xterm", "COLUMNS": str(columns), "LINES": "40"} | dict(env or {})),
            stdin=follower,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        drawn = bytearray()
        try:
            while select.select([leader], [], [], 60)[0]:
                drawn += os.read(leader, 65536)
                if interrupt_at is not None and interrupt_at.encode() in drawn:
                    interrupt_at = None
                    process.send_signal(signal.SIGINT)
        except OSError:  # the other side was closed: all is drawn
            pass
        finally:
            os.close(leader)
        return process.wait(60), drawn.decode()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def write_shop(self) -> None:
        self.write("shop.yaml", SHOP_SCORE)
        self.write("shop.py", SHOP_PLAYERS)

    def write_orders(self, *totals: object, name: str = "orders.jsonl") -> Path:
        """A file with an order for each total."""
        lines = [
            json.dumps({"topic": "order.placed", "data": {"order_id": f"o-{number}", "total": total}})
            for number, total in enumerate(totals, 1)
        ]
        return self.write(name, "".join(f"{line}\n" for line in lines))

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()

    @staticmethod
    def _command(arguments: tuple[object, ...]) -> list[str]:
        return [sys.executable, "-m", "ensemble", *map(str, arguments)]

    def _env(self, more: Mapping[str, str] | None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ACME_", "ENSEMBLE_", "RAY_"))}
        # What Python kept of a player is taken for the player where the file is as long as before and of the same second.
        ours = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONFAULTHANDLER": "1", "NO_COLOR": "1"}
        return kept | ours | dict(more or {})


def screen(drawn: str) -> list[str]:
    """What a terminal shows in the end: lines that were drawn over or cleared are not there any more."""
    lines, at, column = [""], 0, 0
    for part in re.split(r"(\x1b\[[?\d;]*[a-zA-Z]|\r|\n)", drawn):
        if part == "\n":
            at += 1
            lines += [""] * (at == len(lines))
        elif part == "\r":
            column = 0
        elif part.startswith("\x1b[") and part.endswith("A"):
            at = max(0, at - int(part[2:-1] or 1))
        elif part == "\x1b[2K":
            lines[at] = ""
        elif not part.startswith("\x1b["):
            lines[at] = lines[at].ljust(column)[:column] + part + lines[at][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines]


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT) -> Ran:
    """Send a signal as Ctrl-C would, and wait for the end. Who does not end says where it is."""
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler writes down the stacks of all threads
        _, err = process.communicate(timeout=10)
        pytest.fail(f"this process doesn't end when it is told to:\n{err}")
    return Ran(process.returncode, out or "", err or "")
