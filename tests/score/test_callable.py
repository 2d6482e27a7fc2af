"""Players' code: found by its name, and its shape told from its signature."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ensemble.errors import PlayerError
from ensemble.score.callable import Shape, SourceShape, find, shape, source_shape
from tests.score import players_of_shapes as p

FUNCTION = Shape(kind="function")


@pytest.mark.parametrize(
    ("call", "made"),
    [
        (p.plain, FUNCTION),
        (p.annotated, FUNCTION),
        (p.for_the_checker_only, Shape(kind="function", ctx=True)),
        (p.with_settings, Shape(kind="function", ctx=True, settings=("currency", "limit"), required=("currency",))),
        (p.takes_anything, Shape(kind="function", accepts_any=True)),
        (p.waits, Shape(kind="function", is_async=True)),
        (p.speaks_slowly, Shape(kind="function", is_async=True, says=(p.Paid,))),
        (p.batches, Shape(kind="function", batch=True)),
        (p.typed_batches, Shape(kind="function", batch=True, hears=p.Placed, ctx=True)),
        (p.typed, Shape(kind="function", hears=p.Placed, says=(p.Paid, p.Declined))),
        (p.typed_generator, Shape(kind="function", hears=p.Placed, says=(p.Paid,))),
        (p.plain_data, Shape(kind="function", hears=dict[str, Any], says=(p.Shipped,))),
        (
            p.Model,
            Shape(kind="class", hears=p.Placed, says=(p.Paid,), ctx=True, settings=("path", "size"), required=("path",)),
        ),
        (p.Async, Shape(kind="class", is_async=True)),
        (p.half_set, Shape(kind="function", ctx=True, settings=("currency", "limit"))),
        (p.Model("x").hear, Shape(kind="function", settings=("limit",))),
        (p.Model("x"), Shape(kind="function", hears=p.Placed, says=(p.Paid,), ctx=True)),
        (p.Async(), Shape(kind="function", is_async=True)),
        (lambda event: None, FUNCTION),
        (lambda event, ctx: None, Shape(kind="function", ctx=True)),
        (print, Shape(kind="function", settings=("sep", "end", "file", "flush"))),
        ([].append, FUNCTION),
        (dict, Shape(kind="class")),
    ],
)
def test_a_shape_is_told_from_the_signature(call: Callable[..., Any], made: Shape) -> None:
    if call is dict:
        with pytest.raises(PlayerError, match="has no __call__"):
            shape(call)
    else:
        assert shape(call) == made


def test_a_function_that_refers_to_itself_may_be_given_before_it_has_its_name() -> None:
    told: list[Shape] = []

    def given(call: Any) -> Any:
        told.append(shape(call))
        return call

    @given
    def again(event: p.Placed) -> Any:
        return again

    assert told == [shape(again)]
    assert told[0].hears is p.Placed


def test_a_type_that_has_no_value_yet_is_told_with_what_to_do() -> None:
    def hear(event: Later) -> Any:
        return Later

    with pytest.raises(
        PlayerError, match=r"hear: the type of event, Later, can't be read \(Later has no value yet\); have Later made before"
    ):
        shape(hear)

    class Later(p.Placed): ...

    assert shape(hear).hears is Later


@pytest.mark.parametrize("call", [p.AsyncBatches, p.AsyncBatches(), p.async_batches], ids=["class", "instance", "generator"])
def test_a_coroutine_that_wants_whole_batches_is_refused(call: Any) -> None:
    with pytest.raises(PlayerError, match=r"asynchronous and wants whole batches.*annotate events with Event"):
        shape(call)


@pytest.mark.parametrize(
    ("call", "made"),
    [
        (p.visitors, SourceShape(kind="function", place=True, settings=("count",), required=("count",))),
        (p.clock, SourceShape(kind="function", is_async=True, ctx=True)),
        (p.Feed, SourceShape(kind="class", settings=("url",), required=("url",))),
        (lambda: (), SourceShape(kind="function")),
    ],
)
def test_the_shape_of_a_source_knows_its_place(call: Callable[..., Any], made: SourceShape) -> None:
    assert source_shape(call) == made


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A score's folder with players beside it and above it."""
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "beside_the_score.py").write_text("def hear(event): ...\n")
    (tmp_path / "above_the_score").mkdir()
    (tmp_path / "above_the_score" / "shop.py").write_text("class Shop:\n    @staticmethod\n    def sell(event): ...\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "scores"
    for name in [name for name in sys.modules if name.startswith(("beside_the", "above_the"))]:
        del sys.modules[name]


def test_code_is_found_beside_the_score_and_in_the_folder_above(project: Path) -> None:
    assert find("beside_the_score:hear", str(project)).__name__ == "hear"
    assert find("above_the_score.shop:Shop.sell", str(project)).__name__ == "sell"


def test_a_module_that_was_missing_is_found_once_it_is_there(project: Path) -> None:
    with pytest.raises(PlayerError, match=r"there is no module above_the_score\.later"):
        find("above_the_score.later:hear", str(project))

    (project.parent / "above_the_score" / "later.py").write_text("def hear(event): ...\n")

    assert find("above_the_score.later:hear", str(project)).__name__ == "hear"


def test_what_a_module_raises_is_told_with_the_line_of_its_author(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    (project / "beside_the_fault.py").write_text("import json\n\n\ndef f():\n    return json.loads('{')\n\n\nX = f()\n")

    with pytest.raises(PlayerError, match=r"beside_the_fault can't be imported: beside_the_fault.py:5: JSONDecodeError: "):
        find("beside_the_fault:hear", str(project))


def test_an_interrupt_while_a_module_is_imported_is_an_interrupt(project: Path) -> None:
    (project / "beside_the_key.py").write_text("raise KeyboardInterrupt\n")

    with pytest.raises(KeyboardInterrupt):
        find("beside_the_key:hear", str(project))


def test_each_score_gets_the_code_of_its_own_folder_though_the_names_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for band in ("one", "two"):
        (tmp_path / band / "namesakes").mkdir(parents=True)
        (tmp_path / band / "namesakes" / "player.py").write_text(f"def hear(event):\n    return {band!r}\n")

    calls = [find("namesakes.player:hear", str(tmp_path / band)) for band in ("one", "two", "one")]

    assert [call(None) for call in calls] == ["one", "two", "one"]


def test_code_that_is_found_twice_is_imported_once(project: Path) -> None:
    assert find("beside_the_score:hear", str(project)) is find("beside_the_score:hear", str(project))
    assert find("above_the_score.shop:Shop", str(project)) is find("above_the_score.shop:Shop", str(project))
