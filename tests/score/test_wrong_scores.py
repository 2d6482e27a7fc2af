"""The corpus of wrong scores: each gives exactly the text beside it.

`wrong/KIND/NAME.yaml` is the score, `NAME.txt` what its author reads: all findings of loading it, or of checking it where it
loads. `pytest tests/score --regenerate` writes the texts anew; commit a difference only if the new text is the better one.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

import ensemble
from ensemble.score import check

WRONG = Path(__file__).parent / "wrong"
SCORES = sorted(str(path.relative_to(WRONG).with_suffix("")) for path in WRONG.glob("**/*.yaml") if "parts" not in path.parts)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus as it would stand on its author's disk. Its modules are kept as .py.txt, since some are no Python."""
    folder = tmp_path_factory.mktemp("wrong")
    shutil.copytree(WRONG, folder, dirs_exist_ok=True)
    for module in folder.glob("parts/*.py.txt"):
        module.rename(module.with_suffix(""))
    return folder


@pytest.fixture(autouse=True)
def in_corpus(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpus)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("ENSEMBLE_TEST_UNSET_STORE", "ENSEMBLE_TEST_MAX"):
        monkeypatch.delenv(name, raising=False)


def told(path: str) -> str:
    """What the author of a score reads, one finding a line."""
    try:
        findings = check(ensemble.load(path))
    except ensemble.ScoreError as error:
        return f"{error}\n"
    return "".join(f"{finding}\n" for finding in findings)


@pytest.mark.parametrize("name", SCORES)
def test_a_wrong_score_gives_the_text_that_its_author_needs(name: str, request: pytest.FixtureRequest) -> None:
    text = told(f"{name}.yaml")

    expected = WRONG / f"{name}.txt"
    if request.config.getoption("--regenerate"):
        expected.write_text(text)
    assert text == expected.read_text()
    assert text.strip(), f"nothing is wrong with {name}"


def test_the_corpus_holds_every_text_once_and_no_text_without_its_score() -> None:
    texts = sorted(str(path.relative_to(WRONG).with_suffix("")) for path in WRONG.glob("**/*.txt") if "parts" not in path.parts)

    assert texts == SCORES
    assert len(SCORES) >= 80
