"""What a page shows, found and done: fenced blocks of Markdown, doctests of docstrings, commands in backticks.

    python tests/snippets.py PAGE

does what a page of this repository shows, in the working folder, as tests/test_docs_snippets.py has it done. Blocks of
a page run in order and in one namespace:

* `python` is executed, or is a doctest where it starts with `>>>`;
* `sh`, and `console` (commands after `$`, below them what they print): `recs`, `python FILE` and `pytest --pyargs` run;
  of `pip`, `tox` and what else works on an environment the form is checked: what they name must exist;
* `toml` and `json` are read, and written to the file that their first line names in a comment;
* `text` is none of these.

A block that cannot run says why after its language: "```sh not run: takes a day". Its form is checked all the same.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCES = (
    "recs_core",
    *(f"plugins/{name}/src" for name in ("torch", "tensorflow", "qdrant", "ray")),
    "examples",
)
LANGUAGES = ("python", "sh", "console", "toml", "json", "text")
NOT_RUN = "not run: "
FENCE = re.compile(r"^( *)```(?P<language>[^\s`]*)[ ]*(?P<note>[^\n`]*)\n(?P<text>.*?)^\1```$", flags=re.M | re.S)
CONSOLE = re.compile(r"""^\$ ((?:[^'\n]|'[^']*')*)\n((?:(?!\$ ).*\n)*)""", flags=re.M)  # a quoted argument has lines
FILE = re.compile(r"# ([\w-]+\.[a-z]+)\b")


@dataclass(frozen=True)
class Block:
    """A piece of a page: `line` is that of its first line of text, counted from 1."""

    page: str
    line: int
    language: str
    note: str
    text: str

    @property
    def runs(self) -> bool:
        return self.language != "text" and not self.note

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Every page of the repository, relative to its root: Markdown, and sources whose docstrings hold doctests."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    for folder in ("plugins", "examples", "recs_core/templates"):
        found += [p for pattern in ("*.md", "*.md.template") for p in (ROOT / folder).rglob(pattern)]
    found += [path for path in sources() if docstring_blocks(path)]
    names = {path.relative_to(ROOT).as_posix() for path in found}
    return sorted(name for name in names if ".egg-info" not in name and ".venv" not in name)


def sources() -> list[Path]:
    """Every module whose docstrings are pages too."""
    return [path for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py"))]


def blocks(path: Path) -> list[Block]:
    """What a page shows, in order."""
    return docstring_blocks(path) if path.suffix == ".py" else fenced_blocks(path)


def fenced_blocks(path: Path) -> list[Block]:
    """The fenced blocks of a Markdown page."""
    text = path.read_text(encoding="utf-8")
    found = FENCE.finditer(text)
    return [
        Block(_name(path), text.count("\n", 0, m.start("text")) + 1, m["language"], m["note"], dedent(m["text"]))
        for m in found
    ]


def docstring_blocks(path: Path) -> list[Block]:
    """The doctests of a module's docstrings."""
    found = []
    for line, text in docstrings(path):
        if start := re.search(r"^( *)>>> ", text, flags=re.M):
            first = line + text.count("\n", 0, start.start())
            shown = re.sub(f"^{start[1]}", "", text[start.start() :], flags=re.M)
            found.append(Block(_name(path), first, "python", "", shown))
    return found


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every docstring of a module."""
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()


@dataclass
class Reader:
    """Someone who does what a page shows, in the working folder, with the names that are there already."""

    names: dict[str, Any] = field(default_factory=dict)
    folder: Path = field(default_factory=Path.cwd)

    def does(self, block: Block) -> None:
        """Does, or checks, what the block shows. Raises where it cannot be done."""
        match block.language:
            case "python":
                self.executes(block)
            case "sh" | "console":
                for command, shown in commands(block):
                    printed = self.types(command) if block.runs else check_form(command)
                    assert not (block.runs and shown) or printed == shown, f"{block}: {command} prints\n{printed}"
            case "toml" | "json":
                (tomllib if block.language == "toml" else json).loads(block.text)
                if named := FILE.match(block.text):
                    (self.folder / named[1]).write_text(block.text, encoding="utf-8")

    def executes(self, block: Block) -> None:
        """Executes Python, or tries it as a doctest."""
        if block.text.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(block.text, self.names, str(block), block.page, block.line - 1)
            options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            failed, _ = doctest.DocTestRunner(optionflags=options).run(test, clear_globs=False)
            self.names.update(test.globs)
            assert not failed, f"{block}: {failed} of its examples fail, as printed above"
            return
        code = compile("\n" * (block.line - 1) + block.text, block.page, "exec")
        if block.runs:
            exec(code, self.names)

    def types(self, command: str) -> str:
        """What a command prints; one that works on an environment is only checked, and prints nothing."""
        variables, words = split(command)
        if words[0] == "cd":
            self.folder = (self.folder / words[1]).resolve(strict=True)
            return ""
        if (program := _program(words)) is None:
            return check_form(command)
        done = subprocess.run(
            [*program, *words[1:]],
            cwd=self.folder,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


def commands(block: Block) -> list[tuple[str, str]]:
    """(command, what the page shows that it prints) of a block; `&&` parts commands, a backslash joins lines."""
    text = block.text.replace("\\\n", " ")
    if block.language == "sh":
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        return [(part.strip(), "") for line in lines for part in line.split(" && ")]
    found = list(CONSOLE.finditer(text))
    assert "".join(part[0] for part in found) == text, f"{block}: every line is a command after `$`, or what one prints"
    return [(part[1], part[2]) for part in found]


def split(command: str) -> tuple[dict[str, str], list[str]]:
    """The variables that stand before a command, and its words."""
    words = shlex.split(command, comments=True)
    variables = {}
    while "=" in words[0]:
        name, _, variables[name] = words.pop(0).partition("=")
    return variables, words


def _program(words: Sequence[str]) -> list[str] | None:
    """What to start for a command that is run; None for one whose form is checked."""
    match Path(words[0]).name, *words[1:]:
        case "recs", *_:
            return [sys.executable, "-c", "from recs_core.cli.main import main; main()"]
        case (("python" | "python3"), first, *_) if first != "-m":
            return [sys.executable]
        case "pytest", "--pyargs", *_:
            return [sys.executable, "-m", "pytest"]
        case _:
            return None


def check_form(command: str) -> str:
    """Check what a command names: options of `recs`, extras and distributions, environments of tox, files."""
    _, words = split(command)
    match Path(words[0]).name, *words[1:]:
        case "recs", *rest:
            _check_recs(rest)
        case "torchrun", *rest:
            _check_recs(rest[rest.index("recs") + 1 :])
        case "pip", "install", *rest:
            _check_pip(rest)
        case "tox", *rest:
            assert set(_value(rest, "-e").split(",")) <= tox_environments(), command
        case (("python" | "python3"), "-m", ("venv" | "pytest" | "tox"), *_):
            pass
        case (("python" | "python3"), file, *_):
            assert (ROOT / file).is_file(), f"{command}: there is no {file}"
        case (("pytest" | "mypy" | "ruff"), *rest):
            for path in (word for word in rest if "/" in word):
                assert (ROOT / path).exists(), f"{command}: there is no {path}"
        case (("docker" | "curl" | "cp"), *_):
            pass
        case _:
            raise AssertionError(f"{command}: nobody knows whether that works; teach tests/snippets.py")
    return ""


def check_mention(command: str) -> None:
    """Check a command that a sentence names, with or without its arguments: what is there of it must exist."""
    _, words = split(command)
    if words[0] == "recs":
        known, words = _command(words[1:])
        options = {name for param in known.params for name in (*param.opts, *param.secondary_opts)} | {"--help"}
        unknown = {word for word in words if re.match("--?[a-z]", word)} - options
        assert not unknown, f"{command}: {known.name} has no option {unknown}"
    elif words != ["tox", "-l"]:
        check_form(command)


def _check_recs(words: list[str]) -> None:
    """Parse a command line of `recs` with all its options, and do nothing."""
    command, rest = _command(words)
    command.make_context(command.name, rest)


def _command(words: list[str]) -> tuple[Any, list[str]]:
    """The command of `recs` that a command line names, and what stands after it."""
    from typer.main import get_command

    from recs_core.cli.main import app

    command: Any = get_command(app)
    if words[0] in ("--backend", "--version"):
        words = words[2:] if words[0] == "--backend" else []
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"recs has no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def _check_pip(words: list[str]) -> None:
    """Files and folders are there, distributions are ones that this repository knows, and they have their extras."""
    rest = iter(words)
    for word in rest:
        if word in ("-r", "-c"):
            file = next(rest)
            assert (ROOT / file).is_file(), f"pip install: there is no {file}"
        elif not word.startswith("-"):
            name, extras = re.fullmatch(r"([\w./-]+)(?:\[([\w,-]+)\])?", word).groups()  # type: ignore[union-attr]
            known = projects()
            folders = {folder: project for project, folder in known.items()}
            project = folders.get(os.path.normpath(name), name)
            assert project in known or project in _others(), f"pip install: nobody knows {name}"
            unknown = set(filter(None, (extras or "").split(","))) - _extras(known.get(project, ""))
            assert not unknown, f"pip install: {project} has no extra {unknown}"


def projects() -> dict[str, str]:
    """Distributions of this repository → their folders, relative to its root."""
    files = [ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml"), *ROOT.glob("examples/*/pyproject.toml")]
    return {_project(file)["name"]: file.parent.relative_to(ROOT).as_posix() for file in files}


def _project(file: Path) -> dict[str, Any]:
    return tomllib.loads(file.read_text(encoding="utf-8"))["project"]


def _extras(folder: str) -> set[str]:
    return set(_project(ROOT / folder / "pyproject.toml").get("optional-dependencies", {})) if folder else set()


def _others() -> set[str]:
    """Distributions of others that this repository depends on, develops with or installs."""
    ours = [ROOT / folder / "pyproject.toml" for folder in projects().values()]
    files = [*ROOT.glob("requirements/*.txt"), ROOT / "tox.ini", *ours]
    return {word for file in files for word in re.findall(r"[\w-]+", file.read_text(encoding="utf-8"))}


def tox_environments() -> set[str]:
    """The environments that tox.ini has sections for."""
    found = set()
    for name in re.findall(r"^\[testenv:(.+)\]$", (ROOT / "tox.ini").read_text(encoding="utf-8"), flags=re.M):
        stem, _, choices = name.partition("{")
        found |= {stem + choice.strip() for choice in choices.rstrip("}").split(",")}
    return found


def _value(words: Sequence[str], option: str) -> str:
    return words[words.index(option) + 1]


def follow(path: Path) -> None:
    """Does what a page shows, from its setup to what must hold at the end."""
    sys.path[:1] = ["", str(ROOT)]  # as in a session in the working folder, not as a program of the folder tests
    from tests.pages import PAGES, Page

    page = PAGES.get(_name(path), Page())
    reader, printed = Reader(page.setup()), io.StringIO()
    for block in (block for file in page.made or [path] for block in blocks(Path(file))):
        with contextlib.redirect_stdout(printed):
            try:
                reader.does(block)
            except BaseException:
                sys.stderr.write(printed.getvalue())
                raise
    page.after(reader.names, printed.getvalue())


if __name__ == "__main__":
    follow(Path(sys.argv[1]).resolve())
