"""The plugin host: name → entry point → manifest → factory, with an error of its own at every step.

Only what was named is loaded: a broken plugin disturbs nobody who did not ask for it. Built-in backends and indexes
come in through the same entry points and hooks as anyone else's.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

import pluggy

from recs_core.contract.errors import (
    BackendBroken,
    BackendConflict,
    BackendNotFound,
    ConfigError,
    MissingExtra,
    RecsError,
    UnsupportedFeature,
)
from recs_core.contract.manifest import BACKEND_CAPABILITIES, INDEX_CAPABILITIES, BackendInfo, IndexInfo, No
from recs_core.environment import ENGINES, is_installed
from recs_core.plugin import hookspecs
from recs_core.plugin.specs import split
from recs_core.spelling import distribution_of, meant_backend

if TYPE_CHECKING:
    from recs_core.contract.protocols import Backend, Index

Info = TypeVar("Info", BackendInfo, IndexInfo)

FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Kind(Generic[Info]):
    """What a group of plugins provides, and what each must declare and have."""

    noun: str
    group: str
    hook: str
    manifest: type[Info]
    capabilities: Mapping[str, str]
    members: tuple[str, ...]


BACKENDS = Kind(
    "backend",
    "recs_core.backends",
    "recs_backends",
    BackendInfo,
    BACKEND_CAPABILITIES,
    ("info", "model", "task", "adopt", "trainer"),
)
INDEXES = Kind("index", "recs_core.indexes", "recs_indexes", IndexInfo, INDEX_CAPABILITIES, ("info", "build", "search"))


@dataclass(frozen=True)
class Claim:
    """A distribution's claim, by an entry point, to provide `name`."""

    name: str
    distribution: str
    version: str
    entry_point: EntryPoint

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Listed(Generic[Info]):
    """A line of `recs backends`: who provides a name, its manifest, or why it has none (`problem`)."""

    name: str
    distribution: str
    version: str
    info: Info | None
    problem: str | None


def list_backends() -> list[Listed[BackendInfo]]:
    """Every installed backend by metadata and manifest, a broken one with its problem. Imports no framework."""
    return _listed(BACKENDS)


def list_indexes() -> list[Listed[IndexInfo]]:
    """Every installed index, as `list_backends`."""
    return _listed(INDEXES)


def backend_info(name: str, engine: str | None = None, *, asked_by: str = "backend=") -> BackendInfo:
    """The manifest of a backend, found and checked; nothing is built. Raises as `load_backend`."""
    plugin = _Plugin(BACKENDS, _claim(BACKENDS, name, asked_by, engine), asked_by)
    return plugin.manifest(engine).on(engine)


def load_backend(name: str, engine: str | None = None, *, asked_by: str = "backend=", **options: Any) -> Backend:
    """Build a backend; `engine` and `options` go to its factory, `asked_by` into every error (and to a factory that
    has a parameter of that name).

    Raises `BackendNotFound` (no such name or engine), `ConfigError` (no such option), `BackendConflict` (two
    distributions claim the name), `BackendBroken` (import, hooks, manifest or factory fail), `MissingExtra` (what it
    requires is not installed).
    """
    plugin = _Plugin(BACKENDS, _claim(BACKENDS, name, asked_by, engine), asked_by)
    info = plugin.manifest(engine).on(engine)
    plugin.check_requirements(info, engine)
    plugin.tell_selected(info)
    return cast("Backend", plugin.build(info, engine=engine, **options))


def load_index(spec: str, *, asked_by: str = "index=") -> Index:
    """Build an empty index from its name and its options, "exact" or "mine:probes=32".

    Raises as `load_backend`, and `UnsupportedFeature` for another metric.
    """
    name, options = split(spec, asked_by)
    plugin = _Plugin(INDEXES, _claim(INDEXES, name, asked_by), asked_by)
    info = plugin.manifest()
    if info.metric != "inner_product":
        raise UnsupportedFeature(
            f"index {name!r} of {plugin.claim} (asked for by {asked_by}) searches by {info.metric!r}; "
            "the core composes vectors for 'inner_product'"
        )
    plugin.check_requirements(info)
    return cast("Index", plugin.build(info, **options))


def index_provider(spec: str, *, asked_by: str = "index=") -> str:
    """The distribution that provides an index, and its version. Raises as `load_index`."""
    return str(_claim(INDEXES, split(spec, asked_by)[0], asked_by))


def _claims(kind: Kind[Any]) -> list[Claim]:
    claims = []
    for point in entry_points(group=kind.group):  # of two copies of one distribution on sys.path, the first only
        distribution = point.dist
        assert distribution is not None  # always set by entry_points()
        claims.append(Claim(point.name, distribution.name, distribution.version, point))
    return sorted(claims, key=lambda claim: (claim.name, claim.distribution))


