"""One run, as data: which interactions, which model, which settings. `recs train` writes it, repeats it, compares it.

`run.json` holds a `Run` under "run" and what came of it beside it; a run's JSON goes both ways.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from recs_core.contract.as_json import from_json, to_json
from recs_core.contract.errors import BundleError, ConfigError, DataError
from recs_core.contract.optimizers import Optimizer
from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.training import TrainingSpec
from recs_core.storage.paths import local

if TYPE_CHECKING:
    from recs_core.data.interactions import Interactions
    from recs_core.evaluation import Interval, Ranks
    from recs_core.recommender import Recommender
    from recs_core.tables.times import Unit
    from recs_core.two_tower import TwoTower

FORMAT = 1
RECENT_DAYS = 21.0
CARD_K = (10, 20)
"""Cuts of the metrics on the model card."""


@dataclass(frozen=True)
class DataSpec:
    """Where interactions come from and how they are cut.

    `source`: a data set's name (`recs data list`) or a CSV or Parquet file; a file needs `query` and `candidate`, its
    id columns. `unit` ("s", "ms", "us", "ns"): what a timestamp of numbers counts. `queries`, `candidates`: files of
    side features. `encoding`, `delimiter`, `null_values`: how the CSV files among these are written, as
    `Interactions.from_table` has them; None leaves it to the file. `split`: "time" (`at`, or the last `test` share),
    "last" or "random" (`test` share), None to train on everything. `validation`: the last share of the training rows by
    time (at random where there are no timestamps), held out for validation while training.
    """

    source: str
    query: str | None = None
    candidate: str | None = None
    timestamp: str | None = None
    unit: Unit | None = None
    queries: str | None = None
    candidates: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    null_values: Sequence[str] | None = None
    path: str | None = None
    min_per_query: int = 1
    min_per_candidate: int = 1
    split: Literal["time", "last", "random"] | None = "time"
    at: str | None = None
    test: float | None = None
    known_only: bool = True
    validation: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.null_values, list):  # as JSON has it
            object.__setattr__(self, "null_values", tuple(self.null_values))


OF_FILES = ("query", "candidate", "timestamp", "unit", "queries", "candidates", "encoding", "delimiter", "null_values")
"""Fields of `DataSpec` that say how a file is read; a named data set knows its own."""

PROTOCOLS: Mapping[str, DataSpec] = {
    "online-retail": DataSpec("online-retail", min_per_query=5, min_per_candidate=5, split="time", at="2011-11-10"),
    "report": DataSpec("report", split=None),
}
"""The cut that goes with a data set when nothing else is asked for."""


@dataclass(frozen=True)
class ModelSpec:
    """Specs of a model, or the name of a recipe that chooses them from the training data; specs given win."""

    recipe: str | None = "history"
    query: TowerSpec | None = None
    candidate: TowerSpec | None = None
    retrieval: RetrievalSpec | None = None
    optimizer: Optimizer | None = None
    training: TrainingSpec | None = None


@dataclass(frozen=True)
class Run:
    """Everything that decides a run but the machine."""

    data: DataSpec
    model: ModelSpec = field(default_factory=ModelSpec)
    backend: str | None = None
    seed: int = 42
    dtype: DType = "float32"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data that `from_json` reads back."""
        model = {f.name: getattr(self.model, f.name) for f in fields(ModelSpec)}
        return {
            "format": FORMAT,
            "data": asdict(self.data),
            "model": {
                name: value if value is None or isinstance(value, str) else to_json(value)
                for name, value in model.items()
            },
            "backend": self.backend,
            "seed": self.seed,
            "dtype": self.dtype,
        }

    @classmethod
    def from_json(cls, data: Any, where: str = "run") -> Run:
        """Raises `ConfigError` naming the field, and `SpecError` for a spec that cannot be meant."""
        data = _object(data, where)
        data = _object(data.get("run", data), where)
        if data.get("format") != FORMAT:
            raise ConfigError(f"{where}: format {data.get('format')!r} is not {FORMAT}, the one this version reads")
        _known(data, ("format", "data", "model", "backend", "seed", "dtype"), where)
        source = _object(data.get("data"), f"{where}, data")
        _known(source, [f.name for f in fields(DataSpec)], f"{where}, data")
        if not isinstance(source.get("source"), str):
            raise ConfigError(f"{where}, data: source must be a data set's name or a file")
        specs = _object(data.get("model", {}), f"{where}, model")
        _known(specs, [f.name for f in fields(ModelSpec)], f"{where}, model")
        model = {name: from_json(value) if isinstance(value, Mapping) else value for name, value in specs.items()}
        return cls(
            data=DataSpec(**source),
            model=ModelSpec(**model),
            backend=data.get("backend"),
            seed=data.get("seed", 42),
            dtype=data.get("dtype", "float32"),
        )

    @classmethod
    def read(cls, path: str | Path) -> Run:
        """The run in a `run.json`. Raises `ConfigError` for a file that cannot be read."""
        path = local(path, "Run.read")
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")), where=str(path))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read, {error.strerror or error}") from error
        except ValueError as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{path}: is not JSON that holds a run, {error}") from error

    def resolved(self, model: TwoTower) -> Run:
        """The same run with every spec spelled out, so that a later version's recipe cannot change it."""
        specs = ModelSpec(
            self.model.recipe, model.query, model.candidate, model.retrieval, model.optimizer, model.training
        )
        return replace(self, model=specs)


