"""Which backend, and who said so. The first that speaks wins:

1. a `backend=` argument; 2. `use()`; 3. `RECS_BACKEND`; 4. the file that `RECS_CONFIG` names, else `[tool.recs_core]`
in the nearest pyproject.toml; 5. `KERAS_BACKEND`, or keras where it is already imported → `keras` on that engine;
6. `keras` on the first installed engine of jax, torch and tensorflow.

Reading never imports a framework and never writes a file. docs/configuration.md lists every setting.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from recs_core.contract.errors import BackendNotFound, ConfigError, MissingExtra, UnsupportedFeature
from recs_core.contract.manifest import BackendInfo, No
from recs_core.elsewhere import knows_its_arguments
from recs_core.environment import ENGINES, imported_keras_engine, is_installed, refuse_engine
from recs_core.plugin import manager
from recs_core.spelling import meant_backend
from recs_core.storage.paths import local

if TYPE_CHECKING:
    from recs_core.contract.protocols import Backend, WithDevices, WithWorkers
    from recs_core.contract.workers import Group, Workers

BACKEND_VARIABLE = "RECS_BACKEND"
CONFIG_VARIABLE = "RECS_CONFIG"
KERAS_VARIABLE = "KERAS_BACKEND"
TABLE = "recs_core"
SETTINGS = ("backend",)
"""What a RECS_CONFIG file, or `[tool.recs_core]`, may hold."""

_CLOSE = 0.85  # likeness of a table's name to ours
_NAME = re.compile(r"([\w.-]+)(?:\[([\w.-]+)\])?")


@dataclass(frozen=True)
class Selection:
    """A backend, its engine where it has them, and who chose it, as in "RECS_BACKEND"."""

    name: str
    engine: str | None
    source: str

    def __str__(self) -> str:
        return self.name if self.engine is None else f"{self.name}[{self.engine}]"


_used: Selection | None = None
_built: dict[tuple[str, str | None], Backend] = {}


@knows_its_arguments("use")
def use(name: str | None, *, source: str = "use()") -> None:
    """Make `name`, as in "torch" or "keras[jax]", the default backend of this process; None takes the choice back.

    The name is checked here, by metadata and manifest; the framework is imported at the first model or task. Models
    keep the backend they were built with. Raises as `recs_core.plugin.manager.load_backend`.
    """
    global _used  # noqa: PLW0603 (the process's default is one, on purpose)
    selection = None if name is None else parse(name, source)
    if selection is not None:
        manager.backend_info(selection.name, selection.engine, asked_by=source)
    _used = selection


def backend(name: str | Backend | None = None, *, device: str | None = None, **options: Any) -> Backend:
    """The backend called `name`, or the selected one; built once a name and engine, unless `options` are given.

    `device`: where it runs, as in "cuda"; by default as the backend chooses. `options` go to the backend's factory. A
    `Backend` is handed back as it is, or on the device. Raises as `recs_core.plugin.manager.load_backend`,
    `ConfigError` for an option that the backend does not have and for a device that is not there, `UnsupportedFeature`
    for a device where the backend has no choice of one.
    """
    if name is not None and not isinstance(name, str):
        if not all(hasattr(name, member) for member in manager.BACKENDS.members):
            raise ConfigError(f"backend= is {name!r}, no backend; write a name as in 'torch' or 'keras[jax]'")
        return name if device is None else _on(name, device)
    selection = select(name)
    key = (selection.name, selection.engine)
    if device is not None:
        check_device(manager.backend_info(*key, asked_by=selection.source), device)  # before a framework is imported
        return _on(backend(name, **options), device)
    if options:
        return manager.load_backend(*key, asked_by=selection.source, **options)
    if key not in _built:
        _built[key] = manager.load_backend(*key, asked_by=selection.source)
    return _built[key]


def placed(asked: str | Backend | None, device: str | None) -> str | Backend | None:
    """What was asked for as it is, or built on a device where one is named. Raises as `backend`."""
    return asked if device is None else backend(asked, device=device)


def _on(built: Backend, device: str) -> Backend:
    check_device(built.info, device)
    return cast("WithDevices", built).on(device)


def check_device(info: BackendInfo, device: object) -> None:
    """Raise `UnsupportedFeature`, with the backend's reason, where it declines a choice of device."""
    declared = info.capabilities.get("device", No("its manifest declares no choice of device"))
    if isinstance(declared, No):
        raise UnsupportedFeature(f"backend {info.name!r} takes no device={device!r}; leave it out: {declared.reason}")


