"""What `ensemble run` says on stderr beside its result: what a score is warned of, which store is new, what --again leaves out.

Owns the sentences and when they are due. Changes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.cli.terminal import counted, quoted, talk

if TYPE_CHECKING:
    from ensemble.cli.summary import Summary
    from ensemble.score import Score

WARNINGS_SHOWN = 10
QUIET = {"unheard-event", "idle-instances", "unused-silence"}
"""Warnings that are told by `ensemble check` alone: what they tell of changes nothing in what is played."""
OF_FILES = {"source-file", "no-key"}
"""Warnings about files that `--input` takes the place of."""


def before_playing(score: Score, path: Path, *, again: bool, has_inputs: bool) -> None:
    """Say what the score is warned of, and what is asked for in vain."""
    from ensemble.score import check

    passed = QUIET | OF_FILES if has_inputs else QUIET
    told = [each for each in check(score) if each.severity == "warning" and each.code not in passed]
    for finding in told[:WARNINGS_SHOWN]:
        talk(str(finding), style="yellow")
    if len(told) > WARNINGS_SHOWN:
        talk(f"{counted(len(told) - WARNINGS_SHOWN, 'more warning')}: ensemble check {quoted(path)}", style="yellow")
    speakers = [name for name, source in score.sources.items() if source.play is not None]
    if again and speakers:
        talk(
            f"--again plays files once more; it does nothing to {', '.join(speakers)}, which speak by code; "
            "another --store begins anew",
            sign="note",
            style="yellow",
        )


def new_store(url: str) -> None:
    """Say where a store was made: its default lies in the folder that one happens to be in."""
    if url.startswith("memory:"):
        return
    is_relative = "://" not in url and not Path(url).is_absolute()
    talk(f"new store {url}" + (f" in {Path.cwd()}" if is_relative else ""), style="dim")


def after_playing(summary: Summary, score: Score, *, has_inputs: bool) -> None:
    """Say why nothing was new, where a store had been played to its end."""
    if summary.events_now or not summary.events or summary.interrupted or summary.error is not None or not summary.sources:
        return
    has_files = has_inputs or any(source.file is not None for source in score.sources.values())
    cures = ["--again plays its files once more"] * has_files + ["--store URL begins a new log"]
    talk(f"nothing was new: this store has played its sources to their end; {', '.join(cures)}", sign="note", style="yellow")
