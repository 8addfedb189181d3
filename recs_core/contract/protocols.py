"""The contract between the core and a backend, an index or a data set: read this, and nothing else, to write one.

NumPy goes in and NumPy comes out; native tensors stay inside a backend. Codes are int32 row numbers; raw ids never
get this far. Weights travel as `{canonical name: array}`:

    table/<name>                      (rows, dim)    one table, however many features look rows up in it
    <query|candidate>/dense_<i>/kernel (in, out)
    <query|candidate>/dense_<i>/bias   (out,)
    <query|candidate>/encoder/<column>/<part>        of an encoder, see `EncoderPlan.parts`
    task/bias                         (corpus,)      only with candidate_bias
    task/log_temperature              ()             only with learn_temperature
    <query|candidate>/native/<name>   any            of an adopted module
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, Unpack

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Batch, Features, Ragged, TaskInputs
from recs_core.contract.features import Column
from recs_core.contract.manifest import BackendInfo, IndexInfo
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.training import BatchBy, TrainingSpec
from recs_core.contract.weights import Weights
from recs_core.contract.workers import Group, Workers

DType: TypeAlias = Literal["float32", "float64"]


@dataclass(frozen=True)
class BatchPlan:
    """How to cut a data set into batches.

    `size` counts interactions, queries or sequences, as `batch_by` says; `retrieval` says which candidates go with
    them. See `TrainingSpec` for `row_weight`, `recency_days`, `drop_last`, `targets`, `replay` and `pool_rows`.
    """

    size: int
    batch_by: BatchBy
    retrieval: RetrievalSpec
    row_weight: float = 1.0
    recency_days: float | None = None
    drop_last: bool = False
    targets: int = 1
    replay: float = 0.0
    pool_rows: int | None = None

    @classmethod
    def of(cls, training: TrainingSpec, retrieval: RetrievalSpec) -> BatchPlan:
        """The plan of a training that is declared."""
        return cls(
            training.batch_size,
            training.batch_by,
            retrieval,
            training.row_weight,
            training.recency_days,
            training.drop_last,
            training.targets,
            training.replay,
            training.pool_rows,
        )


class Dataset(Protocol):
    """Encoded interactions that can be cut into batches; `recs_core.data.batching.Batching` is the core's own."""

    def __len__(self) -> int:
        """Number of training interactions."""
        ...

    def steps(self, plan: BatchPlan) -> int:
        """Number of batches per epoch."""
        ...

    def batches(self, plan: BatchPlan, *, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number `start` on, the same for the same arguments on any machine."""
        ...


class Tower(Protocol):
    """Features in, vectors out."""

    @property
    def plan(self) -> TowerPlan | None:
        """What it computes; None for an adopted module."""
        ...

    @property
    def output_dim(self) -> int:
        """Width of the output."""
        ...

    @property
    def native(self) -> Any:
        """The framework's own object."""
        ...

    def __call__(self, features: Features | Batch) -> Any:
        """(n, output_dim) native tensor, differentiable, for native loops. A `Batch` gives the tower its own side."""
        ...

    def embed(self, features: Features) -> NDArray[np.floating]:
        """(n, output_dim) in the model's dtype: the raw output, before cosine, temperature and bias; no dropout.

        Codes in `features` are rows of the whole tables.
        """
        ...


class RetrievalTask(Protocol):
    """Scores, corrections, masks and softmax cross-entropy, in the order and with the meanings of docs/meanings.md.

    Holds the task's own weights: `task/bias` and `task/log_temperature`, where the spec has them.
    """

    @property
    def spec(self) -> RetrievalSpec:
        """What was declared."""
        ...

    def __call__(self, query: Any, candidate: Any, **inputs: Unpack[TaskInputs]) -> Any:
        """The loss, a native differentiable scalar that `float()` accepts.

        `query` (Q, d) and `candidate` (C, d) are native tensors or arrays. Of `inputs` none is required: targets
        default to row i ↔ row i, weights to 1, `negatives_from` to 0. Every backend hands them to
        `recs_core.contract.task.plan_task`, which raises `SpecError` and `DataError`.
        """
        ...


class Model(Protocol):
    """Owns the named tables, both towers, and the task with its weights."""

    @property
    def query(self) -> Tower:
        """The query tower."""
        ...

    @property
    def candidate(self) -> Tower:
        """The candidate tower."""
        ...

    @property
    def task(self) -> RetrievalTask:
        """The task, with its weights."""
        ...

    @property
    def version(self) -> Hashable:
        """Equal as long as no weight has moved: by a step, by `load_weights`, or by a loop of the framework's own."""
        ...

    def weights(self) -> dict[str, NDArray[np.floating]]:
        """Every weight by canonical name, as copies."""
        ...

    def load_weights(self, weights: Weights) -> None:
        """Replace every weight. Raises `DataError` for a missing or unknown name, a wrong shape, or NaN."""
        ...


class Trainer(Protocol):
    """One optimizer on one model. A step depends on (weights, state, batch, learning rate) and nothing else."""

    def step(self, batch: Batch, learning_rate: float) -> Any:
        """Train on one batch; the loss before the update, as a float or a lazy scalar that `float()` accepts."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """`<weight>/<slot>` for every weight and slot of the optimizer, and `step` (int64 scalar), as copies."""
        ...

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state. Raises `DataError` for a missing or unknown name or a wrong shape."""
        ...


class Backend(Protocol):
    """What a backend's factory returns."""

    @property
    def info(self) -> BackendInfo:
        """The manifest."""
        ...

    def model(
        self,
        query: TowerPlan | Tower,
        candidate: TowerPlan | Tower,
        retrieval: RetrievalSpec,
        weights: Weights,
        *,
        dtype: DType = "float32",
    ) -> Model:
        """A model that starts from `weights`, which also give every shape. Adopted towers keep their own weights."""
        ...

    def task(self, spec: RetrievalSpec, *, weights: Weights | None = None, dtype: DType = "float32") -> RetrievalTask:
        """The task alone. Without `weights` the temperature starts as the spec says, and a spec with a bias raises."""
        ...

    def adopt(self, module: Any, features: Sequence[Column | str], *, output_dim: int | None = None) -> Tower:
        """A user's own native module as a tower; it takes one feature positionally, or several as a dict by name.

        `features`: a column each, as its tower's plan would have it, or a name, which is one code per row. Codes reach
        the module as rows of whole tables, in training too: a batch has no `rows` of its features. A backend whose
        modules can look raw ids up also takes `ids=`: feature → the raw id of each code.
        """
        ...

    def trainer(self, model: Model, plan: UpdatePlan) -> Trainer:
        """A trainer that moves `model`. Raises `SpecError` for another backend's model, `UnsupportedFeature` for an
        optimizer that the manifest declines."""
        ...


class WithDevices(Backend, Protocol):
    """A backend that declares the capability `device`."""

    def devices(self) -> Mapping[str, str]:
        """Each device that there is, as in "cpu" or "cuda:0" → what it is, in words. The first is the one that the
        backend runs on unless it is told another."""
        ...

    def on(self, device: str) -> Backend:
        """A backend on a device, by a name of `devices`, or another that means one of them. Raises `ConfigError`, which
        names those that there are, for one that is not there."""
        ...


class WithWorkers(Backend, Protocol):
    """A backend that declares the capability `distributed`.

    On a group its models hold some of the rows of every table, and of `task/bias` (`recs_core.distributed.rows` says
    which names), and all other weights; towers and task answer nothing there, and say so.
    `Trainer.step` keeps its meaning: every worker is given the same global batch, takes its share of it
    (`recs_core.distributed.share` makes one), and returns the loss of the whole. `weights` and `state` are whole on
    every worker: all workers call them, and `step`, in the same order. A model may have `own_weights`, and a trainer
    `own_state`: the same without asking anybody, with `Rows` that hold this worker's part where an array lies in rows.
    Such a model has `whole` too, which all workers call and which makes arrays of these. `load_weights` and
    `load_state` take arrays and `Rows`.
    """

    @property
    def group(self) -> Group | None:
        """The workers that its models are spread over; None: this process alone."""
        ...

    def over(self, workers: Workers | None) -> Backend:
        """A backend on this group, joined to the others, which all must call it, or on this process alone.

        Raises `WorkerLost` if one of them does not come within `workers.timeout`.
        """
        ...


@dataclass(frozen=True)
class TopK:
    """The best k of each query, best first.

    From an index, `ids` are corpus positions (int64) and −1 fills what is missing; from a model they are ids of the
    user's own type, None or −1 where missing. `scores` (Q, k) are − inf there.
    """

    ids: NDArray[Any]
    scores: NDArray[np.floating]


class Index(Protocol):
    """Maximum inner product search over corpus positions. The core composes vectors and keeps the ids."""

    @property
    def info(self) -> IndexInfo:
        """The manifest."""
        ...

    def build(self, vectors: NDArray[np.float32]) -> None:
        """Index (n, d) vectors in place of those before; position = row. n may be 0.

        The vectors may be kept and read again, as a memory map is: the caller leaves them as they are until the next
        `build`. Raises `DataError` for NaN or infinity, and for another shape.
        """
        ...

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        exclude: Ragged | None = None,
        allow: NDArray[np.integer] | None = None,
    ) -> TopK:
        """Best k positions of each of (Q, d) queries: score descending, then position ascending.

        `exclude`: positions that must not come back, a row per query, in any order, as often as they are named; −1 is
        an id outside the corpus and excludes nothing. `allow`: the only positions that may. A k beyond the n vectors is
        cut to n before anything is allocated: (Q, min(k, n)). Where filters leave fewer the rest is −1 and − inf; an
        exact index never leaks and never shortens.

        What is given stays as it is, and what is returned is the caller's, to write to as well: nothing in it is seen
        or changed by a later search. Several threads may search at once.

        Raises `NotFitted` before `build`, `DataError` for k that is no whole number ≥ 1, for queries with NaN or
        infinity or of another width, for scores that float32 cannot hold, for a row of exclusions too few or too many,
        and for positions outside the corpus.
        """
        ...