@dataclass(frozen=True)
class Parts:
    """The data of a run: what trains, what validates while training, what tests at the end, and a line on leakage."""

    train: Interactions
    validation: Interactions | None
    test: Interactions | None
    leakage: str | None


def load_data(spec: DataSpec) -> Interactions:
    """The interactions of a run, filtered, before the cut. Raises `DataError`."""
    from recs_core import datasets
    from recs_core.data.interactions import Interactions

    if spec.source in datasets.names():
        said = [name for name in OF_FILES if getattr(spec, name) is not None]
        if said:
            raise ConfigError(f"{' and '.join(said)}: for files; the data set {spec.source!r} knows its own")
        data = datasets.load(spec.source, **({} if spec.path is None else {"path": spec.path}))
    else:
        if spec.query is None or spec.candidate is None:
            raise ConfigError(
                f"{spec.source} is none of {', '.join(datasets.names())}, so it is read as a file: name its id columns "
                "with --query and --candidate"
            )
        data = Interactions.from_table(
            local(spec.source, "source", DataError),
            query=spec.query,
            candidate=spec.candidate,
            timestamp=spec.timestamp,
            unit=spec.unit,
            queries=spec.queries and local(spec.queries, "queries", DataError),
            candidates=spec.candidates and local(spec.candidates, "candidates", DataError),
            encoding=spec.encoding,
            delimiter=spec.delimiter,
            null_values=spec.null_values,
        )
    if spec.min_per_query > 1 or spec.min_per_candidate > 1:
        data = data.filter(min_per_query=spec.min_per_query, min_per_candidate=spec.min_per_candidate)
    return data


def cut(data: Interactions, spec: DataSpec, seed: int) -> Parts:
    """Train, validation and test parts."""
    train, test, leakage = data, None, None
    if spec.split is not None:
        options: dict[str, Any] = {"at": spec.at} if spec.at is not None else {}
        if spec.split != "last" and spec.at is None:
            options["test"] = spec.test if spec.test is not None else 0.1
        by = "random" if spec.split == "time" and data.timestamps is None else spec.split
        parts = data.split(by=by, known_only=spec.known_only, **options, **({"seed": seed} if by == "random" else {}))
        train, test = parts
        leakage = str(parts)
    validation = None
    if spec.validation is not None:
        by = "time" if train.timestamps is not None else "random"
        train, validation = train.split(by=cast(Any, by), test=spec.validation, known_only=True)
    return Parts(train, validation, test, leakage)


def build(run: Run, train: Interactions, *, backend: str | None = None) -> TwoTower:
    """The unfitted model of a run."""
    from recs_core.recipes import choose
    from recs_core.two_tower import TwoTower

    model = run.model
    if model.recipe is not None and None in (
        model.query,
        model.candidate,
        model.retrieval,
        model.optimizer,
        model.training,
    ):
        chosen = choose(model.recipe, train)
        defaults = {f.name: getattr(chosen, f.name) for f in fields(ModelSpec) if f.name != "recipe"}
        model = replace(model, **{name: value for name, value in defaults.items() if getattr(model, name) is None})
    if model.query is None or model.candidate is None:
        raise ConfigError("a run needs a recipe, or both a query and a candidate tower")
    return TwoTower(
        model.query,
        model.candidate,
        model.retrieval,
        model.optimizer,
        training=model.training,
        seed=run.seed,
        backend=backend or run.backend,
        dtype=run.dtype,
    )


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: must be a JSON object, got {value!r}")
    return value


