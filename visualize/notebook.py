"""What a notebook shows of a score, a band, an event, a chain, a table, a status.

Owns the choice of form: a picture where one says more, a table else; plain text always. What fails is left out: a cell's
value is shown at any moment, also of a band that is closed, or without the packages that draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from html import escape
from itertools import islice
from typing import Any, TypeVar

from ensemble.band import Band
from ensemble.errors import EnsembleError
from ensemble.event import Event
from ensemble.reader import Reader
from ensemble.rebuilding import Comparison
from ensemble.replay import Change, Difference, Replay, TableChange
from ensemble.score import Score
from ensemble.status import Chain, Reaction, Status
from ensemble.table import Table

PLAIN, HTML, SVG = "text/plain", "text/html", "image/svg+xml"
ROWS = 20
"""How many rows of a table are shown."""
EXAMPLES = 5
"""How many changes of a player are shown side by side."""
Differing = TypeVar("Differing", Change, TableChange)
LAID_OVER = 50_000
"""A band with more events is drawn without what was played: reading it would keep the notebook waiting."""


def bundle(thing: Any) -> dict[str, str]:
    """What Jupyter is given, by MIME type."""
    made = {PLAIN: str(thing) if isinstance(thing, Chain) else repr(thing)}
    for kind, (form, show) in _SHOWN.items():
        if isinstance(thing, kind):
            with suppress(EnsembleError, ImportError):
                made[form] = show(thing)
            break
    return made


def _score(score: Score) -> str:
    from visualize.graph import reaction_graph
    from visualize.reaction import reaction_picture
    from visualize.svg import svg

    return svg(reaction_picture(reaction_graph(score, players=score.callables)))


def _band(band: Band) -> str:
    from visualize.graph import reaction_graph
    from visualize.played import lay_over
    from visualize.reaction import reaction_picture
    from visualize.svg import svg

    status = band.status()
    graph, played = reaction_graph(band.score, players=band.score.callables, imports=True), None
    if status.events <= LAID_OVER:
        graph, played = lay_over(graph, band.history())
    return f"{_status(status)}<div>{svg(reaction_picture(graph, played))}</div>"


def _reader(reader: Reader) -> str:
    return _status(reader.status())


def _status(status: Status) -> str:
    rows = [
        (name, each.lag, each.heard, each.emitted, each.failed, each.dead, each.instances)
        for name, each in status.sections.items()
    ]
    head = f"<p><b>{escape(status.name)}</b>: {status.events:,} events in <code>{escape(status.url)}</code></p>"
    return head + _rows(("player", "lag", "heard", "emitted", "failed", "dead", "instances"), rows)


def _event(event: Event) -> str:
    fields = ("topic", "key", "data", "time", "id", "source", "causationid", "correlationid")
    return _rows(("event", event.topic), [(name, getattr(event, name)) for name in fields[1:]])


def _table(table: Table) -> str:
    keys = list(islice(table, ROWS + 1))
    rows = [(key, table.get(key)) for key in keys[:ROWS]]
    more = f"<p>… {len(table):,} keys in all</p>" if len(keys) > ROWS else ""
    return _rows((f"{table.name}: key", "state"), rows) + more


def _comparison(compared: Comparison) -> str:
    head = f"<p>{escape(compared.summary)}</p>"
    states = [(key, then, now) for key, (then, now) in islice(compared.changes.items(), ROWS)]
    said = [(each.event, _told(each.then), _told(each.now)) for each in compared.sayings]
    unheard = [(each.event, each.key, each.error) for each in compared.unheard[:ROWS]]
    return (
        head
        + (_rows(("key", "state now", "rebuilt"), states) if states else "")
        + (_rows(("event", "was answered", "would be answered"), said) if said else "")
        + (_rows(("can't be heard", "key", "error"), unheard) if unheard else "")
    )


def _told(answers: Iterable[tuple[str, str, Any]]) -> str:
    return ", ".join(f"{topic} {data}" for topic, _, data in answers)


def _chain(chain: Chain) -> str:
    causes = "".join(f"<li>{_said(cause, None)}</li>" for cause in chain.causes)
    told = f"<ol>{causes}</ol>" if causes else ""
    return f"{told}<ul><li>{_reaction(chain.tree)}</li></ul>"


def _reaction(root: Reaction) -> str:
    """The tree as nested lists, built from its leaves, since a chain may be longer than Python's stack."""
    order = [root]
    for each in order:
        order.extend(each.said)
    made: dict[int, str] = {}
    for each in reversed(order):
        inner = "".join(f"<li>{made[id(answer)]}</li>" for answer in each.said)
        made[id(each)] = _said(each.event, each.player) + (f"<ul>{inner}</ul>" if inner else "")
    return made[id(root)]