class StorableIndex(Index, Protocol):
    """An index whose work need not be done twice; the capability `storable`.

    The core keeps the parts in a file under a digest, and hands them back as a read-only memory map.
    """

    @property
    def spec(self) -> str:
        """The name and the options of this index, as `load_index` takes them: "mine:probes=32"."""
        ...

    def parts(self) -> Mapping[str, NDArray[Any]]:
        """What `build` made of the vectors, without the vectors: arrays by name, of dtypes that a bundle holds.

        No object, and nothing that runs: what an engine would write into a file of its own goes in as arrays that
        `restore` can check. Raises `NotFitted` before `build`, `DataError` after a `delete`.
        """
        ...

    def restore(self, vectors: NDArray[np.float32], parts: Mapping[str, NDArray[Any]]) -> None:
        """What `build(vectors)` did, from the `parts` of an index over the same vectors; the same answers.

        Options of a search may be others than they were. Parts may be kept, and are not written to. Raises `DataError`
        for vectors as in `build`, and for parts that are not those of an index over so many vectors of this width: they
        may come from a stranger, and no position in them may be followed before it is checked.
        """
        ...


class UpdatableIndex(Index, Protocol):
    """An index that changes without being built again; the capability `updatable`. No search runs meanwhile."""

    def upsert(self, vectors: NDArray[np.float32], positions: NDArray[np.integer]) -> None:
        """The corpus is now `vectors` (n, d), n no less than before: rows at `positions` are new or others than before.

        Positions are distinct, in any order, and every new row is among them. One that was deleted is back. `vectors`
        may be kept, as in `build`. Raises `NotFitted` before `build`, and `DataError`, which changes nothing, for fewer
        rows, one that is new and not named, positions outside, another width, NaN or infinity.
        """
        ...

    def delete(self, positions: NDArray[np.integer]) -> None:
        """These positions never come back, until they are upserted or all is built anew; all others stay what they are.

        The corpus keeps its n rows: k is cut to n, and −1 and − inf fill up. A position that is gone already stays so.
        Raises `NotFitted` before `build`, `DataError` for a position outside the corpus.
        """
        ...


def lacking(built: object, protocol: type) -> list[str]:
    """The members of a protocol of this file that an object lacks, none if it has all.

    By `hasattr`: from Python 3.12 on `isinstance` does not see what a framework's module finds by `__getattr__`.
    """
    kinds = [kind for kind in protocol.__mro__ if getattr(kind, "_is_protocol", False) and kind is not Protocol]
    named = [name for kind in kinds for name in vars(kind) if not name.startswith("_") or name == "__call__"]
    return [name for name in named if not hasattr(built, name)]