def over(asked: str | Backend | None, workers: Workers | None) -> str | Backend | None:
    """What was asked for as it is, or built on these workers. Raises as `backend`, and `UnsupportedFeature`, with the
    backend's reason, where it declines to train on several."""
    if workers is None:
        return asked
    if asked is None or isinstance(asked, str):
        selection = select(asked)
        check_workers(manager.backend_info(selection.name, selection.engine, asked_by=selection.source))
    built = backend(asked)
    check_workers(built.info)
    return cast("WithWorkers", built).over(workers)


def check_workers(info: BackendInfo) -> None:
    """Raise `UnsupportedFeature`, with the backend's reason, where it declines to train on several workers."""
    declared = info.capabilities.get("distributed", No("its manifest does not declare it"))
    if isinstance(declared, No):
        raise UnsupportedFeature(f"backend {info.name!r} trains on one worker alone: {declared.reason}")


def group_of(built: Backend | None) -> Group | None:
    """The workers that a backend's models are spread over; None: this process alone."""
    return getattr(built, "group", None)


def select(explicit: str | None = None) -> Selection:
    """The backend to use, by the order above.

    Raises `ConfigError` for a setting that cannot be read; where nobody chose, `BackendNotFound` without any engine of
    Keras and `MissingExtra` without Keras.
    """
    if explicit is not None:
        return parse(explicit, "backend=")
    return _used or _from_environment() or _from_file() or _default()


def parse(text: str, source: str) -> Selection:
    """Read "name" or "name[engine]". For `keras` without an engine, the engine is found as in steps 5 and 6."""
    match = _NAME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        meant = meant_backend(text) if isinstance(text, str) else None
        hint = "write a name as in 'torch' or 'keras[jax]'" if meant in (None, "keras") else f"write {meant!r}"
        raise ConfigError(f"{source} names the backend {text!r}; {hint}")
    name, engine = match.groups()
    if name != "keras":
        return Selection(name, engine, source)
    if engine is None:
        return Selection(name, _default_keras(f"{source} names keras without an engine").engine, source)
    refuse_engine(engine, source)
    return Selection(name, engine, source)


def check(asked: Any) -> None:
    """Raise `ConfigError` for what neither is a backend nor reads as the name of one; nothing is imported."""
    if isinstance(asked, str):
        parse(asked, "backend=")
    elif asked is not None:
        backend(asked)


def _from_environment() -> Selection | None:
    for name in os.environ:
        if (meant := _meant_variable(name)) is not None:
            raise ConfigError(f"the environment variable {name} is not read; write {meant}, or unset it")
    text = os.environ.get(BACKEND_VARIABLE)
    return parse(text, BACKEND_VARIABLE) if text else None


def _from_file() -> Selection | None:
    stated = os.environ.get(CONFIG_VARIABLE)
    if stated:
        path = local(stated, CONFIG_VARIABLE)
        settings, source = _read(path, f"the file that {CONFIG_VARIABLE} names"), f"{path} ({CONFIG_VARIABLE})"
    else:
        nearest = next((p for d in (Path.cwd(), *Path.cwd().parents) if (p := d / "pyproject.toml").is_file()), None)
        if nearest is None:
            return None
        settings, source = _read(nearest, "the nearest pyproject.toml"), f"[tool.{TABLE}] in {nearest}"
    text = _setting(settings, source)
    return parse(text, source) if text else None


def _read(path: Path, what: str) -> dict[str, Any]:
    """A file's settings: `[tool.recs_core]` of a pyproject.toml, the top level of any other file."""
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{what}, {path}, cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what}, {path}, is not TOML: {error}") from error
    return _our_table(content, path) if path.name == "pyproject.toml" else content


