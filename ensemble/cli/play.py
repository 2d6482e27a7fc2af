"""`ensemble run`: play a score until its sources are dry and all is heard, or until Ctrl-C.

Owns the waiting, the signals and the order of things at the end: what is in flight is finished, then the sum is told.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Annotated, Literal

import typer

from ensemble.cli.codes import Code
from ensemble.cli.options import take_name, usage
from ensemble.cli.terminal import Enough, json_text, talk

if TYPE_CHECKING:
    from ensemble.band import Band
    from ensemble.cli.summary import Before, Summary
    from ensemble.score import Score

LAST_LINES_S = 0.5
"""How long Ray has to bring the last lines of the players' logs here, before it is left."""
LOOK_EVERY_S = 0.2
FINISHING = "finishing what is in flight; Ctrl-C again quits at once"


def run(
    score: Annotated[Path, typer.Argument(metavar="SCORE", help="The score, a YAML file.", show_default=False)],
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="URL", help="Where the log is kept: a folder, or memory:", show_default=False),
    ] = None,
    take: Annotated[
        str | None,
        typer.Option(
            "--take", metavar="NAME", help="Play a take of the store, for itself.", callback=take_name, show_default=False
        ),
    ] = None,
    stage: Annotated[Literal["solo", "ray"] | None, typer.Option("--stage", help="Where it plays.", show_default=False)] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="Events to play, in place of the score's files: JSON Lines, also .gz; - is stdin. May be given again.",
            show_default=False,
        ),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Go on when all is heard, for events that others publish.", show_default=False)
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Write the summary as one line of JSON, and nothing else.", show_default=False)
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first line that is refused.", show_default=False)
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Play files once more that were played to their end.", show_default=False)
    ] = False,
    breaking: Annotated[
        bool,
        typer.Option(
            "--breaking",
            help="Play though the store has events that the score can't lift, or of whose schema it made another.",
            show_default=False,
        ),
    ] = False,
    durability: Annotated[
        Literal["disk", "memory"] | None,
        typer.Option(
            "--durability",
            help="disk: events outlive the machine; memory: they outlive the process only.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Play a score.

    It ends when its sources are dry and all is heard, or on Ctrl-C. Killed, interrupted or done: run it again and it goes on
    where it was.

    Exit codes: 0 done, 1 the score or the input is wrong, 2 wrong usage, 3 some events ended as dead letters, 4 the store
    can't be used, 130 interrupted.
    """
    with _result_alone(json) as stdout:
        try:
            code = _play(score, store, take, stage, inputs or [], serve, strict, again, breaking, durability, stdout)
        except Exception as error:
            from ensemble.cli.codes import code_of, told

            if stdout is not None:
                print(json_text({"score": str(score), "error": told(error), "exit": int(code_of(error))}), file=stdout)
            raise
    raise typer.Exit(code)


def _play(
    path: Path,
    store: str | None,
    take: str | None,
    stage: str | None,
    inputs: list[str],
    serve: bool,
    strict: bool,
    again: bool,
    breaking: bool,
    durability: Literal["disk", "memory"] | None,
    stdout: IO[str] | None,
) -> Code:
    import ensemble
    from ensemble.cli import asides
    from ensemble.cli import summary as sums
    from ensemble.errors import InvalidEvent

    for file in inputs:
        if file != "-" and not Path(file).is_file():
            wrong = "it is a folder; name a file in it" if Path(file).is_dir() else f"there is no such file in {Path.cwd()}"
            raise InvalidEvent(f"--input {file}: {wrong}")
    score = ensemble.load(path)
    stop = _Stop()
    with stop:  # from before players are imported: whoever sees that something plays may interrupt it
        url = _url(score, store, take)
        summary, trouble = _play_score(score, path, url, stage, inputs, serve, strict, again, breaking, durability, stop)
    if stdout is not None:
        print(json_text(summary.as_json()), file=stdout)
    else:
        with suppress(Enough):
            sums.show(summary)
    asides.after_playing(summary, score, has_inputs=bool(inputs))
    if trouble is not None:
        talk(str(trouble), style="bold red", sign="error")
    return summary.code


def _play_score(
    score: Score,
    path: Path,
    store: str,
    stage: str | None,
    inputs: list[str],
    serve: bool,
    strict: bool,
    again: bool,
    breaking: bool,
    durability: Literal["disk", "memory"] | None,
    stop: _Stop,
) -> tuple[Summary, Exception | None]:
    """The sum of a run, and what ended it before its time."""
    import ensemble
    from ensemble.cli import asides
    from ensemble.log import has_log

    if not serve:  # who waits for the end reads the sum; who serves would wait for long
        logging.getLogger("ensemble.dead").setLevel(logging.ERROR)
    asides.before_playing(score, path, again=again, has_inputs=bool(inputs))
    is_new = not has_log(store)
    before = _before(store)
    began = time.monotonic()
    with ensemble.open(
        score, stage=stage, store=store, again=again, strict=strict, inputs=inputs, breaking=breaking, durability=durability
    ) as band:
        if is_new:
            asides.new_store(band.url)
        for note in band.status().notes:
            talk(note, sign="note", style="yellow")
        trouble = None
        try:
            _wait(band, stop, is_endless=serve or _has_ticks(score))
        except ensemble.EnsembleError as error:
            if isinstance(error, (ensemble.Unavailable, ensemble.LogCorrupt)):
                raise
            trouble = error
        if (stage or score.stage.kind) == "ray":
            stop.wait(LAST_LINES_S)
        return _sum(band, before, time.monotonic() - began, stop, trouble), trouble


def _url(score: Score, store: str | None, take: str | None) -> str:
    """What is played."""
    from ensemble.opening import with_take

    try:
        return with_take(score.store.url if store is None else store, take)
    except TypeError as error:
        usage(str(error))


def _wait(band: Band, stop: _Stop, *, is_endless: bool) -> None:
    """Wait until all is heard, or until somebody wants an end; show how it goes."""
    from ensemble.cli.view import view

    with view() as shown:
        stop.is_drawing = shown.is_drawn
        try:
            while not stop.is_wanted:
                began = time.monotonic()
                try:
                    band.settle(timeout=LOOK_EVERY_S)
                except TimeoutError:
                    pass
                else:
                    if not is_endless:
                        return
                    stop.wait(max(0.0, LOOK_EVERY_S - (time.monotonic() - began)))
                shown.show(band.status())
        finally:
            stop.is_drawing = False
    if stop.is_wanted and shown.is_drawn:  # what was said over the table went with it
        talk(FINISHING)


def _before(url: str) -> Before:
    """How the store stands: a band begins to play while it is opened."""
    import ensemble
    from ensemble.cli.summary import Before
    from ensemble.log import has_log

    if not has_log(url):
        return Before()
    with ensemble.read(url) as reader:
        now = reader.status()
    return Before(now.events, now.topics, now.requests, now.cost)


def _sum(band: Band, before: Before, seconds: float, stop: _Stop, trouble: Exception | None) -> Summary:
    """The sum of the run, after what was in flight has been finished."""
    import ensemble
    from ensemble.cli.summary import summarise

    error = None if trouble is None else str(trouble)
    if (not stop.is_wanted and trouble is None) or band.url.startswith("memory:"):
        return summarise(band, before, band.status(), seconds=seconds, interrupted=stop.is_wanted, error=error)
    band.close()
    with ensemble.read(band.url) as reader:
        return summarise(reader, before, reader.status(), seconds=seconds, interrupted=stop.is_wanted, error=error)


class _Stop:
    """Ctrl-C and SIGTERM while a band opens and plays: the first asks for an end, the second ends at once."""

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self.is_drawing = False
        """Whether a table is being drawn over itself on stderr: then nothing may move the cursor to another line."""

    @property
    def is_wanted(self) -> bool:
        return self._wanted.is_set()

    def wait(self, seconds: float) -> None:
        self._wanted.wait(seconds)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._wanted.is_set():
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h")  # the cursor, which the live table hides
            os._exit(Code.INTERRUPTED)
        self._wanted.set()
        os.write(2, b"\r\x1b[2K" + FINISHING.encode() if self.is_drawing else b"\n" + FINISHING.encode() + b"\n")

    def __enter__(self) -> None:
        self._before = [(each, signal.signal(each, self._ask)) for each in (signal.SIGINT, signal.SIGTERM)]

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before:
            signal.signal(each, handler)


@contextmanager
def _result_alone(json: bool) -> Iterator[IO[str] | None]:
    """With `--json` the way to stdout, while all else that is written there, by players too, goes to stderr."""
    if not json:
        yield None
        return
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    printing, sys.stdout = sys.stdout, sys.stderr
    try:
        with os.fdopen(own, "w", encoding="utf-8") as stdout:
            yield stdout
    finally:
        sys.stdout = printing


def _has_ticks(score: Score) -> bool:
    return any(source.every_us is not None or source.cron is not None for source in score.sources.values())


COMMANDS = (("run", run, "ensemble run scores/acme_fitness.yaml"),)
