"""The motif: the pattern of events that a player listens for.

Owns the pattern's tree, its grammar (`parse`, and `document` back again), topic patterns and which topics they match. Knows
no score file, broker or clock: how a duration and a condition are read is given to it (`Grammar`).

A simple motif is one that a single event fulfils: a topic pattern, `{event:, where:}`, or a list of these.

    A                                        Topic     one event
    [A, B]                                   AnyOf     any of them
    {event: A, where: data.x > 1, as: a}     Topic     one event that fulfils a condition, under a label
    {all: [A, B], within: 30m}               AllOf     each once, in any order
    {seq: [A, {not: B}, C], within: 10m}     Seq       in this order; others may lie between, a B may not
    {count: A, times: 5, within: 1m}         Count     the fifth A within a minute
    {every: 10s, of: A}                      Window    all A of ten seconds
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

import msgspec

At: TypeAlias = "tuple[str | int, ...]"
"""A place in the document that a motif is read from."""

LONGEST_TOPIC = 255
DEEPEST = 32
"""How deep motifs may be nested."""


class Topic(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event whose topic matches `pattern` and for which `where` (CEL) holds."""

    pattern: str
    where: str | None = None
    label: str | None = None


class AnyOf(msgspec.Struct, frozen=True, omit_defaults=True):
    """Any one of the parts."""

    parts: tuple[Motif, ...]


class AllOf(msgspec.Struct, frozen=True, omit_defaults=True):
    """Each part once, in any order, all of one key."""

    parts: tuple[Motif, ...]
    within_us: int | None = None
    by: str | None = None
    where: str | None = None


class Not(msgspec.Struct, frozen=True, omit_defaults=True):
    """In a sequence: no such event between its neighbours; at the end, none until `within` is over."""

    part: Motif


