"""What is said where Ray takes the process that opens a band for gone."""

from __future__ import annotations

import pytest
from ray.exceptions import RaySystemError

from ensemble import Unavailable
from ensemble.stage.on_ray.line import Line, telling_if_gone


def raised(text: str) -> None:
    raise RaySystemError(text)  # type: ignore[no-untyped-call]


def test_a_process_that_is_taken_for_gone_before_its_actor_was_made_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Line, "_get", lambda self, ref, timeout: raised("Actor creation cancelled."))

    with pytest.raises(Unavailable, match=r"band shop: .* takes the one that opened the band for gone"):
        Line(None, "shop").wait_once(None)
    with pytest.raises(Unavailable, match=r"RAY_AUTH_MODE is not the same here"), telling_if_gone("shop"):
        raised("Actor creation cancelled.")


def test_what_else_ray_says_is_left_as_it_is() -> None:
    with pytest.raises(RaySystemError, match="the disk is full"), telling_if_gone("shop"):
        raised("the disk is full")
