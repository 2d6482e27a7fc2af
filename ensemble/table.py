"""A player's state by key, for whoever looks.

Owns the mapping that `table` gives. Must not know who plays: it asks the view of the shard to which a key belongs.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, Sequence, ValuesView
from typing import Any

from ensemble.broker.outbox import shard_of
from ensemble.player import StateCodec
from ensemble.shown import Shown, data_frame
from ensemble.stage.base import View


class Table(Mapping[str, Any], Shown):
    """A player's state by key, as of each look. What is seen is durable.

    Shapes: a state is a dict; with a type (a Struct, dataclass or model) one of these.
    Errors: PlayerError where a state is not of the type. TypeError for a type that is given by its name.
    """

    def __init__(self, name: str, views: Sequence[View], type: Any = None) -> None:
        if isinstance(type, str):
            raise TypeError(f"table({name!r}, type={type!r}): give the type itself, not its name")
        self.name = name
        self._views = views
        self._read = StateCodec(name, type).read

    def __getitem__(self, key: str) -> Any:
        value = self._views[shard_of(key, len(self._views))].table_value(self.name, key)
        if value is None:
            raise KeyError(key)
        return self._read(value)

    def __iter__(self) -> Iterator[str]:
        return iter([key for view in self._views for key in view.table_keys(self.name)])

    def __len__(self) -> int:
        return sum(len(view.table_keys(self.name)) for view in self._views)

    def items(self) -> ItemsView[str, Any]:
        """All of it at one moment; in several shards, at a moment in each."""
        return self._under("").items()

    def values(self) -> ValuesView[Any]:
        return self._under("").values()

    def range(self, prefix: str) -> dict[str, Any]:
        """The states whose keys begin so, in the order of their keys; as of one moment, as `items`."""
        return dict(sorted(self._under(prefix).items()))

    def _under(self, prefix: str) -> dict[str, Any]:
        read = self._read
        return {key: read(value) for view in self._views for key, value in view.table_items(self.name, prefix).items()}

    def frame(self) -> Any:
        """Its states as a DataFrame, a row a key; what is no mapping stands under `state`, a field `key` under `state.key`."""
        return data_frame([_row(key, state) for key, state in Table(self.name, self._views).items()])  # as they were stored

    def __repr__(self) -> str:
        return f"Table({self.name!r}, {dict(self.items())!r})"


def _row(key: str, state: Any) -> dict[str, Any]:
    if not isinstance(state, dict):
        return {"key": key, "state": state}
    return {"key": key, **{"state.key" if field == "key" else field: value for field, value in state.items()}}
