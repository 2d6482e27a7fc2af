"""What tests of faults share: where their logs are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.kept import InDirectory, InObjects, Kept

OVER_S3 = pytest.param("s3", marks=pytest.mark.everywhere("to a band an object store is a slower directory"))


@pytest.fixture(params=["directory", OVER_S3])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    """A directory, or with `--everywhere` a bucket, too."""
    return InDirectory(tmp_path / "store") if request.param == "directory" else InObjects(request.getfixturevalue("s3").url())
