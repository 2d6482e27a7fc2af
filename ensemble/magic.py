"""`%%score`: a cell that is a score, played with the players that the notebook defines.

    %load_ext ensemble

    %%score band
    ensemble: 1
    name: shop
    players: {payment: {on: order.placed, emits: [payment.captured]}}

Owns the magic. The band is the cell's value and stands in the variable that is named (`band`); the one that stood there is
closed first, so a cell may be run again. A score that names no `store:` is played in memory.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

SETTLED_S = 60.0
"""How long a score with sources is waited for before the cell ends; it plays on after that."""


def register(shell: Any) -> None:
    """Give an IPython shell the magic."""

    def score(line: str, cell: str) -> Any:
        """Play the score in this cell; its players and sources without `play:` are those of the notebook."""
        return play(shell.user_ns, line.strip() or "band", cell)

    shell.register_magic_function(score, magic_kind="cell", magic_name="score")


def play(names: dict[str, Any], name: str, text: str) -> Any:
    """The band of a score, which stands among `names` from now on.

    Errors: ScoreError; ValueError if the name can't be that of a variable.
    """
    from ensemble.band import Band
    from ensemble.opening import open as open_
    from ensemble.score import load

    if not name.isidentifier():
        raise ValueError(f"%%score {name}: this is no name of a variable; write one, such as %%score band")
    score = load(text)
    parts: dict[str, Any] = {**score.players, **score.sources}
    calls = {part: names[part] for part, spec in parts.items() if spec.play is None and callable(names.get(part))}
    before = names.get(name)
    if isinstance(before, Band):
        before.close()
    names[name] = band = open_(score, players=calls, store=None if "store" in score.document else "memory:")
    if score.sources:
        with suppress(TimeoutError):  # a long source: the band is there, and plays on
            band.settle(timeout=SETTLED_S)
    return band
