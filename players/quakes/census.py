"""Counting: how many small quakes there are to one great one, and what is no quake at all."""

from __future__ import annotations

from math import e, log10

from ensemble import Context, Event


def count_quakes(event: Event, ctx: Context, *, complete_from: float) -> None:
    """The b-value of each network: 1 says that each whole magnitude less comes ten times as often.

    `complete_from`: the magnitude from which a network is taken to hear every quake; the score asks for these only.
    Source: K. Aki, Bulletin of the Earthquake Research Institute 43 (1965), 237-239.
    """
    census = ctx.state
    census["quakes"] = census.get("quakes", 0) + 1
    census["sum"] = census.get("sum", 0.0) + event.data["mw"]
    above = census["sum"] / census["quakes"] - (complete_from - 0.05)  # magnitudes are rounded to a tenth
    census["b"] = round(log10(e) / above, 2)


def count_blasts(event: Event, ctx: Context) -> None:
    """Explosions and quarry blasts by kind, network by network."""
    kind = event.data["kind"]
    ctx.state[kind] = ctx.state.get(kind, 0) + 1
