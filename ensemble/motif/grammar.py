"""The grammar of motifs: from a document to the tree, or sentences that say what is wrong.

Owns what may stand where. `parse(document(m)) == m`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from ensemble.motif.topic import pattern_fault
from ensemble.motif.tree import (
    PLAIN,
    UNBOUNDED,
    AllOf,
    AnyOf,
    Count,
    How,
    Maybe,
    Motif,
    Next,
    Not,
    Seq,
    Topic,
    Window,
    duration_text,
    is_range,
    is_soft,
    least_us,
    leaves,
)

At: TypeAlias = "tuple[str | int, ...]"
"""A place in the document that a motif is read from."""

DEEPEST = 32
"""How deep motifs may be nested."""
TIMES_MOST = 1_000_000
SLIDES_MOST = 10_000
"""Windows that one event may be in."""


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


_HOW = ("after", "time", "lateness", "most", "overflow")
"""How a motif is listened for as a whole."""

KINDS: dict[str, tuple[str, ...]] = {
    "event": ("event", "where", "as"),
    "any": ("any", *_HOW),
    "all": ("all", "within", "by", "where", *_HOW),
    "seq": ("seq", "within", "by", "where", *_HOW),
    "not": ("not",),
    "next": ("next",),
    "optional": ("optional",),
    "count": ("count", "times", "within", "by", *_HOW),
    "every": ("every", "of", "by", "sliding", *_HOW),
    "gap": ("gap", "of", "within", "by", *_HOW),
}
"""Each kind of motif by the key that tells it, and the keys that it has."""

PARTS = ("not", "next", "optional")
"""The kinds that are parts of others, and no motif alone."""

KEYS = tuple(dict.fromkeys(key for keys in KINDS.values() for key in keys))
_KINDS_SHOWN = "a topic, a list, {event:}, {all:}, {seq:}, {count:}, {every:} or {gap:}"

LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED_LABELS = ("data", "key", "topic", "time", "true", "false", "null", "in")
PATH = re.compile(r"[^.\s\[\]]+(?:\.[^.\s\[\]]+)*")
"""A path into data: names with dots between them."""
_RANGE = re.compile(r"(\d{1,7})\.\.(\d{0,7})")


class _Scope(NamedTuple):
    """Where a motif stands in another."""

    place: Literal["top", "part", "seq", "all"]
    before: frozenset[str]
    """The labels of parts that come before it: those that its conditions may name."""
    all: frozenset[str]
    """Every label in the whole motif."""
    depth: int = 0

    def within(self, place: Literal["part", "seq", "all"], labels: Iterable[str] = ()) -> _Scope:
        """The scope of a part, which may also name these labels."""
        return _Scope(place, self.before.union(labels), self.all, self.depth + 1)


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
        labels = list(self._labels(value))
        for label in dict.fromkeys(label for label in labels if labels.count(label) > 1):
            self._report(at, f"two events have the label {label!r}", "give each its own with as:")
        return self._motif(value, at, _Scope("top", frozenset(), frozenset(labels)))

    def _motif(self, value: Any, at: At, scope: _Scope) -> Motif | None:
        if scope.depth > DEEPEST:
            self._report(at, f"motifs nested more than {DEEPEST} deep", "give the inner ones a name under motifs:")
            return None
        if isinstance(value, str):
            if value in self._motifs:
                motif = self.named(value)
                # A composite motif is heard as the event that each of its matches is: its topic is its name.
                return motif if motif is None or leaves(motif) is not None else Topic(value)
            return self._topic(value, at)
        if isinstance(value, Mapping):
            return self._form(value, at, scope)
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            parts = self._parts(value, at, scope, scope.place if scope.place == "top" else "part")
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
        self, values: Sequence[Any], at: At, scope: _Scope, place: Literal["top", "part", "seq", "all"]
    ) -> tuple[Motif, ...] | None:
        if not values:
            self._report(at, "an empty list", "name at least one motif")
            return None
        parts = []
        before = scope
        for i, value in enumerate(values):
            part = self._motif(value, (*at, i), before._replace(place=place, depth=scope.depth + 1))
            if part is not None and isinstance(value, str) and value in values[:i] and place != "seq":
                self._report((*at, i), f"{value!r} is there twice", "remove one of them")
                part = None
            parts.append(part)
            if place == "seq":  # the parts after it come later, and may name its labels
                before = before.within("seq", self._labels(value, is_inside_not=False))
        return None if None in parts else tuple(part for part in parts if part is not None)

    def _form(self, form: Mapping[Any, Any], at: At, scope: _Scope) -> Motif | None:
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
            elif key in _HOW and scope.place != "top":
                is_whole = False
                wrong = f"{key}: says how a whole motif is listened for, and this is a part of one"
                self._report((*at, key), wrong, "write it at the outermost {...}, or give this part a name under motifs:")
        made = getattr(self, f"_{kind}")(form, at, scope)
        if made is not None and not isinstance(made, (Topic, Not, Next, Maybe)):
            made = self._timely(made, form, at)
        return made if is_whole else None

    def _timely(self, made: AnyOf | AllOf | Seq | Count | Window, form: Mapping[str, Any], at: At) -> Motif | None:
        """The motif, unless what it awaits takes longer than it may."""
        within_us = None if isinstance(made, AnyOf) else made.within_us
        if within_us is None:
            return made
        if isinstance(made, Seq):
            takes_us = sum(least_us(part) for part in made.parts if not isinstance(part, (Not, Maybe)))
        else:
            takes_us = least_us(made)
        if takes_us < within_us:
            return made
        self._report(
            (*at, "within"),
            f"{form['within']} is over before what it holds can be: that alone takes {duration_text(takes_us)}",
            "give it more time",
        )
        return None

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

    def _event(self, form: Mapping[str, Any], at: At, scope: _Scope) -> Motif | None:
        pattern = form["event"]
        label = form.get("as")
        if not isinstance(pattern, str):
            self._report(
                (*at, "event"),
                f"{_shown(pattern)} is not a topic",
                "event: takes one topic or pattern; any of several is a list of motifs: [A, B]",
            )
            topic = None
        elif pattern in self._motifs:
            motif = self.named(pattern)
            topic = Topic(pattern) if motif is not None and leaves(motif) is None else None
            if motif is not None and topic is None:
                self._report(
                    (*at, "event"), f"{pattern!r} is a motif", "event: takes a topic; name the motif alone, without event:"
                )
        else:
            topic = self._topic(pattern, (*at, "event"))
        own = (label,) if isinstance(label, str) else ()
        where, is_right = self._where(form, at, scope.before.union(own), scope.all)
        if label is not None and (not isinstance(label, str) or not LABEL.fullmatch(label) or label in RESERVED_LABELS):
            self._report(
                (*at, "as"), f"{_shown(label)} is not a label", "write a word of letters, digits and '_', such as first"
            )
            is_right = False
        return None if topic is None or not is_right else Topic(topic.pattern, where, label)

    def _any(self, form: Mapping[str, Any], at: At, scope: _Scope) -> Motif | None:
        values = form["any"]
        if not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
            self._report((*at, "any"), f"{_shown(values)} is not a list of motifs", "write any: [A, B]")
            return None
        parts = self._parts(values, (*at, "any"), scope, "part")
        how = self._how(form, at)
        if parts is None or how is None:
            return None
        made = AnyOf(parts, how)
        if how != PLAIN and leaves(made) is not None:
            self._report(at, "each of these events is heard by itself, so there is nothing to say of how", "remove the rest")
            return None
        return made

    def _all(self, form: Mapping[str, Any], at: At, scope: _Scope) -> Motif | None:
        parts, is_right = self._two_or_more(form["all"], (*at, "all"), scope, "all")
        within, by, where, are_right = self._frame(form, at, scope)
        how = self._how(form, at)
        if parts and all(isinstance(part, Maybe) for part in parts):
            self._report((*at, "all"), "all of its parts are optional:", "say at least one that must come")
            is_right = False
        for i, part in enumerate(parts):
            is_right = self._ends(part, (*at, "all", i)) and is_right
        return AllOf(parts, within, by, where, how) if is_right and are_right and how is not None else None

    def _seq(self, form: Mapping[str, Any], at: At, scope: _Scope) -> Motif | None:
        parts, is_right = self._two_or_more(form["seq"], (*at, "seq"), scope, "seq")
        within, by, where, are_right = self._frame(form, at, scope)
        how = self._how(form, at)
        if parts:
            is_right = self._is_seq_right(parts, form, at) and is_right
        return Seq(parts, within, by, where, how) if is_right and are_right and how is not None else None

    def _is_seq_right(self, parts: Sequence[Motif], form: Mapping[str, Any], at: At) -> bool:
        faults: list[tuple[At, str, str]] = []
        first = parts[0]
        if isinstance(first, (Not, Next, Maybe)):
            kind = {Not: "not", Next: "next", Maybe: "optional"}[type(first)]
            cure = "begin with an event, and say after it what must not come" if kind == "not" else "begin with an event"
            faults.append(((*at, "seq", 0), f"a sequence that begins with {kind}:", cure))
        for i, (a, b) in enumerate(pairwise(parts), 1):
            if isinstance(a, Not) and isinstance(b, Not):
                faults.append(((*at, "seq"), "two not: one after the other", "write one with a list: {not: [A, B]}"))
            elif isinstance(b, (Not, Next)) and is_soft(a):
                kind = "not" if isinstance(b, Not) else "next"
                wrong = f"{kind}: after a part that may come, or may come once more: nobody knows from when on it counts"
                faults.append(((*at, "seq", i), wrong, "put an event between them, or say exactly how often it comes"))
            elif isinstance(a, Not) and isinstance(b, Next):
                wrong = "not: before next:, between which nothing can lie"
                faults.append(((*at, "seq", i - 1), wrong, "remove one of them"))
        if "within" not in form:
            if isinstance(parts[-1], Not):
                cure = "say for how long it must not come, as in within: 15m"
                faults.append((at, "a sequence that ends with not: and has no within:", cure))
            elif is_soft(parts[-1]):
                what = "optional:" if isinstance(parts[-1], Maybe) else "a range of times:"
                cure = "say for how long more is awaited, as in within: 15m"
                faults.append((at, f"a sequence that ends with {what} and has no within:", cure))
        for fault in faults:
            self._report(*fault)
        return not faults

    def _not(self, form: Mapping[str, Any], at: At, scope: _Scope) -> Motif | None:
        part = self._motif(form["not"], (*at, "not"), scope.within("part"))
        if scope.place != "seq":
            self._report(
                at,
                "not: stands outside of a sequence",
                "write it in a seq:, as in {seq: [A, {not: B}, C]}",
                is_key=False,
            )
            return None
        return Not(part) if part is not None and self._ends(part, (*at, "not")) else None

    def _next(self, form: Mapping[str, Any], at: At, scope: _Scope) -> Motif | None:
        part = self._motif(form["next"], (*at, "next"), scope.within("part"))
        if scope.place != "seq":
            self._report(at, "next: stands outside of a sequence", "write it in a seq:, as in {seq: [A, {next: B}]}")
            return None
        return Next(part) if part is not None and self._ends(part, (*at, "next")) else None

    def _optional(self, form: Mapping[str, Any], at: At, scope: _Scope) -> Motif | None:
        part = self._motif(form["optional"], (*at, "optional"), scope.within("part"))
        if scope.place not in ("seq", "all"):
            cure = "write it in one, as in {seq: [A, {optional: B}, C]}"
            self._report(at, "optional: stands outside of a sequence and of an all:", cure)
            return None
        return Maybe(part) if part is not None and self._ends(part, (*at, "optional")) else None

    def _count(self, form: Mapping[str, Any], at: At, scope: _Scope) -> Motif | None:
        of = self._motif(form["count"], (*at, "count"), scope.within("part"))
        within, by, _, is_right = self._frame(form, at, scope)
        times, most, are_right = self._times(form, at)
        how = self._how(form, at)
        if of is None or not is_right or not are_right or how is None:
            return None
        made = Count(of, times, within, by, most, how)
        if not self._ends(of, (*at, "count")) or (scope.place != "seq" and not self._ends(made, at)):
            return None
        if made.most not in (None, made.times) and by is not None and within is None:
            self._report(at, "a range of times: with a by: and no within:", "say for how long more is awaited")
            return None
        return made

    def _times(self, form: Mapping[str, Any], at: At) -> tuple[int, int | None, bool]:
        times = form.get("times")
        if "times" not in form:
            self._report(at, "{count:} has no times:", "say how many, as in times: 5")
            return 0, None, False
        if isinstance(times, int) and not isinstance(times, bool) and 1 <= times <= TIMES_MOST:
            return times, None, True
        found = _RANGE.fullmatch(times) if isinstance(times, str) else None
        if found is not None:
            least, most = int(found[1]), int(found[2] or UNBOUNDED)
            if least >= 1 and most <= TIMES_MOST and (most == UNBOUNDED or least <= most):
                return least, most, True
        cure = f"write a whole number from 1 to {TIMES_MOST}, or a range of them such as 2..5"
        self._report((*at, "times"), f"{_shown(times)} is not a number of times", cure)
        return 0, None, False

    def _ends(self, motif: Motif, at: At) -> bool:
        """Whether it can be known when a part is complete."""
        if is_range(motif) and is_soft(motif):
            self._report(at, "a range of times: that nothing ends", "give it a within:, or a part after it in a seq:")
            return False
        return True

    def _every(self, form: Mapping[str, Any], at: At, scope: _Scope) -> Motif | None:
        every_us = self._duration(form["every"], (*at, "every"))
        sliding_us = self._duration(form["sliding"], (*at, "sliding")) if "sliding" in form else None
        of, by, how, is_right = self._window(form, at, scope, "every")
        if every_us is None or not is_right or of is None or how is None or ("sliding" in form and sliding_us is None):
            return None
        if sliding_us is not None and not every_us <= sliding_us <= SLIDES_MOST * every_us:
            wrong = f"sliding: {form['sliding']} told every {form['every']}"
            if sliding_us < every_us:
                self._report((*at, "sliding"), f"{wrong} leaves out what lies between", "look back further, or tell more often")
            else:
                cure = f"look back less far, or tell less often; the most is {SLIDES_MOST} times"
                self._report((*at, "sliding"), f"{wrong} tells of each event {sliding_us // every_us} times", cure)
            return None
        return Window(of, every_us, by, sliding_us, how=how)

    def _gap(self, form: Mapping[str, Any], at: At, scope: _Scope) -> Motif | None:
        gap_us = self._duration(form["gap"], (*at, "gap"))
        within_us = self._duration(form["within"], (*at, "within")) if "within" in form else None
        of, by, how, is_right = self._window(form, at, scope, "gap")
        if gap_us is None or not is_right or of is None or how is None or ("within" in form and within_us is None):
            return None
        return Window(of, None, by, None, gap_us, within_us, how)

    def _window(
        self, form: Mapping[str, Any], at: At, scope: _Scope, kind: str
    ) -> tuple[Motif | None, str | None, How | None, bool]:
        by, is_right = self._path(form, at)
        how = self._how(form, at)
        if "of" not in form:
            self._report(at, f"{{{kind}:}} has no of:", f"say which events, as in {{{kind}: 10s, of: order.placed}}")
            return None, by, how, False
        of = self._motif(form["of"], (*at, "of"), scope.within("part"))
        if of is not None and leaves(of) is None:
            cure = "give that motif a name under motifs:, and write the name here"
            self._report((*at, "of"), "a window is of single events, and this takes several", cure)
            return None, by, how, False
        return of, by, how, is_right

    # What the kinds share

    def _two_or_more(self, values: Any, at: At, scope: _Scope, place: Literal["seq", "all"]) -> tuple[tuple[Motif, ...], bool]:
        if not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
            self._report(at, f"{_shown(values)} is not a list of motifs", f"write {at[-1]}: [A, B]")
            return (), False
        if len(values) < 2:
            self._report(at, f"{len(values) or 'no'} motif, where two or more are needed", f"write {at[-1]}: [A, B]")
            return (), False
        parts = self._parts(values, at, scope, place)
        return parts or (), parts is not None

    def _how(self, form: Mapping[str, Any], at: At) -> How | None:
        """How the whole is listened for; None if that is wrong."""
        right = True
        given: dict[str, Any] = {}
        for key, words in (
            ("after", ("skip-past-last", "no-skip")),
            ("time", ("broker", "event")),
            ("overflow", ("oldest", "newest")),
        ):
            if key in form:
                given[key] = form[key]
                if form[key] not in words:
                    right = False
                    self._report(
                        (*at, key),
                        f"{_shown(form[key])} is not {' or '.join(words)}",
                        "write one of them",
                        word=str(form[key]),
                        known=words,
                    )
        if "most" in form:
            most = given["most"] = form["most"]
            if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= 100_000_000:
                right = False
                self._report((*at, "most"), f"{_shown(most)} is not a number of partial matches", "write a whole number from 1")
        if "lateness" in form:
            if form.get("time") != "event":
                right = False
                self._report((*at, "lateness"), "by the broker's time nothing is late", "write time: event, or remove it")
            try:
                given["lateness_us"] = self._duration_us(form["lateness"])
            except ValueError as error:
                right = False
                self._report((*at, "lateness"), str(error))
        return How(**given) if right else None

    def _frame(self, form: Mapping[str, Any], at: At, scope: _Scope) -> tuple[int | None, str | None, str | None, bool]:
        """`within`, `by` and `where`, and whether they are right."""
        within = self._duration(form["within"], (*at, "within")) if "within" in form else None
        by, is_by_right = self._path(form, at)
        inside = self._labels({key: form[key] for key in ("seq", "all") if key in form}, is_inside_not=False)
        where, is_where_right = self._where(form, at, scope.before.union(inside), scope.all)
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

    def _where(
        self, form: Mapping[str, Any], at: At, labels: frozenset[str], all_labels: frozenset[str]
    ) -> tuple[str | None, bool]:
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
            early = [label for label in sorted(all_labels - labels) if re.search(rf"(?<![\w.]){label}\b", where)]
            if early:
                self._report(
                    (*at, "where"),
                    f"the label {early[0]!r} is used before there is an event that has it",
                    "ask it of a later event, or in a where: of the whole {seq:} or {all:}; what stands under not: "
                    "can be named only there",
                )
            else:
                self._report((*at, "where"), str(error), offset=getattr(error, "at", None))
            return None, False
        return where, True

    def _labels(self, value: Any, *, is_inside_not: bool = True, depth: int = 0) -> Iterator[str]:
        """All labels in a motif's document, those of simple motifs that it names among them."""
        if depth > DEEPEST:
            return
        if isinstance(value, str) and depth and value in self._motifs:
            motif = self._known.get(value)
            for leaf in (leaves(motif) or ()) if motif is not None else ():
                if leaf.label is not None:
                    yield leaf.label
        elif isinstance(value, Mapping):
            if isinstance(value.get("as"), str):
                yield value["as"]
            for key in ("any", "all", "seq", "not", "next", "optional", "count", "of"):
                if is_inside_not or key != "not":
                    yield from self._labels(value.get(key), is_inside_not=is_inside_not, depth=depth + 1)
        elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            for part in value:
                yield from self._labels(part, is_inside_not=is_inside_not, depth=depth + 1)


def _shown(value: Any) -> str:
    """A value as it is shown in a sentence."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Mapping, list)):
        return "a mapping" if isinstance(value, Mapping) else "a list"
    return f"{value!r:.80}"


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
