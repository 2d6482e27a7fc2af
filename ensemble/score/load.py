"""Loading: a path, a text or a mapping becomes a Score, or a ScoreError with everything that is wrong with it.

Owns the way from the document to the model. Texts are read by `source`, merged by `include`, their structure is judged by
`structure`; what is left to `build` is what single values mean.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ensemble.errors import ScoreError
from ensemble.score.build import build
from ensemble.score.files import read_file
from ensemble.score.finding import Finding, Where, nearest, path_text, sentence
from ensemble.score.include import Gathered
from ensemble.score.model import RECORD, Score
from ensemble.score.source import read_text
from ensemble.score.structure import read
from ensemble.score.tree import Node, NodePlaces, Unreadable, place_of, read_mapping, wrapped

Source = str | os.PathLike[str] | Mapping[str, Any]

MOST_FINDINGS = 100


class Findings:
    """Collects what is wrong, each with its place."""

    def __init__(self, tree: Node) -> None:
        self.tree = tree
        self.all: list[Finding] = []

    def rename(self, at: Where, name: str) -> None:
        """From now on the place of `at` is that of another key beside it: it was misspelt."""
        above, word = self.tree.at(at[:-1]), str(at[-1])
        if above is not None and isinstance(above.below, dict) and above.keys is not None and word in above.below:
            above.below[name] = above.below[word]
            if word in above.keys:
                above.keys[name] = above.keys[word]

    def __call__(
        self,
        at: Where,
        wrong: str,
        cure: str = "",
        *,
        word: str = "",
        known: Collection[str] = (),
        offset: int | None = None,
        is_key: bool = False,
        code: str = "",
    ) -> None:
        near = nearest(word, known) if word and known else None
        file, line, column = place_of(self.tree, at, is_key=is_key, offset=offset)
        self.all.append(
            Finding(
                code="condition" if at and at[-1] == "where" else code or "wrong-value",
                message=sentence(wrong, near, cure),
                path=path_text(at),
                file=file,
                line=line or None,
                column=column if line else None,
            )
        )


def load(src: Source) -> Score:
    """The score that a file (by its path), a text in YAML (it has a line break or ': ') or a mapping says.

    Errors: ScoreError, whose `findings` are all that is wrong with it.
    """
    try:
        root, file, folder, findings = _root(src)
    except Unreadable as error:
        raise ScoreError([error.finding]) from None
    if not isinstance(root.below, dict):
        line, column = (root.line, root.column) if root.line else (None, None)
        message = f"a score is a mapping with keys such as name: and players:; found {_kind(root.value)}"
        raise ScoreError([Finding(code="wrong-value", message=message, file=root.file, line=line, column=column)])
    gathered = Gathered(root, file)
    report = Findings(gathered.tree)
    report.all = findings + gathered.findings
    typed, faults = read(gathered.document)
    for fault in faults:
        is_key = fault.code == "unknown-key"
        report(fault.where, fault.wrong, fault.cure, word=fault.word, known=fault.known, is_key=is_key, code=fault.code)
        if fault.meant is not None:
            report.rename(fault.where, fault.meant)
    record = gathered.document.get(RECORD)
    if isinstance(src, Mapping) and isinstance(record, Mapping) and isinstance(record.get("folder"), str):
        folder = record["folder"]
    document = {key: value for key, value in gathered.document.items() if key not in ("include", RECORD)}
    if folder != ".":
        document[RECORD] = {"folder": folder}
    score = build(typed, report, folder=folder, plain=document, places=NodePlaces(gathered.tree))
    if report.all:
        raise ScoreError(_sorted(report.all, root.file))
    return score


def _root(src: Source) -> tuple[Node, str | None, str, list[Finding]]:
    """The tree of what was given, its file if it has one, its folder, and what is wrong with it."""
    if isinstance(src, Mapping):
        findings: list[Finding] = []

        def report(where: Where, message: str) -> None:
            findings.append(Finding(code="wrong-value", message=message, path=path_text(where)))

        return wrapped(read_mapping(src, report)), None, ".", findings
    if isinstance(src, str) and ("\n" in src or ": " in src):
        root, findings = read_text(src)
        return root, None, ".", findings
    if not isinstance(src, (str, os.PathLike)):
        raise TypeError(f"load() takes a path, a text or a mapping, not {type(src).__name__}")
    path = os.fspath(src)
    if not isinstance(path, str):
        raise TypeError("load() takes a path as text, not bytes")
    if not path:
        raise Unreadable("score-file", "no path was given; name the score's file", "<score>")
    root, findings = read_text(read_file(path), path)
    return root, path, str(Path(path).parent), findings


def _sorted(findings: Sequence[Finding], first: str) -> list[Finding]:
    """In the order in which a reader meets them: the score's own file first, then those that it includes."""
    once = list(dict.fromkeys(findings))
    once.sort(key=lambda each: (each.file != first, each.file, each.line or 0, each.column or 0))
    if len(once) > MOST_FINDINGS:
        rest = len(once) - MOST_FINDINGS
        once[MOST_FINDINGS:] = [Finding(code="wrong-value", message=f"and {rest} more; mend these first", file=first)]
    return once


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else "nothing" if value is None else f"{value!r:.60}"
