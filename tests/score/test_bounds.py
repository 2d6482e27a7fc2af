"""What is far too large, too deep or no text at all is refused at once, whatever it would have held."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import ensemble
from ensemble.errors import ScoreError
from ensemble.score.files import LARGEST

SECONDS = 5.0
"""Far more than any refusal takes, far less than reading what is refused would."""


def refusal(path: Path | str) -> str:
    began_s = time.process_time()  # whatever else the machine does
    with pytest.raises(ScoreError) as caught:
        ensemble.load(path)
    assert time.process_time() - began_s < SECONDS
    assert len(caught.value.findings) == 1
    return str(caught.value)


def test_a_file_of_100_mb_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.write(b"name: large\n" * 1000)
        file.truncate(100 << 20)

    assert refusal(path) == (f"{path}: it is larger than 8 MiB, so it is no score; events belong in a file that a source names")


def test_a_text_beyond_the_bound_is_refused() -> None:
    assert "longer than 8 MiB" in refusal("name: x\n" + "#" * LARGEST)


def test_aliases_that_explode_are_refused(tmp_path: Path) -> None:
    levels = ["x-0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(levels))

    assert refusal(path) == f"{path}:6:11: x-5[0]: its aliases make it larger than 200000 values, so it is no score"


def test_merges_that_explode_are_refused(tmp_path: Path) -> None:
    levels = ["x-0: &a0 {" + ", ".join(f"k{n}: x" for n in range(1000)) + "}"]
    levels += [f"x-{n}: &a{n} {{a: *a{n - 1}, b: *a{n - 1}, <<: *a{n - 1}}}" for n in range(1, 40)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(levels))

    assert "larger than 200000 values" in refusal(path)


@pytest.mark.parametrize(
    "text", ["a: " + "[" * 100_000, "a: " + "{a: " * 100_000, "- " * 100_000 + "x", "a: " + "[" * 101 + "]" * 101]
)
def test_nesting_beyond_the_bound_is_refused(text: str) -> None:
    assert "nested more than 100 levels deep" in refusal(text + "\n")


def test_more_values_than_the_bound_are_refused() -> None:
    assert "more than 200000 values" in refusal("a: [" + "1," * 300_000 + "]\n")


def test_a_mapping_that_holds_itself_is_refused() -> None:
    circle: dict[str, object] = {"name": "circle"}
    circle["x-circle"] = circle

    with pytest.raises(ScoreError, match="levels, so it is no score"):
        ensemble.load(circle)


def test_a_binary_file_is_refused_as_such(tmp_path: Path) -> None:
    path = tmp_path / "image.yaml"
    path.write_bytes(bytes(range(256)) * 100)

    assert refusal(path) == f"{path}: it is a binary file, not text; name a score in YAML"


def test_a_folder_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "hello.yaml").write_text("name: hello\n")

    assert refusal(tmp_path) == f"{tmp_path}: it is a folder; name the score's file in it"
    assert refusal(tmp_path / "helo.yaml") == (
        f"{tmp_path}/helo.yaml: there is no such file; did you mean {tmp_path}/hello.yaml?"
    )
    assert "there is no folder" in refusal(tmp_path / "nowhere" / "hello.yaml")


def test_no_more_than_a_hundred_findings_are_told() -> None:
    players = "".join(f"  p{n}: {{on: a..b}}\n" for n in range(500))

    with pytest.raises(ScoreError) as caught:
        ensemble.load(f"name: many\nplayers:\n{players}")

    assert len(caught.value.findings) == 101
    assert str(caught.value.findings[-1]) == "<score>: and 400 more; mend these first"
