"""Makes the input of the quakes score: `python scores/data/make_quakes.py earthquakes.json`.

`earthquakes.json` is the file of that name in the npm package vega-datasets. What is made is one CloudEvent a line, in
the order of time, with the fields that the score needs. The same input gives the same bytes.
"""

from __future__ import annotations

import gzip
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

WHOLE = {"CA": "California", "MX": "Mexico", "B.C.": "Canada"}
"""Regions that have two names in the feed."""
TARGET = Path(__file__).parent / "quakes_2018-02.jsonl.gz"


def main(source: Path) -> None:
    features = json.loads(source.read_text(encoding="utf-8"))["features"]
    features.sort(key=lambda feature: (feature["properties"]["time"], feature["id"]))
    text = "".join(json.dumps(event(feature), ensure_ascii=False, separators=(",", ":")) + "\n" for feature in features)
    TARGET.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{TARGET.name}: {len(features)} events")


def event(feature: dict[str, Any]) -> dict[str, Any]:
    about = feature["properties"]
    longitude, latitude, depth = feature["geometry"]["coordinates"]
    time = datetime.fromtimestamp(about["time"] / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "specversion": "1.0",
        "id": feature["id"],
        "source": f"usgs/{about['net']}",
        "type": "quake.reported",
        "time": time,
        "data": {
            "id": feature["id"],
            "time": time,
            "kind": about["type"],
            "magnitude": float(about["mag"]),
            "scale": about["magType"],
            "latitude": float(latitude),
            "longitude": float(longitude),
            "depth_km": float(depth),
            "place": about["place"],
            "region": region(about["place"]),
            "network": about["net"],
            "felt": about["felt"] or 0,
        },
    }


def region(place: str) -> str:
    """What stands after the last comma: of "22km NNE of Hualian, Taiwan" it is Taiwan; of what has none, all of it."""
    name = place.rpartition(", ")[2]
    return WHOLE.get(name, name)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python make_quakes.py earthquakes.json")
    main(Path(sys.argv[1]))
