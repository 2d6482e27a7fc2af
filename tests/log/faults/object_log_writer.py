"""A process that appends to a log of objects in a folder until it is killed: `python object_log_writer.py FOLDER SEED`."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))

from obstore.store import LocalStore

from ensemble.log.objects.log import open_objects
from ensemble.log.objects.store import Objects
from tests.log.faults.log_writer import write


def objects(folder: str) -> Objects:
    return Objects(LocalStore(folder, mkdir=True), folder)


if __name__ == "__main__":
    write(open_objects(objects(sys.argv[1]), name="band", log_id="log"), int(sys.argv[2]))