class Seq(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parts in this order; other events may lie between."""

    parts: tuple[Motif, ...]
    within_us: int | None = None
    by: str | None = None
    where: str | None = None


class Count(msgspec.Struct, frozen=True, omit_defaults=True):
    """The `times`-th within a duration."""

    of: Motif
    times: int
    within_us: int | None = None
    by: str | None = None


class Window(msgspec.Struct, frozen=True, omit_defaults=True):
    """All of `every_us`, one window after the other."""

    of: Motif
    every_us: int
    by: str | None = None


Motif: TypeAlias = "Topic | AnyOf | AllOf | Seq | Not | Count | Window"


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic fits a pattern: `*` is exactly one token, a last `>` one or more.

    A topic whose first token begins with `_` (the band's own) fits only a pattern that spells that token.
    """
    wanted, said = pattern.split("."), topic.split(".")
    if topic[:1] == "_" and wanted[0] != said[0]:
        return False
    for i, token in enumerate(wanted):
        if token == ">" and i == len(wanted) - 1:
            return len(said) > i
        if i >= len(said) or token not in ("*", said[i]):
            return False
    return len(wanted) == len(said)


def overlap(a: str, b: str) -> bool:
    """Whether some topic fits both patterns."""
    return _overlap(a.split("."), b.split("."))


def _overlap(a: Sequence[str], b: Sequence[str]) -> bool:
    if a and b and (a[0].startswith("_") or b[0].startswith("_")) and a[0] != b[0]:
        return False
    for i in range(max(len(a), len(b))):
        if i >= len(a) or i >= len(b):
            return False
        if a[i] == ">" or b[i] == ">":
            return True
        if a[i] != b[i] and "*" not in (a[i], b[i]):
            return False
    return True


def is_pattern(text: str) -> bool:
    """Whether a topic pattern has wildcards."""
    return "*" in text or ">" in text


def leaves(motif: Motif) -> tuple[Topic, ...] | None:
    """The topics of a simple motif, any one of which fulfils it; None if the motif is composite."""
    if isinstance(motif, Topic):
        return (motif,)
    if isinstance(motif, AnyOf):
        found: list[Topic] = []
        for part in motif.parts:
            below = leaves(part)
            if below is None:
                return None
            found += below
        return tuple(found)
    return None


def topics(motif: Motif) -> tuple[str, ...]:
    """All topic patterns in a motif, those under `not` among them; each once, in the order in which they are written."""
    return tuple(dict.fromkeys(topic.pattern for topic in _walk(motif)))


def _walk(motif: Motif) -> Iterator[Topic]:
    if isinstance(motif, Topic):
        yield motif
    elif isinstance(motif, (AnyOf, AllOf, Seq)):
        for part in motif.parts:
            yield from _walk(part)
    elif isinstance(motif, Not):
        yield from _walk(motif.part)
    else:
        yield from _walk(motif.of)


def document(motif: Motif) -> Any:
    """A motif as a score writes it: `parse(document(m)) == m`. Names of motifs are written out."""
    if isinstance(motif, Topic):
        if motif.where is None and motif.label is None:
            return motif.pattern
        return _without_none({"event": motif.pattern, "where": motif.where, "as": motif.label})
    if isinstance(motif, AnyOf):
        return [document(part) for part in motif.parts]
    if isinstance(motif, Not):
        return {"not": document(motif.part)}
    if isinstance(motif, Count):
        return _without_none(
            {"count": document(motif.of), "times": motif.times, "within": _us(motif.within_us), "by": motif.by}
        )
    if isinstance(motif, Window):
        return _without_none({"every": _us(motif.every_us), "of": document(motif.of), "by": motif.by})
    return _without_none(
        {
            "all" if isinstance(motif, AllOf) else "seq": [document(part) for part in motif.parts],
            "within": _us(motif.within_us),
            "by": motif.by,
            "where": motif.where,
        }
    )


def _us(us: int | None) -> str | None:
    return None if us is None else f"{us}us"


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


# The grammar


class Report(Protocol):
    """Takes one thing that is wrong; `code` is its kind.

    Shapes: `at` is the place; `wrong` says what is wrong and what was found, `cure` what to do. `word` was found where one of
            `known` should be. `offset` is the character of the text at that place. `is_key`: the key is meant, not its value.
    """

    def __call__(
        self,
        at: At,
        wrong: str,
        cure: str = "",
        *,
        word: str = "",
        known: Collection[str] = (),
        offset: int | None = None,
        is_key: bool = False,
        code: str = "",
    ) -> None: ...


KINDS: dict[str, tuple[str, ...]] = {
    "event": ("event", "where", "as"),
    "all": ("all", "within", "by", "where"),
    "seq": ("seq", "within", "by", "where"),
    "not": ("not",),
    "count": ("count", "times", "within", "by"),
    "every": ("every", "of", "by"),
}
"""Each kind of motif by the key that tells it, and the keys that it has."""

KEYS = tuple(dict.fromkeys(key for keys in KINDS.values() for key in keys))
_KINDS_SHOWN = "a topic, a list, {event:}, {all:}, {seq:}, {count:} or {every:}"

_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED_LABELS = ("data", "key", "topic", "time", "true", "false", "null", "in")
PATH = re.compile(r"[^.\s\[\]]+(?:\.[^.\s\[\]]+)*")
"""A path into data: names with dots between them."""


def pattern_fault(text: str, *, wildcards: bool = True) -> tuple[str, str] | None:
    """What is wrong with a topic or topic pattern, and what to do; None if nothing is."""
    if not text:
        return "an empty topic", "write one such as order.placed, and '>' or '*' alone in quotes"
    if len(text) > LONGEST_TOPIC:
        return f"a topic of {len(text)} characters", f"the longest is {LONGEST_TOPIC}"
    tokens = text.split(".")
    if "" in tokens:
        if text.startswith("."):
            return f"{text!r} begins with a dot", f"write {text.lstrip('.')!r}" if text.strip(".") else "write a name"
        if text.endswith("."):
            return f"{text!r} ends with a dot", f"write {text.rstrip('.') + '.>'!r} for all below it, or remove the dot"
        return f"{text!r} has an empty part between two dots", "remove a dot, or write '*' for any one token"
    for place, token in enumerate(tokens):
        if token in ("*", ">"):
            if not wildcards:
                return f"{text!r} has the wildcard '{token}'", "one topic is needed here; write it out"
            if token == ">" and place != len(tokens) - 1:
                return (
                    f"{text!r} has '>' before its end",
                    "'>' stands for all the rest, so it comes last; '*' is any one token",
                )
        elif not _TOKEN.fullmatch(token):
            return _token_fault(text, token)
    return None


def _token_fault(text: str, token: str) -> tuple[str, str]:
    if token in ("#", "**", "+"):  # as MQTT, RabbitMQ and globs write them
        meant = "'*' for exactly one token" if token == "+" else "'>' for all the rest"
        return f"{text!r} has {token!r}, which is no wildcard here", f"write {meant}"
    if "*" in token or ">" in token:
        return (
            f"{text!r} has a wildcard inside the token {token!r}",
            "'*' stands for a whole token: order.*, not order.pl*",
        )
    odd = next(each for each in token if not _TOKEN.fullmatch(each))
    shown = "a space" if odd == " " else repr(odd)
    return (
        f"{text!r} has {shown} in it",
        "a topic has letters, digits, '_' and '-' in tokens with dots between them, as in order.placed",
    )


class Grammar:
    """Reads motifs out of a document, where each may name others.

    Every fault is given to `report`; what can't be read is None. `duration_us` reads a duration and `check_where` a condition
    with the labels it may use; both raise ValueError with a sentence.
    """

    def __init__(
        self,
        report: Report,
        *,
        duration_us: Callable[[Any], int],
        check_where: Callable[[str, Collection[str]], Any],
        motifs: Mapping[str, Any] | None = None,
    ) -> None:
        self._report = report
        self._duration_us = duration_us
        self._check_where = check_where
        self._motifs = motifs or {}
        self._known: dict[str, Motif | None] = {}
        self._open: list[str] = []
        """Names that are being read, the outermost first: to see cycles."""

    def named(self, name: str) -> Motif | None:
        """The motif that the document calls by this name."""
        if name in self._open:
            chain = " -> ".join([*self._open[self._open.index(name) :], name])
            self._report(
                ("motifs", self._open[-1]), f"motifs that name each other in a circle: {chain}", "write one of them out"
            )
            return None
        if name not in self._known:
            self._open.append(name)
            self._known[name] = self.parse(self._motifs[name], ("motifs", name))
            self._open.pop()
        return self._known[name]

    def parse(self, value: Any, at: At = ()) -> Motif | None:
        """A motif; None if it is wrong, which has been reported."""
        labels = list(_labels(value))
        for label in dict.fromkeys(label for label in labels if labels.count(label) > 1):
            self._report(at, f"two events have the label {label!r}", "give each its own with as:")
        return self._motif(value, at, frozenset(labels), is_in_seq=False, depth=0)

    def _motif(self, value: Any, at: At, labels: Collection[str], *, is_in_seq: bool, depth: int) -> Motif | None:
        if depth > DEEPEST:
            self._report(at, f"motifs nested more than {DEEPEST} deep", "give the inner ones a name under motifs:")
            return None
        if isinstance(value, str):
            if value in self._motifs:
                return self.named(value)
            return self._topic(value, at)
        if isinstance(value, Mapping):
            return self._form(value, at, labels, is_in_seq=is_in_seq, depth=depth)
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            parts = self._parts(value, at, labels, is_in_seq=False, depth=depth)
            return None if parts is None else AnyOf(parts)
        found = "nothing" if value is None else _shown(value)
        self._report(at, f"{found} is not a motif", f"write {_KINDS_SHOWN}")
        return None

    def _topic(self, text: str, at: At) -> Topic | None:
        fault = pattern_fault(text)
        if fault is None:
            return Topic(text)
        wrong, cure = fault
        near = tuple(self._motifs)
        self._report(at, wrong, cure, word=text if near else "", known=near)
        return None

    def _parts(
        self, values: Sequence[Any], at: At, labels: Collection[str], *, is_in_seq: bool, depth: int
    ) -> tuple[Motif, ...] | None:
        if not values:
            self._report(at, "an empty list", "name at least one motif")
            return None
        parts = []
        for i, value in enumerate(values):
            part = self._motif(value, (*at, i), labels, is_in_seq=is_in_seq, depth=depth + 1)
            if part is not None and isinstance(value, str) and value in values[:i]:
                self._report((*at, i), f"{value!r} is there twice", "remove one of them")
                part = None
            parts.append(part)
        return None if None in parts else tuple(part for part in parts if part is not None)

    def _form(self, form: Mapping[Any, Any], at: At, labels: Collection[str], *, is_in_seq: bool, depth: int) -> Motif | None:
        form = {key: value for key, value in form.items() if not str(key).startswith("x-")}
        kinds = [kind for kind in KINDS if kind in form]
        if len(kinds) != 1:
            self._no_kind(form, at, kinds)
            return None
        kind = kinds[0]
        is_whole = True
        for key in form:
            if key not in KINDS[kind]:
                is_whole = False
                near = () if key in KEYS else KINDS[kind]
                cure = f"it has {', '.join(KINDS[kind])}"
                self._report((*at, key), f"{{{kind}:}} has no {key!r}", cure, word=str(key), known=near, is_key=True)
        made = getattr(self, f"_{kind}")(form, at, labels, is_in_seq, depth)
        return made if is_whole else None

    def _no_kind(self, form: Mapping[Any, Any], at: At, kinds: Sequence[str]) -> None:
        if kinds:
            self._report(at, f"a motif can't be both {{{kinds[0]}:}} and {{{kinds[1]}:}}", "nest one in the other")
            return
        unknown = [str(key) for key in form if key not in KEYS]
        found = f"{{{', '.join(map(str, form))}}}" if form else "{}"
        self._report(
            (*at, unknown[0]) if unknown else at,
            f"{found} is not a motif",
            f"write {_KINDS_SHOWN}",
            word=unknown[0] if unknown else "",
            known=tuple(KINDS),
            is_key=bool(unknown),
        )

    # One method a kind. Each goes on after a fault, so that all of them are reported.

    def _event(self, form: Mapping[str, Any], at: At, labels: Collection[str], is_in_seq: bool, depth: int) -> Motif | None:
        pattern = form["event"]
        if not isinstance(pattern, str):
            self._report(
                (*at, "event"),
                f"{_shown(pattern)} is not a topic",
                "event: takes one topic or pattern; any of several is a list of motifs: [A, B]",
            )
            topic = None
        elif pattern in self._motifs:
            self._report(
                (*at, "event"), f"{pattern!r} is a motif", "event: takes a topic; name the motif alone, without event:"
            )
            topic = None
        else:
            topic = self._topic(pattern, (*at, "event"))
        where, is_right = self._where(form, at, labels)
        label = form.get("as")
        if label is not None and (not isinstance(label, str) or not LABEL.fullmatch(label) or label in RESERVED_LABELS):
            self._report(
                (*at, "as"), f"{_shown(label)} is not a label", "write a word of letters, digits and '_', such as first"
            )
            is_right = False
        return None if topic is None or not is_right else Topic(topic.pattern, where, label)

    def _all(self, form: Mapping[str, Any], at: At, labels: Collection[str], is_in_seq: bool, depth: int) -> Motif | None:
        parts, is_right = self._two_or_more(form["all"], (*at, "all"), labels, depth, is_in_seq=False)
        within, by, where, are_right = self._frame(form, at, labels)
        return AllOf(parts, within, by, where) if is_right and are_right else None

    def _seq(self, form: Mapping[str, Any], at: At, labels: Collection[str], is_in_seq: bool, depth: int) -> Motif | None:
        parts, is_right = self._two_or_more(form["seq"], (*at, "seq"), labels, depth, is_in_seq=True)
        within, by, where, are_right = self._frame(form, at, labels)
        if parts:
            if isinstance(parts[0], Not):
                self._report(
                    (*at, "seq", 0),
                    "a sequence that begins with not:",
                    "begin with an event, and say after it what must not come",
                )
                is_right = False
            if any(isinstance(a, Not) and isinstance(b, Not) for a, b in pairwise(parts)):
                self._report((*at, "seq"), "two not: one after the other", "write one with a list: {not: [A, B]}")
                is_right = False
            if isinstance(parts[-1], Not) and "within" not in form:
                self._report(
                    at,
                    "a sequence that ends with not: and has no within:",
                    "say for how long it must not come, as in within: 15m",
                )
                is_right = False
        return Seq(parts, within, by, where) if is_right and are_right else None

    def _not(self, form: Mapping[str, Any], at: At, labels: Collection[str], is_in_seq: bool, depth: int) -> Motif | None:
        part = self._motif(form["not"], (*at, "not"), labels, is_in_seq=False, depth=depth + 1)
        if not is_in_seq:
            self._report(
                at,
                "not: stands outside of a sequence",
                "write it in a seq:, as in {seq: [A, {not: B}, C]}",
                is_key=False,
            )
            return None
        return None if part is None else Not(part)

    def _count(self, form: Mapping[str, Any], at: At, labels: Collection[str], is_in_seq: bool, depth: int) -> Motif | None:
        of = self._motif(form["count"], (*at, "count"), labels, is_in_seq=False, depth=depth + 1)
        within, by, _, is_right = self._frame(form, at, labels)
        times = form.get("times")
        if "times" not in form:
            self._report(at, "{count:} has no times:", "say how many, as in times: 5")
        elif isinstance(times, bool) or not isinstance(times, int) or not 1 <= times <= 1_000_000:
            self._report((*at, "times"), f"{_shown(times)} is not a number of times", "write a whole number from 1 to 1000000")
            times = None
        return Count(of, times, within, by) if of is not None and times is not None and is_right else None

    def _every(self, form: Mapping[str, Any], at: At, labels: Collection[str], is_in_seq: bool, depth: int) -> Motif | None:
        every_us = self._duration(form["every"], (*at, "every"))
        by, is_right = self._path(form, at)
        if "of" not in form:
            self._report(at, "{every:} has no of:", "say which events, as in {every: 10s, of: order.placed}")
            return None
        of = self._motif(form["of"], (*at, "of"), labels, is_in_seq=False, depth=depth + 1)
        return Window(of, every_us, by) if of is not None and every_us is not None and is_right else None

    # What the kinds share

    def _two_or_more(
        self, values: Any, at: At, labels: Collection[str], depth: int, *, is_in_seq: bool
    ) -> tuple[tuple[Motif, ...], bool]:
        if not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
            self._report(at, f"{_shown(values)} is not a list of motifs", f"write {at[-1]}: [A, B]")
            return (), False
        if len(values) < 2:
            self._report(at, f"{len(values) or 'no'} motif, where two or more are needed", f"write {at[-1]}: [A, B]")
            return (), False
        parts = self._parts(values, at, labels, is_in_seq=is_in_seq, depth=depth)
        return parts or (), parts is not None

    def _frame(
        self, form: Mapping[str, Any], at: At, labels: Collection[str]
    ) -> tuple[int | None, str | None, str | None, bool]:
        """`within`, `by` and `where`, and whether they are right."""
        within = self._duration(form["within"], (*at, "within")) if "within" in form else None
        by, is_by_right = self._path(form, at)
        where, is_where_right = self._where(form, at, labels)
        return within, by, where, is_by_right and is_where_right and (within is not None or "within" not in form)

    def _duration(self, value: Any, at: At) -> int | None:
        try:
            us = self._duration_us(value)
        except ValueError as error:
            self._report(at, str(error))
            return None
        if us == 0:
            self._report(at, f"{_shown(value)} is no time at all", "write a duration such as 30m")
            return None
        return us

    def _path(self, form: Mapping[str, Any], at: At) -> tuple[str | None, bool]:
        by = form.get("by")
        if by is not None and (not isinstance(by, str) or not PATH.fullmatch(by)):
            self._report(
                (*at, "by"),
                f"{_shown(by)} is not a path into data",
                "write names with dots between them, as in customer.id",
            )
            return None, False
        return by, True

    def _where(self, form: Mapping[str, Any], at: At, labels: Collection[str]) -> tuple[str | None, bool]:
        where = form.get("where")
        if where is None and "where" not in form:
            return None, True
        if not isinstance(where, str):
            self._report(
                (*at, "where"), f"{_shown(where)} is not a condition", "write it as text in CEL, as in data.total > 100"
            )
            return None, False
        try:
            self._check_where(where, labels)
        except ValueError as error:
            self._report((*at, "where"), str(error), offset=getattr(error, "at", None))
            return None, False
        return where, True


def _shown(value: Any) -> str:
    """A value as it is shown in a sentence."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Mapping, list)):
        return "a mapping" if isinstance(value, Mapping) else "a list"
    return f"{value!r:.80}"


def _labels(value: Any, depth: int = 0) -> Iterator[str]:
    """All labels in a motif's document."""
    if depth > DEEPEST:
        return
    if isinstance(value, Mapping):
        if isinstance(value.get("as"), str):
            yield value["as"]
        for key in ("all", "seq", "not", "count", "of"):
            yield from _labels(value.get(key), depth + 1)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        for part in value:
            yield from _labels(part, depth + 1)


def parse(
    value: Any,
    *,
    duration_us: Callable[[Any], int],
    check_where: Callable[[str, Collection[str]], Any] = lambda text, labels: None,
    motifs: Mapping[str, Any] | None = None,
) -> Motif:
    """A motif from a document.

    Errors: ValueError with every fault, one a line.
    """
    faults: list[str] = []

    def report(at: At, wrong: str, cure: str = "", **_: Any) -> None:
        place = ".".join(map(str, at))
        faults.append(f"{place + ': ' if place else ''}{wrong}{'; ' + cure if cure else ''}")

    motif = Grammar(report, duration_us=duration_us, check_where=check_where, motifs=motifs).parse(value)
    if faults or motif is None:
        raise ValueError("\n".join(faults))
    return motif
