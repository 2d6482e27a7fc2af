"""Makes the input of the ACME score from the real orders: `python scores/data/make.py online_retail_2011-11.jsonl.gz`.

The same input gives the same bytes. What is made, in this order, one event a line:
1. `acme_visitors.jsonl` as it stands: ACME's own products, and eight customers with a fate each.
2. `product.listed` for each article of the month. The data set has no stock, so it is worked out: what was ordered and
   written off in the month was there, except for the scarce articles, of which a fifth was missing.
3. `invoice.recorded` for each invoice, its data untouched, keyed by its customer.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any
from zlib import crc32

HERE = Path(__file__).parent
SMALL = 150
"""How many invoices the small file has."""
SCARCE = 60
"""One article in this many has too little stock, by a hash of its number."""


def main(source: Path) -> None:
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        invoices = [json.loads(line) for line in lines]
    visitors = (HERE / "acme_visitors.jsonl").read_text(encoding="utf-8").splitlines()
    write("acme_november_2011.jsonl.gz", visitors, invoices)
    write("acme_small.jsonl.gz", visitors, invoices[:SMALL])


def write(name: str, visitors: list[str], invoices: list[dict[str, Any]]) -> None:
    lines = made(visitors, invoices)
    (HERE / name).write_bytes(gzip.compress("".join(line + "\n" for line in lines).encode(), 9, mtime=0))
    print(f"{name}: {len(lines)} events")


def made(visitors: list[str], invoices: list[dict[str, Any]]) -> list[str]:
    return [*visitors, *map(as_line, products(invoices)), *map(as_line, map(recorded, invoices))]


def products(invoices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    prices: defaultdict[str, Counter[float]] = defaultdict(Counter)
    names: defaultdict[str, Counter[str]] = defaultdict(Counter)
    ordered: Counter[str] = Counter()
    written_off: Counter[str] = Counter()
    for invoice in invoices:
        is_return = invoice["invoice"].startswith("C")
        is_correction = invoice["customer"] is None and all(item["unit_price"] == 0 for item in invoice["items"])
        for item in invoice["items"]:
            sku = item["sku"]
            if not sku[0].isdigit():
                continue  # postage and the like: nothing that lies on a shelf
            prices[sku][item["unit_price"]] += item["unit_price"] > 0
            names[sku][(item["description"] or "").strip()] += not is_correction  # those hold remarks, no names
            if is_correction:
                written_off[sku] += max(-item["quantity"], 0)
            elif not is_return:
                ordered[sku] += item["quantity"]
    return [
        {
            "topic": "product.listed",
            "data": {
                "product_id": sku,
                "name": most(names[sku]),
                "price": most(prices[sku]),
                "stock": written_off[sku] + (ordered[sku] * 4 // 5 if is_scarce(sku) else ordered[sku]),
            },
        }
        for sku in sorted(prices)
    ]


def is_scarce(sku: str) -> bool:
    return crc32(sku.encode()) % SCARCE == 0


def recorded(invoice: dict[str, Any]) -> dict[str, Any]:
    key = invoice["customer"] or f"guest-{invoice['invoice']}"
    return {"topic": "invoice.recorded", "key": key, "time": invoice["time"], "data": invoice}


def most(counts: Counter[Any]) -> Any:
    """What was there most often; of several, the smallest."""
    return min(counts, key=lambda value: (-counts[value], value))


def as_line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python make.py online_retail_2011-11.jsonl.gz")
    main(Path(sys.argv[1]))
