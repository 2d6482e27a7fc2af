"""`ensemble check` and `ensemble schema`: what is known of a score before it plays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensemble.cli.codes import Code
from ensemble.cli.options import Json
from ensemble.cli.terminal import counted, result, result_json

if TYPE_CHECKING:
    from ensemble.score import Score


def check(
    score: Annotated[Path, typer.Argument(help="The score, a YAML file.", metavar="SCORE", show_default=False)],
    json: Json = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.", show_default=False)] = False,
) -> None:
    """Check a score before it plays.

    Tells all that is wrong (error) or can't be right (warning), with file, line and column. Exit code 1 on errors.
    """
    import ensemble
    from ensemble.errors import ScoreError
    from ensemble.score import check as warnings_of

    made: Score | None = None
    findings: list[Any]
    try:
        made = ensemble.load(score)
        findings = list(warnings_of(made))
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


def _plain(finding: Any) -> Any:
    return {"severity": "error", "message": finding} if isinstance(finding, str) else finding


COMMANDS = (
    ("check", check, "ensemble check scores/acme_fitness.yaml"),
    ("schema", schema, "ensemble schema > scores/ensemble.schema.json"),
)
