"""Progress bars: there for who asks and looks, nowhere else; and nothing that is shown changes what is done."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

import ensemble
from ensemble import progress

SCORE = {"ensemble": 1, "name": "[red]shop", "players": {"count": {"on": "a"}}}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """What is written to a terminal on which somebody looks."""
    written = StringIO()
    monkeypatch.setattr(progress, "_console", lambda: Console(file=written, force_terminal=True, width=120))
    return written


@pytest.fixture
def band() -> Iterator[ensemble.Band]:
    with ensemble.open(SCORE | {"name": "shop"}, store="memory:", players={"count": lambda event: None}) as band:
        yield band


def test_a_bar_tells_how_many_of_how_many_are_published_and_heard(band: ensemble.Band, terminal: StringIO) -> None:
    assert band.publish_many([1] * 1000, topic="a", progress=True) == 1000
    band.settle(timeout=10, progress=True)

    shown = terminal.getvalue()
    assert "shop: publish" in shown and "1000/1000" in shown
    assert "shop: play" in shown


def test_what_has_no_length_is_counted(band: ensemble.Band, terminal: StringIO) -> None:
    assert band.publish_many((n for n in range(300)), topic="a", progress=True) == 300

    assert "300/300" in terminal.getvalue()


def test_more_that_comes_while_players_answer_is_counted_too(terminal: StringIO) -> None:
    gate = threading.Semaphore(0)

    def slow(event: ensemble.Event) -> Any:
        gate.acquire(timeout=10)
        return ensemble.emit("b")

    one = {"on": "a", "emits": ["b"], "section": {"batch": 1}}
    score = {"ensemble": 1, "name": "two", "players": {"one": one, "two": {"on": "b"}}}
    with ensemble.open(score, store="memory:", players={"one": slow, "two": lambda event: None}) as band:
        band.publish_many([1, 2, 3], topic="a")
        settling = threading.Thread(target=lambda: band.settle(timeout=10, progress=True))
        settling.start()

        for told in ("0/3", "2/4", "6/6"):  # the first answer is heard too
            while told not in terminal.getvalue():
                assert settling.is_alive(), f"it never told {told}"
                settling.join(0.01)
            gate.release(2 if told == "2/4" else 1)
        settling.join(30)


def test_nothing_is_written_where_nobody_looks(band: ensemble.Band, capfd: pytest.CaptureFixture[str]) -> None:
    band.publish_many([1, 2], topic="a", progress=True)
    band.settle(timeout=10, progress=True)

    assert capfd.readouterr() == ("", "")


def test_nothing_is_written_unless_it_is_asked_for(band: ensemble.Band, terminal: StringIO) -> None:
    band.publish_many([1, 2], topic="a")
    band.settle(timeout=10)

    assert terminal.getvalue() == ""


def test_an_error_is_the_same_and_ends_the_bar(band: ensemble.Band, terminal: StringIO) -> None:
    with pytest.raises(ensemble.InvalidEvent, match=r"item 3: .* \(2 before it were published\)"):
        band.publish_many([1, 2, object()], topic="a", progress=True)

    for each in threading.enumerate():
        if type(each).__name__ == "_RefreshThread":  # it was told to end, and nobody waits for that
            each.join(10)
            assert not each.is_alive()
    assert "shop: publish" in terminal.getvalue()


def test_patience_ends_when_it_ends_with_a_bar_too(terminal: StringIO) -> None:
    gate = threading.Event()
    with ensemble.open(SCORE | {"name": "slow"}, store="memory:", players={"count": lambda event: gate.wait(30)}) as band:
        band.publish("a", 1)

        with pytest.raises(TimeoutError, match=r"band slow did not settle in 0\.5 s: count has 1 to hear"):
            band.settle(timeout=0.5, progress=True)

        gate.set()


def test_a_name_is_text_whatever_brackets_it_has(terminal: StringIO) -> None:
    with progress.Bar("[red]a[/nonsense]") as bar:
        bar.show(1, 2)

    assert "[red]a[/nonsense]" in terminal.getvalue()


def test_on_a_real_terminal_it_is_drawn_and_stdout_stays_for_results() -> None:
    script = (
        "import ensemble\n"
        "with ensemble.open({'ensemble': 1, 'name': 'x', 'players': {'a': {'on': 'b'}}}, store='memory:',\n"
        "                   players={'a': lambda event: None}) as band:\n"
        "    band.publish_many([1] * 500, topic='b', progress=True)\n"
        "    band.settle(10, progress=True)\n"
        "print('done')\n"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}

    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=theirs, env=environment, timeout=60, check=True
    )

    os.close(theirs)
    assert done.stdout == b"done\n"
    assert b"500/500" in os.read(ours, 1 << 16)
    os.close(ours)
