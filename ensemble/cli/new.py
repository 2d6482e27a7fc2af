"""`ensemble new`: a project that plays and passes its tests at once, made from a score of the repertoire.

Owns where the templates are and what of them a score needs: its players, its data, the schema that editors read.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Annotated

import typer

from ensemble.cli.options import usage
from ensemble.cli.terminal import result

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
SCHEMA = "ensemble.schema.json"

README = """# {name}

A choreography for Ensemble: players hear events and react with events; nobody conducts.

    pip install ensemble-band pytest
    ensemble run scores/{name}.yaml         # play it
    ensemble status                         # look into its log
    ensemble check scores/{name}.yaml       # what can't be right, before it plays
    pytest                                  # test it

`scores/{name}.yaml` says who listens to what; `players/` has the players, plain Python functions and classes.
"""

TEST = '''"""The score plays to its end."""

from pathlib import Path

import ensemble

SCORE = Path(__file__).parents[1] / "scores/{name}.yaml"


def test_the_score_plays_to_its_end_without_a_dead_letter():
    with ensemble.open(SCORE, store="memory:") as band:
        band.settle(timeout=300)
        status = band.status()
        dead = band.dead()

    assert dead == []
    assert status.events > 0
    assert {{name: section.lag for name, section in status.sections.items() if section.lag}} == {{}}
    assert {{name: source.refused for name, source in status.sources.items() if source.refused}} == {{}}
'''

PLAYER_TEST = '''"""Players are plain functions: a test calls them."""

from ensemble.testing import event
from players.hello import greet


def test_a_guest_is_greeted_by_name():
    greeting = greet(event("guest.arrived", {"name": "Ella"}))

    assert greeting.topic == "greeting.said"
    assert "Ella" in greeting.data["text"]
'''

CONFTEST = '''"""Lets tests import `players`, however pytest is started."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
'''


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The project's name; its folder's too.", show_default=False)],
    template: Annotated[
        str, typer.Option("--from", metavar="SCORE", help="The score to begin with: hello, acme_fitness, quakes.")
    ] = "hello",
) -> None:
    """Make a project that runs at once.

    It plays a small score, and passes its tests.
    """
    if not NAME.fullmatch(name):
        usage(f"{name!r:.80} is no name for a project; use letters, digits, '_', '-' and '.', at most 100 of them")
    folder = Path(name)
    if folder.exists():
        usage(f"{folder} is there already; choose another name, or remove it")
    source = templates()
    known = sorted(path.stem for path in (source / "scores").glob("*.yaml"))
    if template not in known:
        usage(f"--from {template!r}: there is no such score; there are {', '.join(known)}")
    _make(folder, name, source, template)
    result(f"made {folder}/ from {template}; next:\n\n  cd {folder}\n  ensemble run scores/{name}.yaml\n  pytest")


def templates() -> Path:
    """The folder with `scores/` and `players/`: within the package once it is installed, beside it in a checkout."""
    import ensemble

    package = Path(ensemble.__file__).parent
    shipped = package / "_templates"
    return shipped if shipped.is_dir() else package.parent


def _make(folder: Path, name: str, source: Path, template: str) -> None:
    text = (source / "scores" / f"{template}.yaml").read_text(encoding="utf-8")
    for file, content in _files(name, source, text).items():
        _write(folder / file, content)
    _write(folder / "scores" / f"{name}.yaml", _renamed(text, name))
    for module in sorted(set(re.findall(r"\bplayers\.(\w+)", text))):
        package = source / "players" / module
        if package.is_dir():
            shutil.copytree(package, folder / "players" / module, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(package.with_suffix(".py"), folder / "players")
    for data in sorted(set(re.findall(r"\bdata/[\w./-]*\w", text))):
        (folder / "scores/data").mkdir(exist_ok=True)
        shutil.copy(source / "scores" / data, folder / "scores/data")
    if (folder / "scores/data").is_dir() and (source / "scores/data/README.md").is_file():
        shutil.copy(source / "scores/data/README.md", folder / "scores/data")  # where the data come from, and their licence


def _files(name: str, source: Path, text: str) -> dict[str, str]:
    files = {
        "README.md": README.format(name=name),
        ".gitignore": ".ensemble/\n__pycache__/\n.pytest_cache/\n",
        "conftest.py": CONFTEST,
        "tests/test_score.py": TEST.format(name=name),
        "players/__init__.py": "",
    }
    if "players.hello" in text:
        files["tests/test_players.py"] = PLAYER_TEST
    if (source / "scores" / SCHEMA).is_file():
        files[f"scores/{SCHEMA}"] = (source / "scores" / SCHEMA).read_text(encoding="utf-8")
    return files


def _renamed(text: str, name: str) -> str:
    """The score under the project's name, its log kept in a folder: one in memory could not be looked at."""
    text = re.sub(r"^name: .*$", f'name: "{name}"', text, count=1, flags=re.MULTILINE)
    return re.sub(r'^store: \{url: "memory:"\}\n', "", text, flags=re.MULTILINE)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


COMMANDS = (("new", new, "ensemble new my-band --from acme_fitness"),)
