"""A band that is watched while it plays, in a notebook: the reaction graph with numbers that move, and a button that ends it.

Owns the widget, the thread that looks at the band, and the way from the button to `close`. Nothing of it is kept outside the
kernel: run the cell again and the picture before it ends. What is told, and where it stands, is `live_counts`'.

    the thread looks   as long as neither the band nor the widget is closed
    `told` is sent     only when it says something new
"""

from __future__ import annotations

import threading
import time
from collections import deque
from importlib.resources import files
from typing import Any

import anywidget
import traitlets

from ensemble.band import Band
from ensemble.errors import EnsembleError
from visualize.live_counts import line, live_graph, live_svg, plain, rooms, told
from visualize.page import variables
from visualize.palette import DARK, LIGHT

RATE_OVER_S = 2.0
JOINED_S = 5.0
"""How long an end waits for a look that is under way."""

_DARK = '[data-jp-theme-light="false"] .ensemble-live, [data-vscode-theme-kind*="dark"] .ensemble-live'
"""How the front ends say that they are dark."""


def _text(name: str) -> str:
    return files("visualize").joinpath(name).read_text(encoding="utf-8")


class Live(anywidget.AnyWidget):
    """A band's live picture. Made by `Band.live`."""

    _esm = _text("live.js")
    _css = f".ensemble-live {{ {variables(LIGHT)} }}\n{_DARK} {{ {variables(DARK)} }}\n{_text('live.css')}"

    picture = traitlets.Unicode().tag(sync=True)
    rooms = traitlets.Dict().tag(sync=True)
    told = traitlets.Dict().tag(sync=True)

    def __init__(self, band: Band, every_s: float) -> None:
        self._band = band
        self._every_s = every_s
        self._over = threading.Event()
        self._looking = threading.Lock()
        self._heard: deque[tuple[float, int]] = deque()
        self._score: Any = None
        self._thread: threading.Thread | None = None
        self._status = band.status()
        super().__init__()
        self.look()
        self.on_msg(self._asked)
        self._thread = threading.Thread(target=self._watch, name=f"ensemble live {band.name}", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Tell how the band stands now; of one that can't be asked, why."""
        with self._looking:
            if self._over.is_set():
                return
            try:
                self._tell()
            except EnsembleError as error:
                self.told = {**self.told, "state": "lost", "trouble": str(error)}

    def _tell(self) -> None:
        if self._band.score is not self._score:  # at first, and when a player has joined
            self._score = self._band.score
            self._graph = live_graph(self._score)
            self.rooms = rooms(self._graph)
            self.picture = live_svg(self._graph)
        self._status = status = self._band.status()
        head = {"state": "playing", "line": f"{status.name}: {line(status, self._rate())}", "trouble": ""}
        self.told = head | told(self._graph, status)

    def _rate(self) -> float:
        """Events heard a second, over the last moments."""
        now = time.monotonic()
        self._heard.append((now, sum(each.heard for each in self._status.sections.values())))
        while len(self._heard) > 2 and now - self._heard[0][0] > RATE_OVER_S:
            self._heard.popleft()
        (then, before), (_, heard) = self._heard[0], self._heard[-1]
        return (heard - before) / (now - then) if now > then else 0.0

    def _watch(self) -> None:
        while not self._over.wait(self._every_s):
            self.look()

    def _asked(self, _: Any, content: Any, __: Any) -> None:
        """The front end says something: only that the band is to stop."""
        if isinstance(content, dict) and content.get("ask") == "stop":
            self._band.close()

    def ended(self) -> None:
        """The band is closed: show how it stood last, and look no more. Called once, by the band."""
        self._stop()
        self.told = {**self.told, "state": "closed", "line": f"{self._status.name}: {line(self._status, 0)} · closed"}

    def close(self) -> None:
        """Take the picture away; the band plays on."""
        self._stop()
        super().close()

    def _stop(self) -> None:
        self._over.set()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join(JOINED_S)

    def __repr__(self) -> str:
        return plain(self._status)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget; beside it, for what shows no widgets, how the band stands as text and as a still picture."""
        from visualize.notebook import bundle

        made = super()._repr_mimebundle_(**kwargs)
        still = bundle(self._band)
        shown = {"text/plain": repr(self), **{kind: data for kind, data in still.items() if kind == "text/html"}}
        if not isinstance(made, tuple):
            return shown
        return {**made[0], **shown}, made[1]
