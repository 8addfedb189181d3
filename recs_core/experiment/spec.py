"""An experiment as data: which interactions, which model, which settings; JSON both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recs_core.contract.as_json import from_json, to_json
from recs_core.contract.errors import ConfigError
from recs_core.contract.optimizers import Optimizer
from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.training import TrainingSpec
from recs_core.experiment.files import read_json
from recs_core.storage.paths import local

if TYPE_CHECKING:
    from recs_core.tables.times import Unit
    from recs_core.two_tower import TwoTower

FORMAT = 1


@dataclass(frozen=True)
class DataSpec:
    """Where interactions come from and how they are cut.

    `source`: a data set's name (`recs data list`), a store (`recs data ingest`) or a CSV or Parquet file; a file needs
    `query` and `candidate`, its id columns. `timestamp`, `weight`, `negatives`: columns as `Interactions.from_table`
    has them. `unit` ("s", "ms", "us", "ns"): what a timestamp of numbers counts. `queries`, `candidates`: a file of
    side features, or columns of the interactions' own. `encoding`, `delimiter`, `null_values`, `lists`: how the CSV
    files among these are written, as `Interactions.from_table` has them; None leaves it to the file. `split`: "time"
    (`at`, or the last `test` share), "last" or "random" (`test` share), None to train on everything. `validation`: the
    last share of the training rows by time (at random where there are no timestamps), held out for validation while
    training.
    """

    source: str
    query: str | None = None
    candidate: str | None = None
    timestamp: str | None = None
    weight: str | None = None
    negatives: str | None = None
    unit: Unit | None = None
    queries: str | Sequence[str] | None = None
    candidates: str | Sequence[str] | None = None
    encoding: str | None = None
    delimiter: str | None = None
    null_values: Sequence[str] | None = None
    lists: Mapping[str, str] | None = None
    path: str | None = None
    min_per_query: int = 1
    min_per_candidate: int = 1
    split: Literal["time", "last", "random"] | None = "time"
    at: str | None = None
    test: float | None = None
    known_only: bool = True
    validation: float | None = None

    def __post_init__(self) -> None:
        for name in ("queries", "candidates", "null_values"):
            value = getattr(self, name)
            if isinstance(value, list):  # as JSON has it
                object.__setattr__(self, name, tuple(value))


OF_FILES = (
    *("query", "candidate", "timestamp", "weight", "negatives", "unit", "queries", "candidates"),
    *("encoding", "delimiter", "null_values", "lists"),
)
"""Fields of `DataSpec` that say how a file is read; a named data set knows its own."""

PROTOCOLS: Mapping[str, DataSpec] = {
    "online-retail": DataSpec("online-retail", min_per_query=5, min_per_candidate=5, split="time", at="2011-11-10"),
    "report": DataSpec("report", split=None),
}
"""The cut that goes with a data set when nothing else is asked for."""


@dataclass(frozen=True)
class ModelSpec:
    """Specs of a model, or the name of a recipe that chooses them from the training data; specs given win.

    `context`: columns of the rows that the recipe may read of a request.
    """

    recipe: str | None = "history"
    query: TowerSpec | None = None
    candidate: TowerSpec | None = None
    retrieval: RetrievalSpec | None = None
    optimizer: Optimizer | None = None
    training: TrainingSpec | None = None
    context: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "context", tuple(self.context))  # a list, as JSON has it


@dataclass(frozen=True)
class Experiment:
    """Everything that decides what comes out but the machine."""

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
                name: value if value is None or isinstance(value, (str, tuple)) else to_json(value)
                for name, value in model.items()
            },
            "backend": self.backend,
            "seed": self.seed,
            "dtype": self.dtype,
        }

    @classmethod
    def from_json(cls, data: Any, where: str = "run") -> Experiment:
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
    def read(cls, path: str | Path) -> Experiment:
        """The experiment in a `run.json`. Raises `ConfigError` for a file that cannot be read."""
        path = local(path, "Experiment.read")
        return cls.from_json(read_json(path), where=str(path))

    def resolved(self, model: TwoTower) -> Experiment:
        """The same with every spec spelled out, so that a later version's recipe cannot change it."""
        specs = ModelSpec(
            self.model.recipe,
            model.query,
            model.candidate,
            model.retrieval,
            model.optimizer,
            model.training,
            self.model.context,
        )
        return replace(self, model=specs)


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: must be a JSON object, got {value!r}")
    return value


def _known(data: Mapping[str, Any], names: Any, where: str) -> None:
    unknown = sorted(set(data) - set(names))
    if unknown:
        raise ConfigError(f"{where}: no setting is called {unknown[0]!r}; there are {', '.join(names)}")
