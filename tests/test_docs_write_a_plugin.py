"""docs/write-a-backend.md and docs/write-an-index.md, done as they are written: commands are typed, sessions are
doctests, code goes where they say.

Run as a program, this file writes the pages' lists of required checks.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

import recs_core.conformance.checks  # noqa: F401  (registers them)
from recs_core.conformance.registry import Subject, checks_of
from tests.snippets import Block, blocks, commands

ROOT = Path(__file__).parents[1]
LIST = re.compile(r"(<!-- required: [^\n]* -->\n).*(<!-- end -->)", flags=re.S)


@dataclass(frozen=True)
class Guide:
    """A page that writes a plugin: of which kind, and in which folder. `file` is where its code goes."""

    page: Path
    subject: Subject
    folder: str
    file: str

    def with_list(self) -> str:
        """The page, its list of required checks up to date."""
        rows = [f"| `{check.name}` | {check.meaning} |" for check in checks_of(self.subject, ("manifest", "required"))]
        return LIST.sub(
            lambda old: old[1] + "\n".join(["", "| check | meaning |", "|---|---|", *rows, "", old[2]]),
            self.page.read_text(encoding="utf-8"),
        )


GUIDES = (
    Guide(ROOT / "docs/write-a-backend.md", "backend", "recs-core-mine", "src/recs_core_mine/backend.py"),
    Guide(ROOT / "docs/write-an-index.md", "index", "recs-core-lsh", "src/recs_core_lsh/index.py"),
)
EACH = pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.subject)


class Reader:
    """Someone who does what the page says, in a folder and an environment of their own."""

    def __init__(self, home: Path, guide: Guide) -> None:
        self.home = self.folder = home
        self.plugin = home / guide.folder
        self.file = self.plugin / guide.file
        (home / "recs-core").symlink_to(ROOT)
        self.python = home / "venv" / "bin" / "python"
        self._make_environment()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RECS_", "PYTEST_"))}
        self.variables = kept | {"PATH": f"{self.python.parent}{os.pathsep}{kept['PATH']}"}

    def _make_environment(self) -> None:
        """A virtual environment in which pip installs without a network, and what is installed here is there too."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.home / "venv"], check=True)
        ours = sysconfig.get_path("purelib")
        theirs = self.home / "venv" / Path(ours).relative_to(sys.prefix)
        (theirs / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
        for command, call in {
            "recs": '-c "from recs_core.cli.main import main; main()" "$@"',
            "pytest": '-m pytest "$@"',
            "pip": '-m pip "$@" --no-index --no-deps --no-build-isolation --disable-pip-version-check',
        }.items():
            script = self.python.parent / command
            script.write_text(f"#!/bin/sh\nexec {self.python} {call}\n")
            script.chmod(0o755)

    def follows(self, block: Block) -> None:
        """Does what a fenced block shows."""
        if block.language in ("console", "sh"):
            for command, shown in commands(block):
                printed = self.types(command)
                assert block.language == "sh" or printed == shown, command
        elif block.text.startswith(">>>"):
            (self.home / "session.txt").write_text(block.text)
            self.types(f"python -m doctest {self.home / 'session.txt'}")
        else:
            self.file.write_text(put(block.text, self.file.read_text()))

    def types(self, command: str) -> str:
        """What a command prints."""
        if command.startswith("cd "):
            self.folder = (self.folder / command.removeprefix("cd ")).resolve()
            return ""
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=self.variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


def put(block: str, text: str) -> str:
    """A block in its file: imports beside those of `text`, in place of the classes of those names; else all of it."""
    body = ast.parse(block).body
    if not all(isinstance(statement, ast.ImportFrom) for statement in body):
        return block
    for statement in body:
        lines = text.splitlines(keepends=True)
        (old,) = (c for c in ast.parse(text).body if isinstance(c, ast.ClassDef) and c.name == statement.names[0].name)
        del lines[old.lineno - 1 : old.end_lineno + 2]
        text = "".join(lines).replace("\n\n\n", f"\n{ast.get_source_segment(block, statement)}\n\n\n", 1)
    return text


@pytest.mark.parametrize(
    "guide",
    [
        pytest.param(guide, marks=pytest.mark.slow if guide.subject == "backend" else pytest.mark.long)
        for guide in GUIDES
    ],
    ids=lambda guide: guide.subject,
)
def test_whoever_does_what_the_page_says_has_a_plugin(guide: Guide, tmp_path: Path) -> None:
    steps = blocks(guide.page)
    assert {block.language for block in steps} == {"console", "python"}
    reader = Reader(tmp_path, guide)
    for block in steps:
        reader.follows(block)
    reader.folder = reader.plugin  # its README, written when the scaffold was red, is true now
    readme = blocks(reader.folder / "README.md")
    assert readme
    for block in readme:
        reader.follows(block)


@EACH
def test_the_page_lists_what_is_required(guide: Guide) -> None:
    page = guide.page.read_text(encoding="utf-8")
    assert LIST.search(page)
    assert page == guide.with_list(), "run python tests/test_docs_write_a_plugin.py"


if __name__ == "__main__":
    for each in GUIDES:
        each.page.write_text(each.with_list(), encoding="utf-8")
