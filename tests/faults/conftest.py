"""What tests of faults share: where their logs are kept, and by what chance they draw their moments."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.kept import InDirectory, InObjects, Kept

OVER_S3 = pytest.param("s3", marks=pytest.mark.everywhere("to a band an object store is a slower directory"))


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Another one each time; a test that fails shows the `--seed` that draws the same again."""
    seed = request.config.getoption("--seed")
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    print(f"--seed {seed}")
    return random.Random(seed)


@pytest.fixture(params=["directory", OVER_S3])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    """A directory, or with `--everywhere` a bucket, too."""
    return InDirectory(tmp_path / "store") if request.param == "directory" else InObjects(request.getfixturevalue("s3").url())
