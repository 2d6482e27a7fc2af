"""PNG and PDF: without a display, the same each time, and with letters as wide as they were measured."""

from __future__ import annotations

import string
import subprocess
import sys

import pytest

import ensemble
from tests.visualize.scores import random_score
from visualize.graph import reaction_graph
from visualize.measure import cut, lines, width
from visualize.palette import DARK
from visualize.pixels import measured, pixels
from visualize.reaction import reaction_picture


@pytest.mark.parametrize("bold", [False, True])
def test_texts_are_measured_as_matplotlib_draws_them(bold: bool) -> None:
    for text in ("order.payment.requested", "state by user_id", string.ascii_letters, string.digits + string.punctuation):
        drawn = measured(text, 12, bold=bold)  # which leaves out the space before the first letter and after the last

        assert drawn - 1 <= width(text, 12, bold=bold) <= drawn * 1.04 + 3


def test_a_text_that_is_too_long_keeps_its_beginning_and_its_end() -> None:
    name = "a" * 100 + "end"

    shorter = cut(name, 100, 12)

    assert shorter.startswith("aaa") and shorter.endswith("end") and "…" in shorter
    assert width(shorter, 12) <= 100
    assert cut("short", 100, 12) == "short"


def test_a_long_text_is_broken_into_lines_and_ends_with_a_sign() -> None:
    told = lines("word " * 50, 100, 10, most=3)

    assert len(told) == 3
    assert told[-1].endswith("…")
    assert all(width(line, 10) <= 100 for line in told)


def test_a_picture_is_written_as_png_and_pdf_with_any_letters() -> None:
    picture = reaction_picture(reaction_graph(random_score(3), imports=False))

    assert pixels(picture, DARK).startswith(b"\x89PNG")
    assert pixels(picture, form="pdf").startswith(b"%PDF")


def test_the_same_picture_is_the_same_file() -> None:
    picture = reaction_picture(reaction_graph(ensemble.load("scores/hello.yaml")))

    assert pixels(picture) == pixels(picture)
    assert pixels(picture, form="pdf") == pixels(picture, form="pdf")


def test_importing_ensemble_imports_nothing_that_draws() -> None:
    program = (
        "import sys, ensemble; ensemble.load, ensemble.open, ensemble.read, ensemble.Score; "
        "print([name for name in ('matplotlib', 'networkx', 'graphlay', 'visualize', 'numpy') if name in sys.modules])"
    )

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == "[]"