def _known(data: Mapping[str, Any], names: Any, where: str) -> None:
    unknown = sorted(set(data) - set(names))
    if unknown:
        raise ConfigError(f"{where}: no setting is called {unknown[0]!r}; there are {', '.join(names)}")


@dataclass(frozen=True)
class Outcome:
    """What came of a run: the model, its history, metrics by name (the model's own and popularity's), and intervals of
    the model's, for its card."""

    run: Run
    model: TwoTower
    backend: str
    epochs: int
    training_seconds: float
    losses: list[float]
    metrics: dict[str, dict[str, float]]
    intervals: dict[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """What `run.json` holds."""
        from recs_core.version import __version__

        return {
            "recs_core": __version__,
            "run": self.run.to_json(),
            "backend": self.backend,
            "epochs": self.epochs,
            "training_seconds": round(self.training_seconds, 3),
            "losses": self.losses,
            "metrics": self.metrics,
        }

    def write(self, folder: str | Path) -> None:
        """Write `run.json`, and the metrics on the bundle, in the `out` of `execute`. Raises `BundleError`."""
        from recs_core.bundle import describe

        folder = local(folder, "Outcome.write", BundleError)
        card = {name: (found["value"], found["low"], found["high"]) for name, found in self.intervals.items()}
        describe(folder / "bundle", metrics=card)
        write_json(folder, self.to_json())


def write_json(folder: Path, data: Mapping[str, Any]) -> None:
    """Write `run.json` whole or not at all. Raises `BundleError` if it cannot be written."""
    path, new = folder / "run.json", folder / ".run.json.new"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be written, {error.strerror or error}") from error


def execute(
    run: Run,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
    say: Callable[[str], object] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
) -> Outcome:
    """Load, cut, build, train, evaluate. `say` gets a line on each stage.

    With a folder `out` the run is written there before it trains and its bundle after every epoch, so that `resume`
    can finish one that was cut off, as it would have ended.
    """
    from recs_core.evaluation import intervals, query_metrics
    from recs_core.recipes import choose, suggest
    from recs_core.two_tower import TwoTower
    from recs_core.version import __version__

    say = say or (lambda line: None)
    out = None if out is None else local(out, "execute(out=…)")
    checkpoint = None if out is None else out / "bundle"
    parts = cut(load_data(run.data), run.data, run.seed)
    say(parts.leakage or f"{len(parts.train):,} rows, no test part")
    if run.model.recipe is not None and run.model.training is None:
        for reason in choose(run.model.recipe, parts.train).reasons:
            say(f"recipe {run.model.recipe}: {reason}")
        better, why = suggest(parts.train)
        if better != run.model.recipe:
            say(f"recipe {better} would be the better guess here: {why}")
    if resume and checkpoint is not None and checkpoint.exists():
        model = TwoTower.resume(checkpoint, backend=run.backend)
        say(f"resumed after {model.position.epoch} epochs")
    else:
        model = build(run, parts.train)
    if epochs is not None or batch_size is not None:
        training = model.training
        size = batch_size or training.batch_size
        model.training = replace(training, epochs=epochs or training.epochs, batch_size=size)
    if out is not None and not resume:
        write_json(out, {"recs_core": __version__, "run": run.resolved(model).to_json()})
    history = model.fit(parts.train, parts.validation, progress=progress, checkpoint=checkpoint)
    if history.masked_share is not None:
        say(f"masked {history.masked_share:.2%} of the scored pairs: the target's own candidate in another column")
    ranks = None if parts.test is None else model.rank(parts.test, exclude=parts.train)
    return Outcome(
        run=run.resolved(model),
        model=model,
        backend=model.backend_name,
        epochs=model.position.epoch,
        training_seconds=sum(model.history["seconds"]),
        losses=model.history["loss"],
        metrics={} if ranks is None else beside_popularity(model, ranks, parts),
        intervals={} if ranks is None else intervals(query_metrics(ranks, k=CARD_K)),
    )


def beside_popularity(model: Recommender, ranks: Ranks, parts: Parts) -> dict[str, dict[str, float]]:
    """Metrics of the model and of popularity, plain and (with timestamps) recent, on the same test."""
    from recs_core.evaluation import metrics

    train, test = parts.train, parts.test
    assert test is not None
    found = {"model": metrics(ranks)}
    found["popularity"] = metrics(model.rank_popularity(train, test))
    if train.timestamps is not None:
        recent = model.rank_popularity(train, test, half_life_days=RECENT_DAYS)
        found[f"popularity, {RECENT_DAYS:g}-day half-life"] = metrics(recent)
    return found