def _claim(kind: Kind[Any], name: str, asked_by: str, engine: str | None = None) -> Claim:
    """The one distribution that claims `name`; `engine`, where one is asked for, is for the hint in an error alone."""
    claims = _claims(kind)
    found = [claim for claim in claims if claim.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise BackendConflict(_rivalry(kind, name, found, f" (asked for by {asked_by})"))
    names = sorted({claim.name for claim in claims})
    installed, hint = ", ".join(names) or "none", _hint(kind, name if engine is None else f"{name}[{engine}]", names)
    raise BackendNotFound(f"no {kind.noun} {name!r} (asked for by {asked_by}) is installed, only: {installed}; {hint}")


def _hint(kind: Kind[Any], name: str, installed: list[str]) -> str:
    """What to type in place of a name that nobody claims."""
    if kind is BACKENDS and any(claim.name == name for claim in _claims(INDEXES)):
        return f"{name!r} is an index: add --index, or write index={name!r}"
    if kind is INDEXES and any(claim.name == name for claim in _claims(BACKENDS)):
        return f"{name!r} is a backend: leave out --index, or write backend={name!r}"
    meant = meant_backend(name) if kind is BACKENDS else None
    install = f"pip install {distribution_of(meant or name) or f'what provides it in {kind.group!r}'}"
    if meant is not None and meant.partition("[")[0] in installed:
        return f"write {meant!r}"
    close = difflib.get_close_matches(name.lower(), installed, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    if meant is None:
        return install
    return f"write 'keras[{meant}]', or {install}" if meant == name else f"write {meant!r}, and {install}"


def _rivalry(kind: Kind[Any], name: str, claims: Iterable[Claim], asked: str = "") -> str:
    rivals = list(claims)
    remedies = " or ".join(f"`pip uninstall {claim.distribution}`" for claim in rivals)
    return f"{kind.noun} {name!r}{asked} is claimed by {' and by '.join(map(str, rivals))}; keep one: {remedies}"


def _listed(kind: Kind[Info]) -> list[Listed[Info]]:
    claims = _claims(kind)
    rows = []
    for claim in claims:
        info, problem = None, None
        rivals = [other for other in claims if other.name == claim.name]
        try:
            if len(rivals) > 1:
                raise BackendConflict(_rivalry(kind, claim.name, rivals))
            plugin = _Plugin(kind, claim, "the listing")
            info = plugin.manifest()
            plugin.check_requirements(info)
        except RecsError as error:
            problem = str(error)
        rows.append(Listed(claim.name, claim.distribution, claim.version, info, problem))
    return rows


class _Plugin(Generic[Info]):
    """One claimed plugin, imported and registered with a plugin manager of its own.

    A manager for each plugin, so that one that fails leaves nothing registered and no two names can collide. The entry
    point was chosen by `_claim`, because pluggy's own loading takes the first of rivals and accepts unknown names.
    """

    def __init__(self, kind: Kind[Info], claim: Claim, asked_by: str) -> None:
        self.kind: Kind[Info] = kind
        self.claim, self.asked_by = claim, asked_by
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._register(self._import())

    def _broken(self, what: str, cause: BaseException | None = None) -> NoReturn:
        claim = self.claim
        raise BackendBroken(
            f"{self.kind.noun} {claim.name!r} of {claim} (asked for by {self.asked_by}) is broken: {what}"
        ) from cause

    def _import(self) -> object:
        point = self.claim.entry_point
        try:
            return point.load()
        except ModuleNotFoundError as error:
            if error.name is not None and f"{point.module}.".startswith(f"{error.name}."):
                self._broken(
                    f"its entry point names the module {point.module}, which is not there; "
                    f"`pip install --force-reinstall {self.claim.distribution}`",
                    error,
                )
            self._broken(f"importing {point.value} failed: {_line(error)}; `pip check` names what is missing", error)
        except Exception as error:
            self._broken(f"importing {point.value} failed: {_line(error)}", error)

    def _register(self, plugin: object) -> None:
        try:
            self._manager.register(plugin, name=self.claim.name)
        except pluggy.PluginValidationError as error:
            self._broken(f"a hook does not fit its specification: {_line(error)}", error)
        known = [name for name in vars(hookspecs) if name.startswith("recs_")]
        for caller in self._manager.get_hookcallers(plugin) or []:
            if not caller.has_spec():
                close = difflib.get_close_matches(caller.name, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
                self._broken(f"it implements a hook {caller.name} that does not exist; {hint}")

    def manifest(self, engine: str | None = None) -> Info:
        """The manifest under the claimed name, checked; `engine` must be one of its engines."""
        infos = self._manifests()
        for info in infos:
            self._check(info)
        mine = [info for info in infos if info.name == self.claim.name]
        if len(mine) != 1:
            names = ", ".join(repr(info.name) for info in infos)
            self._broken(
                f"its entry point is named {self.claim.name!r} but {self.kind.hook} gives {names}; name both alike"
            )
        info = mine[0]
        if engine is not None and engine not in getattr(info, "engines", ()):
            engines = ", ".join(getattr(info, "engines", ()))
            hint = f"it has: {engines}" if engines else f"it has none: write {info.name!r}"
            raise BackendNotFound(
                f"{self.kind.noun} {info.name!r} of {self.claim} has no engine {engine!r} "
                f"(asked for by {self.asked_by}); {hint}"
            )
        return info

    def _manifests(self) -> list[Info]:
        try:
            infos = [info for infos in getattr(self._manager.hook, self.kind.hook)() for info in infos]
        except Exception as error:
            self._broken(f"its hook {self.kind.hook} failed: {_line(error)}", error)
        if not infos:
            self._broken(f"it gives no manifest; implement {self.kind.hook} with @recs_core.plugin.hookimpl")
        for info in infos:
            if not isinstance(info, self.kind.manifest):
                self._broken(f"{self.kind.hook} must give {self.kind.manifest.__name__}, not {type(info).__name__}")
        return infos

    def _check(self, info: Info) -> None:
        """A manifest says everything the host relies on, and nothing it does not know."""
        where = f"the manifest of {info.name!r}"
        if not FACTORY.fullmatch(info.factory):
            self._broken(f"{where} has factory={info.factory!r}; write 'package.module:attribute'")
        dotted = [module for module in info.requires if not module.isidentifier()]
        if dotted:
            self._broken(f"{where} requires {dotted[0]!r}; name top-level modules")
        known = self.kind.capabilities
        unknown = [name for name in info.capabilities if name not in known]
        if unknown:
            close = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see recs_core.contract.manifest"
            self._broken(f"{where} declares an unknown capability {unknown[0]!r}; {hint}")
        undeclared = [name for name in known if name not in info.capabilities]
        if undeclared:
            self._broken(f"{where} does not declare {', '.join(undeclared)}; say True or No(reason) for each")
        for name, value in info.capabilities.items():
            if value is not True and not isinstance(value, No):
                self._broken(f"{where} declares {name!r} as {value!r}; say True or No(reason)")

    def check_requirements(self, info: Info, engine: str | None = None) -> None:
        """Raise `MissingExtra` for required modules that are not installed, without importing any.

        Where some are missing, an engine of Keras that is missing too is named with them: one line to type, not two.
        """
        missing = [module for module in info.requires if not is_installed(module)]
        if missing:
            missing += [engine] if engine in ENGINES and not is_installed(engine) else []
            raise MissingExtra(
                f"{self.kind.noun} {info.name!r} of {self.claim} (asked for by {self.asked_by}) needs "
                f"{', '.join(missing)}, not installed: `pip install {' '.join(missing).replace('_', '-')}`"
            )

    def tell_selected(self, info: BackendInfo) -> None:
        """Call the plugin's `recs_backend_selected`."""
        try:
            self._manager.hook.recs_backend_selected(info=info, source=self.asked_by)
        except RecsError:
            raise
        except Exception as error:
            self._broken(f"its hook recs_backend_selected failed: {_line(error)}", error)

    def build(self, info: Info, **arguments: Any) -> object:
        """What the factory returns, checked to have the members of its protocol."""
        factory = self._factory(info)
        parameters = _parameters(factory)
        self._check_options(arguments, parameters)
        if "asked_by" in parameters:
            arguments["asked_by"] = self.asked_by  # for the factory's own errors; as with hooks, taken if wanted
        try:
            built: object = factory(**arguments)
        except RecsError:
            raise
        except Exception as error:
            given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            self._broken(f"its factory {info.factory}({given}) failed: {_line(error)}", error)
        lacks = [name for name in self.kind.members if not hasattr(built, name)]
        if lacks:
            self._broken(f"its factory {info.factory} returned a {type(built).__name__} without {', '.join(lacks)}")
        return built

    def _factory(self, info: Info) -> Callable[..., object]:
        module, _, attribute = info.factory.partition(":")
        try:
            found: Callable[..., object] = getattr(importlib.import_module(module), attribute)
        except RecsError:
            raise
        except Exception as error:
            self._broken(f"its factory {info.factory} cannot be imported: {_line(error)}", error)
        return found

    def _check_options(self, given: Iterable[str], parameters: Mapping[str, inspect.Parameter]) -> None:
        """Raise `ConfigError` for an option that the factory does not have: the caller is wrong, not the plugin."""
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return
        options = sorted(set(parameters) - {"engine", "asked_by"})
        for name in given:
            if name not in parameters and name != "engine":
                close = difflib.get_close_matches(name, options, n=1)
                has = f"it has: {', '.join(options)}" if options else "it has none"
                raise ConfigError(
                    f"{self.kind.noun} {self.claim.name!r} of {self.claim} (asked for by {self.asked_by}) has no "
                    f"option {name!r}; {f'did you mean {close[0]!r}?' if close else has}"
                )


def _parameters(factory: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    """What a factory can be given; nothing is known of one that is no function."""
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return inspect.signature(lambda **options: None).parameters


def _line(error: BaseException) -> str:
    """An error as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


__all__ = [
    "BACKENDS",
    "INDEXES",
    "Claim",
    "Kind",
    "Listed",
    "backend_info",
    "index_provider",
    "list_backends",
    "list_indexes",
    "load_backend",
    "load_index",
]
