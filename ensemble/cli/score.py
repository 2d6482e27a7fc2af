"""`ensemble check` and `ensemble schema`: what is known of a score before it plays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensemble.cli.codes import Code
from ensemble.cli.options import Json, store_url
from ensemble.cli.terminal import counted, result, result_json

if TYPE_CHECKING:
    from ensemble.score import Finding, Score


def check(
    score: Annotated[Path, typer.Argument(help="The score, a YAML file.", metavar="SCORE", show_default=False)],
    json: Json = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.", show_default=False)] = False,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="URL", help="Check it against what this store has, too.", show_default=False),
    ] = None,
) -> None:
    """Check a score before it plays.

    Tells all that is wrong (error) or can't be right (warning), with file, line and column. Exit code 1 on errors. With --store
    also whether the store has events of versions that nothing lifts, or of whose schema the score has made another.
    """
    import ensemble
    from ensemble.errors import ScoreError
    from ensemble.score import check as warnings_of

    made: Score | None = None
    findings: list[Any]
    try:
        made = ensemble.load(score)
        findings = list(warnings_of(made))
        if store is not None and not any(each.severity == "error" for each in findings):
            findings += _against(store_url(store), made)
    except ScoreError as error:
        findings = list(error.findings)
    errors = [each for each in findings if getattr(each, "severity", "error") == "error"]
    is_wrong = bool(errors or (strict and findings))
    counts = {} if made is None else {name: len(getattr(made, name)) for name in ("events", "motifs", "players", "sources")}
    if json:
        result_json({"ok": not is_wrong, "score": str(score), **counts, "findings": [_plain(each) for each in findings]})
    else:
        for each in findings:
            result(str(each), style="bold red" if each in errors else "yellow")
        warned = len(findings) - len(errors)
        if is_wrong:
            result(f"{score}: {counted(len(errors), 'error')}, {counted(warned, 'warning')}", style="bold red")
        else:
            parts = [counted(number, name.removesuffix("s")) for name, number in counts.items() if number]
            result(f"{score}: ok; {', '.join([*parts, counted(warned, 'warning')])}", style="green")
    if is_wrong:
        raise typer.Exit(Code.WRONG)


def schema(json: Json = False) -> None:
    """Write the score format's JSON Schema.

    Editors complete and check scores by it. It is JSON either way; with --json it is one line.
    """
    from json import dumps

    from ensemble.score import json_schema

    if json:
        result_json(json_schema())
    else:
        result(dumps(json_schema(), indent=2, ensure_ascii=False))


def _against(url: str, score: Score) -> list[Finding]:
    """What a store has that the score can't play: each once, whichever shard has it."""
    import ensemble
    from ensemble.evolution import faults
    from ensemble.score import Vocabulary

    vocabulary = Vocabulary(score)
    with ensemble.read(url) as reader:
        return list(dict.fromkeys(each for state in reader.states() for each in faults(state, score, vocabulary)))


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The score as it is.", show_default=False)],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The score as it is to be.", show_default=False)],
    json: Json = False,
) -> None:
    """Compare two scores: which players would break, by what, and what only changes.

    Names each player that a changed schema or motif would break, the field and the reason. Exit code 1 if there is one.
    """
    import ensemble
    from ensemble.score.diff import diff as compared

    found = compared(ensemble.load(old), ensemble.load(new))
    if json:
        import msgspec

        result_json({"ok": found.is_compatible, **msgspec.structs.asdict(found)})
    else:
        for each in found.breaks:
            result(str(each), style="bold red")
        for text in found.changes:
            result(text)
        players = len({each.player for each in found.breaks if each.player})
        if found.breaks:
            result(f"{new}: {counted(len(found.breaks), 'break')}, of {counted(players, 'player')}", style="bold red")
        else:
            result(f"{new}: breaks nothing; {counted(len(found.changes), 'change')}", style="green")
    if not found.is_compatible:
        raise typer.Exit(Code.WRONG)


def _plain(finding: Any) -> Any:
    return {"severity": "error", "message": finding} if isinstance(finding, str) else finding


COMMANDS = (
    ("check", check, "ensemble check scores/acme_fitness.yaml"),
    ("diff", diff, "ensemble diff scores/acme_fitness.yaml new.yaml"),
    ("schema", schema, "ensemble schema > scores/ensemble.schema.json"),
)