def _said(event: Event, player: str | None) -> str:
    by = f" by {escape(player)}" if player else ""
    return (
        f"<b>{escape(event.topic)}</b> {escape(event.key)}{by} <small>{event.written_at:%H:%M:%S.%f} {escape(event.id)}</small>"
    )


def _rows(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    top = "".join(f'<th style="text-align:left">{escape(head)}</th>' for head in heads)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f'<td style="text-align:right">{value:,}</td>'
    text = value if isinstance(value, str) else "" if value is None else str(value)
    return f'<td style="text-align:left">{escape(text if len(text) <= 500 else text[:499] + "…")}</td>'


def _difference(found: Difference) -> str:
    if not found:
        return f"<p>nothing differs; {found.same:,} events the same</p>"
    counts = [(name or "from outside", each["new"], each["gone"], each["different"]) for name, each in found.counts().items()]
    told = _rows(("player", "new", "gone", "different"), counts) if counts else ""
    events = [
        (each.kind, each.player or "from outside", _topic(each), each.key, *each.apart())
        for each in _examples(found.events)
    ]
    if events:
        told += _rows(("", "player", "event", "key", "was", "is"), events) + _more(len(events), len(found.events), "changes")
    tables = [(each.player, each.key, *each.apart()) for each in _examples(found.tables)]
    if tables:
        told += _rows(("table", "key", "was", "is"), tables) + _more(len(tables), len(found.tables), "keys")
    return f"{told}<p>{found.same:,} events the same</p>"


def _examples(changes: Iterable[Differing]) -> list[Differing]:
    """The first few of each player, so that one who says much does not hide the others."""
    by_player: dict[str, list[Differing]] = {}
    for change in changes:
        of = by_player.setdefault(change.player, [])
        if len(of) < EXAMPLES:
            of.append(change)
    return [change for of in by_player.values() for change in of]


def _topic(change: Change) -> str:
    """What was said, and what is said in its place."""
    topics = dict.fromkeys(each.topic for each in (change.was, change.now) if each is not None)
    return " → ".join(topics)


def _more(shown: int, count: int, what: str) -> str:
    return f"<p>… {count:,} {what} in all</p>" if count > shown else ""


def _replay(made: Replay) -> str:
    head = f"<p><b>{made.events:,} events</b> of {escape(made.parent)} replayed in {made.took_s:.1f} s"
    into = "" if made.take is None else f", into the take <b>{escape(made.take)}</b>"
    unsteady = "".join(f"<p>player {escape(name)} is not deterministic</p>" for name in made.unsteady)
    return f"{head}{into}</p>{unsteady}{_difference(made.difference)}"


_SHOWN: Mapping[type, tuple[str, Callable[[Any], str]]] = {
    Score: (SVG, _score),
    Band: (HTML, _band),
    Reader: (HTML, _reader),
    Status: (HTML, _status),
    Event: (HTML, _event),
    Chain: (HTML, _chain),
    Table: (HTML, _table),
    Difference: (HTML, _difference),
    Replay: (HTML, _replay),
    Comparison: (HTML, _comparison),
}
"""The first that fits."""
