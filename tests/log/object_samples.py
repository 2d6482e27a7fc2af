"""An object store that misbehaves on purpose."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from threading import Lock, get_ident
from typing import Any

from ensemble.log.objects.protocol import Answer, Call, Unknown
from ensemble.log.objects.store import Objects
from tests.log.log_samples import Plug


class Losing(Objects):
    """Each `every`-th call of the protocol has no answer: before it was made and after it was, in turn."""

    def __init__(self, store: Any, where: str, every: int) -> None:
        super().__init__(store, where, pause=lambda seconds: None)
        self._every = every
        self._calls = 0

    def call(self, call: Call) -> Answer:
        self._calls += 1
        if self._calls % self._every:
            return super().call(call)
        if self._calls // self._every % 2:
            super().call(call)
        return Unknown()


class Stalling(Objects):
    """Before each create of an entry, `meanwhile` happens: the writer sleeps through it."""

    meanwhile: Callable[[], None] | None = None

    def call(self, call: Call) -> Answer:
        if self.meanwhile is not None and call.verb == "create" and call.name.kind == "entry":
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return super().call(call)


WEATHER = Lock()


class Weather(Objects):
    """Calls of the protocol meet what chance gives: no answer before they were made, or after, or made at some later time."""

    def __init__(self, store: Any, where: str, chance: Random, late: list[Callable[[], Answer]]) -> None:
        super().__init__(store, where, pause=lambda seconds: None)
        self._chance = chance
        self._late = late

    def call(self, call: Call) -> Answer:
        with WEATHER:  # who merges does so on another thread
            while self._late and self._chance.random() < 0.2:
                self._late.pop(self._chance.randrange(len(self._late)))()
            what = self._chance.random()
        if what > 0.25:
            return super().call(call)
        if what > 0.15:
            super().call(call)
        elif what > 0.08:
            self._late.append(partial(super().call, call))
        return Unknown()


class Unplugged(Objects):
    """From the call number `fails_at` on that the thread makes which made this, the process is dead."""

    def __init__(self, store: Any, where: str) -> None:
        super().__init__(store, where, pause=lambda seconds: None)
        self.fails_at: int | None = None
        self.done = 0
        self._thread = get_ident()

    def _count(self, kind: str) -> None:
        if get_ident() == self._thread:
            self.done += 1
            if self.fails_at is not None and self.done >= self.fails_at:
                raise Plug
        super()._count(kind)
