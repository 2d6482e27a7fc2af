"""How things show themselves in a notebook: the one hook by which `ensemble` reaches what draws it.

Owns nothing but the hook. `visualize` is imported when a notebook asks, and by name, so that nothing here depends on it.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from importlib import import_module
from typing import Any


class Shown:
    """Mixed into what notebooks show: as a picture or a table, with plain text beside it."""

    __slots__ = ()

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        """Called by Jupyter when it is the last value of a cell. It never raises: what can't be drawn is told as plain text."""
        bundle: dict[str, str] = import_module("visualize.notebook").bundle(self)
        kept = bundle if include is None else {kind: data for kind, data in bundle.items() if kind in include}
        return {kind: data for kind, data in kept.items() if kind not in (exclude or ())}


def data_frame(rows: Any) -> Any:
    """Rows as a DataFrame, of pandas or, where that is not installed, of polars.

    Errors: ModuleNotFoundError, with what to install.
    """
    for library in ("pandas", "polars"):
        with suppress(ModuleNotFoundError):
            module: Any = import_module(library)
            return module.DataFrame(rows)
    raise ModuleNotFoundError("frames are those of pandas or polars, and neither is installed: pip install pandas")


def live(band: Any, every_s: float) -> Any:
    """What shows a band while it plays.

    Errors: ModuleNotFoundError, with what to install.
    """
    try:
        return import_module("visualize.live").Live(band, every_s)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; a live picture needs: pip install 'ensemble-band[notebook]'") from error