def _our_table(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """`[tool.recs_core]` of a pyproject.toml, empty without one. A table that was meant to be it is refused."""
    tool = content.get("tool", {})
    if not isinstance(tool, dict):
        raise ConfigError(f"tool in {path} must be a table, as in [tool.{TABLE}]")
    for parent, tables in (("tool.", _with_nested(tool)), ("", content)):
        for name, table in tables.items():
            if f"{parent}{name}" != f"tool.{TABLE}" and _is_meant_for_us(name, table):
                raise ConfigError(f"[{parent}{name}] in {path} is not read; write [tool.{TABLE}]")
    ours = tool.get(TABLE, {})
    if not isinstance(ours, dict):
        raise ConfigError(f"tool.{TABLE} in {path} must be a table, as in [tool.{TABLE}]")
    return ours


def _with_nested(tables: dict[str, Any]) -> dict[str, Any]:
    """The tables, and those in them under dotted names, as in "recs.core"; what is in ours is ours."""
    nested = {
        f"{name}.{key}": value
        for name, table in tables.items()
        if name != TABLE and isinstance(table, dict)
        for key, value in table.items()
    }
    return tables | nested


def _is_meant_for_us(name: str, table: object) -> bool:
    """Whether a table has our name in another spelling, or one close to it and a setting of ours."""
    said, ours = _letters(name), _letters(TABLE)
    close = said.startswith("recs") or difflib.SequenceMatcher(None, said, ours).ratio() >= _CLOSE
    has_ours = isinstance(table, dict) and not {_letters(key) for key in table}.isdisjoint(SETTINGS)
    return said == ours or (close and has_ours)


def _meant_variable(name: str) -> str | None:
    """Which variable of ours a name that differs in case, signs or `CORE` alone was meant to be."""
    for ours in (BACKEND_VARIABLE, CONFIG_VARIABLE):
        if name != ours and _letters(name).replace(_letters(TABLE), "recs", 1) == _letters(ours):
            return ours
    return None


def _letters(name: str) -> str:
    return re.sub("[^a-z]", "", name.lower())


def _setting(settings: dict[str, Any], source: str) -> str | None:
    """The `backend` of a file's settings; nothing but known settings may stand there."""
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        is_table = _letters(unknown[0]) in ("tool", _letters(TABLE))
        hint = 'write it at the top level, as in backend = "torch"' if is_table else f"known: {', '.join(SETTINGS)}"
        raise ConfigError(f"{source} has an unknown setting {unknown[0]!r}; {hint}")
    value = settings.get("backend")
    if value is not None and not isinstance(value, str):
        raise ConfigError(f'{source} has backend = {value!r}; write a string, as in backend = "torch"')
    return value


def _default() -> Selection:
    """Keras, as nobody chose; who has another backend's framework alone is told to choose it."""
    found = _default_keras()
    if not is_installed("keras"):
        raise MissingExtra(
            f"no backend was chosen, and the default, {found}, needs keras, not installed: `pip install keras`, or "
            f"choose a backend that is there, as `recs backends` lists them, with {BACKEND_VARIABLE} or backend="
        )
    return found


def _default_keras(why: str = "no backend was chosen") -> Selection:
    """Steps 5 and 6: keras on the engine that it is, or will be, imported with; else on the first one installed."""
    imported = imported_keras_engine()
    if imported is not None:
        source = f"keras, already imported with {imported}"
        refuse_engine(imported, source)
        return Selection("keras", imported, source)
    stated = os.environ.get(KERAS_VARIABLE)
    if stated:
        refuse_engine(stated, KERAS_VARIABLE)
        return Selection("keras", stated, KERAS_VARIABLE)
    engine = next((engine for engine in ENGINES if is_installed(engine)), None)
    if engine is None:
        raise BackendNotFound(f"{why}, and none of {', '.join(ENGINES)} is installed; `pip install keras jax`")
    return Selection("keras", engine, f"the default, keras on the first installed of {', '.join(ENGINES)}")
