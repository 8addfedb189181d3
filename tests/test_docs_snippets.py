"""What every page shows is done, as printed: tests/snippets.py finds and does it, tests/pages.py has the setups."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import recs_core
from tests import snippets
from tests.pages import PAGES, Page
from tests.snippets import LANGUAGES, NOT_RUN, ROOT, Reader, blocks, check_mention, docstrings, pages, sources

OWN_TEST = Path(__file__).relative_to(ROOT).as_posix()
DOTTED = re.compile(r"`((?:recs|recs_core(?:_torch|_tensorflow|_qdrant|_ray)?)(?:\.\w+)+)")
COMMAND = re.compile(r"`((?:recs |pip install |tox |python [a-z]+/)[^`]+)`")
GROUPS = {"recs_core.backends", "recs_core.indexes"}  # of entry points


def follow(page: str, folder: Path) -> None:
    """Does what a page shows in a folder and a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RECS_", "KERAS_B", "PYTEST_"))}
    path = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, snippets.__file__, ROOT / page],
        cwd=folder,
        env=kept | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{page}\n{done.stdout}{done.stderr}"


def run_pages() -> Iterator[object]:
    """Every page with something to run that no other test does, as pytest parameters."""
    for name in sorted({*pages(), *PAGES}):
        page = PAGES.get(name, Page())
        shows = bool(page.made) or any(block.language != "text" for block in blocks(ROOT / name))
        if shows and page.followed_by is None:
            missing = [module for module in page.needs if find_spec(module) is None]
            marks = [pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: tox -e parity")]
            yield pytest.param(name, marks=[*marks, *([pytest.mark.slow] if page.slow else [])])


@pytest.mark.parametrize("page", list(run_pages()))
def test_a_page_does_what_it_shows(page: str, tmp_path: Path) -> None:
    follow(page, tmp_path)


@pytest.mark.parametrize("page", pages())
def test_every_block_says_what_it_is_and_why_it_is_not_run(page: str) -> None:
    found = blocks(ROOT / page)
    if not page.endswith(".py"):
        fences = re.findall(r"^ *(?:```|~~~)", (ROOT / page).read_text(encoding="utf-8"), flags=re.M)
        assert len(fences) == 2 * len(found), f"{page} has a fence that is not closed as it was opened"
    for block in found:
        assert block.language in LANGUAGES, f"{block}: write ```text, or one of {LANGUAGES}"
        assert re.fullmatch(rf"({NOT_RUN}\S.+)?", block.note), f"{block}: write ```{block.language} {NOT_RUN}REASON"


def test_the_table_names_pages_that_are_there() -> None:
    assert {name for name, page in PAGES.items() if not page.made} <= set(pages())
    for page in PAGES.values():
        assert page.followed_by is None or (ROOT / page.followed_by).is_file()


def test_one_environment_of_tox_has_every_framework_and_runs_every_page() -> None:
    parity = (ROOT / "tox.ini").read_text(encoding="utf-8").split("[testenv:parity]")[1].split("\n\n")[0]
    assert OWN_TEST in parity and '-m ""' in parity
    assert "parity" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    needs = {module for page in PAGES.values() for module in page.needs}
    plugins = {"recs_core_torch", "torch", "recs_core_tensorflow", "tensorflow", "recs_core_faiss"}
    plugins |= {"recs_core_qdrant", "qdrant_client"}
    assert all(f"plugins/{name}" in parity for name in ("torch[onnx]", "tensorflow", "faiss", "qdrant"))
    of_extras = {"onnx", "onnxscript", "fastapi", "matplotlib"}
    assert all(re.search(rf"^    {module}$", parity, flags=re.M) for module in needs - plugins - of_extras)


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_code_in_a_docstring_is_a_doctest(path: Path) -> None:
    for line, text in docstrings(path):
        for part in text.split("\n\n"):
            assert not is_program(part), f"{path}:{line} shows code that nothing runs; begin its lines with >>>\n{part}"


def is_program(text: str) -> bool:
    """Whether a paragraph is Python that does something: it imports, assigns, defines or calls."""
    try:
        body = ast.parse(re.sub(r"^ +(?=\S)", "", text, count=1).replace("…", "...")).body
    except SyntaxError:
        return False
    does = ast.Import | ast.ImportFrom | ast.Assign | ast.FunctionDef | ast.ClassDef | ast.Call
    return any(isinstance(node, does) for statement in body for node in ast.walk(statement))


def markdown() -> list[str]:
    return [page for page in pages() if not page.endswith(".py")]


@pytest.mark.parametrize("page", markdown())
def test_commands_in_backticks_could_be_typed(page: str) -> None:
    text = re.sub(snippets.FENCE, "", (ROOT / page).read_text(encoding="utf-8"))
    for command in (part for found in COMMAND.findall(text) for part in found.split(" && ")):
        if not re.search(r"[…$\n]", command):
            check_mention(command)


def test_dotted_names_of_ours_can_be_imported() -> None:
    """In backticks, on pages and in sources."""
    files = [ROOT / page for page in markdown()] + sources()
    found = {(file, name) for file in files for name in DOTTED.findall(file.read_text(encoding="utf-8"))}
    assert len(found) > 50
    wrong = sorted(
        f"{file.relative_to(ROOT)}: {name}" for file, name in found if name not in GROUPS and not is_there(name)
    )
    assert not wrong, "\n".join(wrong)


def is_there(name: str) -> bool:
    """Whether a dotted name is one, by the sources alone: no framework is needed, nor imported, to say so."""
    parts = re.sub(r"^recs\.", "recs_core.", name).split(".")
    for length in range(len(parts), 0, -1):
        if (file := module_file(parts[:length])) is not None:
            body: list[ast.stmt] = ast.parse(file.read_text(encoding="utf-8")).body
            for place, part in enumerate(parts[length:], length):
                if part not in (there := defined(body)):
                    return False
                if isinstance(node := there[part], ast.ImportFrom):
                    return is_there(".".join([str(node.module), *parts[place:]]))
                body = node.body if isinstance(node, ast.ClassDef) else []
            return True
    return False


def module_file(parts: list[str]) -> Path | None:
    """Where a module's source lies."""
    for root in (ROOT, *(ROOT / f"plugins/{name}/src" for name in ("torch", "tensorflow", "faiss", "qdrant", "ray"))):
        for file in (root.joinpath(*parts).with_suffix(".py"), root.joinpath(*parts, "__init__.py")):
            if file.is_file():
                return file
    return None


def defined(body: list[ast.stmt]) -> dict[str, ast.AST]:
    """Name → what defines it, in a module or a class: definitions, assignments, imports, tables of lazy names."""
    found: dict[str, ast.AST] = {}
    for node in (node for statement in body for node in outside_of_definitions(statement)):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found[name] = node
            case ast.ImportFrom(names=names):
                found |= {alias.asname or alias.name: node for alias in names}
            case ast.Name(id=name) | ast.Constant(value=str(name)):
                found.setdefault(name, node)
    return found


def outside_of_definitions(statement: ast.stmt) -> Iterator[ast.AST]:
    """The statement itself, and what is in it where it defines nothing: a function has no attributes."""
    return iter([statement]) if isinstance(statement, ast.FunctionDef | ast.ClassDef) else ast.walk(statement)


def do(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Does what a page of one's own shows."""
    monkeypatch.chdir(folder)
    page, reader = folder / "page.md", Reader()
    page.write_text(text, encoding="utf-8")
    for block in blocks(page):
        reader.does(block)


def test_blocks_of_a_page_share_names_and_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
```python
a = 20
```
```python
>>> a + 1
21
```
* in a list

  ```python
  b = a + 2
  ```

```toml
# settings.toml, read below
b = 22
```
```python
from pathlib import Path
assert Path("settings.toml").read_text().endswith(f"b = {b}\\n")
```
```console
$ recs --version
recs-core VERSION
```
```python not run: it never ends
while True: pass
```
""".replace("VERSION", recs_core.__version__)
    do(text, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("```python\nrecs.load('bundle')\n```", "NameError"),
        ("```python\n>>> 1 + 1\n3\n```", "page.md:2: 1 of its examples fail"),
        ("```python not run: reasons\nif\n```", "SyntaxError"),
        ("```sh\nrecs bundle info nowhere\n```", "no such folder"),
        ("```sh\nrecs bundle inform run\n```", "No such command 'inform'"),
        ("```sh not run: reasons\nrecs train shop --epoch 3\n```", "No such option: --epoch"),
        ("```sh\npip install 'recs-core[gpu]'\n```", "recs-core has no extra"),
        ("```sh\npip install recs-core-jax\n```", "nobody knows recs-core-jax"),
        ("```sh\npip install -e plugins/jax\n```", "nobody knows plugins/jax"),
        ("```sh\npip install -r requirements.txt\n```", "there is no requirements.txt"),
        ("```sh\ntrue && tox -e gpu\n```", "nobody knows whether that works"),
        ("```sh\ntox -e gpu\n```", "tox -e gpu"),
        ("```sh\npytest tests/nowhere\n```", "there is no tests/nowhere"),
        ("```sh\npython nowhere.py\n```", "No such file"),
        ("```console\n$ recs --version\nrecs-core 0.0\n```", "recs-core"),
        ("```console\nrecs --version\n```", "every line is a command"),
        ("```console\n$ echo it's\n```", "every line is a command"),
        ("```toml\nbackend = torch\n```", "Invalid value"),
        ("```json\n{'a': 1}\n```", "Expecting property name"),
    ],
)
def test_what_does_not_work_is_found(block: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception) as caught:
        do(f"{block}\n", tmp_path, monkeypatch)
    assert said in f"{caught.type.__name__}: {caught.value}"


@pytest.mark.parametrize(
    ("mention", "said"),
    [
        ("recs trane shop", "no command 'trane'"),
        ("recs train --epoch 3", "no option {'--epoch'}"),
        ("pip install recs-core[jaxx]", "no extra"),
        ("python benchmarks/nowhere.py", "there is no"),
    ],
)
def test_a_mention_of_what_is_not_there_is_found(mention: str, said: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(said)):
        check_mention(mention)


@pytest.mark.parametrize(
    "name", ["recs.recipe.choose", "recs_core.data.Encoded", "recs.TwoTower.train", "recs_core_torch.x"]
)
def test_a_name_that_is_not_there_is_found(name: str) -> None:
    assert not is_there(name)
    assert is_there("recs.TwoTower.fit") and is_there("recs_core_torch.loader") and is_there("recs_core.data.encoded")


@pytest.mark.parametrize(
    "text", ["import recs_core", "model.fit(train)", "    for a in b():\n        c(a)", "a = [1, …]"]
)
def test_code_is_told_from_prose(text: str) -> None:
    assert is_program(text)
    assert (
        not is_program("recall@k      hits / m") and not is_program("Raises `SpecError`.") and not is_program("towers")
    )
