"""Who may import whom. Read from the source, so that imports inside functions count too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("ensemble", "visualize")

LAYERS = (
    "shown",
    "errors", "event", "motif", "whereabouts",
    "score",
    "broker", "listening", "evolution",
    "log",
    "status", "history", "progress", "cuts",
    "player", "ready", "stage", "resharding", "trimming", "rebuilding",
    "trial", "table", "reader", "band", "changing", "opening", "takes", "replay", "auditing", "forgetting", "deployment",
    "magic",
)  # fmt: skip
"""The parts of `ensemble`: each imports only from itself and from those before it."""

APART = ("__init__", "__main__", "cli")

FREE_OF = {
    "clocks": {"time", "sched", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today"},
    "threads": {"threading", "_thread", "queue", "concurrent", "multiprocessing", "asyncio", "signal", "subprocess"},
    "files": {"os", "io", "pathlib", "shutil", "tempfile", "glob", "fcntl", "mmap", "gzip", "open"},
    "sockets": {"socket", "ssl", "selectors", "select", "http", "urllib"},
    "chance": {"random", "secrets", "uuid"},
    "yaml and ray": {"yaml", "ray"},
}
"""What the broker must not know: it decides, and gives the same answer to the same question."""


class Import(NamedTuple):
    file: str
    line: int
    name: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "_templates" not in path.parts)


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file as a dotted name, `from a import b` as `a.b`."""
    file = path.relative_to(ROOT)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(str(file), node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(file.with_suffix("").parts[: -node.level]) if node.level else ""
            base = ".".join(part for part in (package, node.module) if part)
            for alias in node.names:
                yield Import(str(file), node.lineno, f"{base}.{alias.name}")


def used_names(path: Path) -> Iterator[Import]:
    """Every dotted name that a file reads, written out by its imports: `datetime.now` as `datetime.datetime.now`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    whole = {each.name.rpartition(".")[2]: each.name for each in imports(path)}
    for node in ast.walk(tree):
        parts: list[str] = []
        at: ast.AST = node
        while isinstance(at, ast.Attribute):
            parts.insert(0, at.attr)
            at = at.value
        if isinstance(at, ast.Name) and isinstance(at.ctx, ast.Load) and isinstance(node, ast.Name | ast.Attribute):
            yield Import(str(path.relative_to(ROOT)), node.lineno, ".".join([whole.get(at.id, at.id), *parts]))


def layer(file: str) -> str:
    return Path(file).with_suffix("").parts[1]


def test_a_file_imports_only_from_what_stands_above_it() -> None:
    wrong = []
    for path in sources("ensemble"):
        own = layer(str(path.relative_to(ROOT)))
        if own in APART or own == "testing":
            continue
        assert own in LAYERS, f"{path}: a new part of ensemble; give it a place in LAYERS"
        allowed = LAYERS[: LAYERS.index(own) + 1]
        wrong += [
            str(each)
            for each in imports(path)
            if each.name.startswith("ensemble.") and each.name.split(".")[1] in {*LAYERS, *APART, "testing"} - {*allowed}
        ]
    assert wrong == []


def test_the_fakes_for_tests_know_the_log_and_what_stands_above_it() -> None:
    below = {*LAYERS[LAYERS.index("log") + 1 :], *APART}

    wrong = [str(each) for each in imports(ROOT / "ensemble/testing.py") if {*each.name.split(".")[1:2]} & below]

    assert wrong == []


@pytest.mark.parametrize("kind", FREE_OF)
def test_the_broker_is_free_of(kind: str) -> None:
    wrong = [
        str(each)
        for path in sources("ensemble/broker")
        for each in (*imports(path), *used_names(path))
        if any(each.name == name or each.name.startswith(f"{name}.") for name in FREE_OF[kind])
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("library", "folder", "home"),
    [
        ("yaml", "ensemble", "ensemble/score/"),
        ("matplotlib", "visualize", "visualize/"),
        ("anywidget", "visualize", "visualize/"),
    ],
)
def test_a_library_is_known_to_one_file_only(library: str, folder: str, home: str) -> None:
    files = {each.file for path in sources(folder) for each in imports(path) if each.name.split(".")[0] == library}

    assert len(files) <= 1
    assert all(file.startswith(home) for file in files)


def test_ray_is_known_to_the_stage_only_and_only_when_it_plays() -> None:
    everywhere = [each for package in PACKAGES for path in sources(package) for each in imports(path)]
    known = [each for each in everywhere if each.name.split(".")[0] == "ray"]

    assert [str(each) for each in known if not each.file.startswith("ensemble/stage/")] == []
    for each in known:
        tree = ast.parse((ROOT / each.file).read_text(encoding="utf-8"))
        at_import = {node.lineno for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)}
        assert each.line not in at_import, f"{each} when it is imported itself"


def test_ensemble_never_imports_what_draws_it() -> None:
    known = [each for path in sources("ensemble") for each in imports(path) if each.name.split(".")[0] == "visualize"]

    assert [str(each) for each in known if layer(each.file) not in APART] == []


def test_a_forbidden_import_is_seen_wherever_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "ensemble/broker/planted.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "from datetime import datetime\ndef now():\n    import time\n    from ..log import base\n    return datetime.now()\n"
    )

    assert [each.name for each in imports(path)] == ["datetime.datetime", "time", "ensemble.log.base"]
    assert "datetime.datetime.now" in [each.name for each in used_names(path)]
