"""Tiny worlds: specs, initial weights and batches built by hand, for checks and for tests of a backend.

A `World` is a model and how its batches look; `world.batches(n)` gives n of them, the same on every machine. Nothing
here uses the core's own batching, so that it can be judged by the same checks.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.conformance.histories import sequences, timed
from recs_core.contract import weights as canonical
from recs_core.contract.batch import Batch, Codes, Features, Ragged, Sequences, Side, TaskInputs, flat, recoded
from recs_core.contract.feature_kinds import Bag, Categorical, History, Numeric, Text
from recs_core.contract.optimizers import SGD, Adagrad, Adam, Optimizer, RowWiseAdagrad
from recs_core.contract.plans import TowerPlan
from recs_core.contract.randomness import generator
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.training import BatchBy
from recs_core.reference.training import Model

PLAIN = RetrievalSpec(
    scoring="dot", temperature=0.5, candidate_bias=False, logq=False, remove_accidental_hits=False, reduction="mean"
)
"""A task with every option off: in-batch negatives, dot, mean. Checks turn on the one they are about."""

USER = Categorical("user", dim=4, num_oov=2)
ITEM = Categorical("item", dim=4)
USER_TOWER = TowerSpec((USER,), layers=(3,), activation="tanh", final_activation="tanh")
ITEM_TOWER = TowerSpec((ITEM,), layers=(3,), activation="tanh", final_activation="tanh")


@dataclass(frozen=True)
class World:
    """A model, its weights, and the shape of its batches. `queries` is how many a batch holds; `corpus` candidates."""

    query: TowerSpec = USER_TOWER
    candidate: TowerSpec = ITEM_TOWER
    retrieval: RetrievalSpec = PLAIN
    batch_by: BatchBy = "interaction"
    queries: int = 8
    corpus: int = 12
    users: int = 9
    seed: int = 0
    masks: bool = False  # batches carry a score_mask

    @property
    def model(self) -> Model:
        """What the oracle wants to know."""
        return Model(self.query, self.candidate, self.retrieval)

    def with_(self, **changes: Any) -> World:
        """This world, changed; names of `RetrievalSpec` change the task."""
        retrieval = changes.pop("retrieval", self.retrieval)
        task = {name: changes.pop(name) for name in list(changes) if hasattr(retrieval, name)}
        return replace(self, **changes, retrieval=replace(retrieval, **task))

    @property
    def plans(self) -> tuple[TowerPlan, TowerPlan]:
        """Both towers as a backend builds them."""
        return TowerPlan.of("query", self.query), TowerPlan.of("candidate", self.candidate)

    @property
    def table_rows(self) -> dict[str, int]:
        """Rows of each table: the item table holds the corpus behind its OOV rows, a user table all users."""
        out: dict[str, int] = {}
        for tower in (self.query, self.candidate):
            for feature in tower.features:
                if feature.table_name is not None:
                    ids = (self.corpus if feature.name == "item" else self.users) if feature.has_vocabulary else 0
                    out.setdefault(feature.table_name, feature.rows({}) + ids)
        return out

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Initial weights, then moved, so that no table row, bias or OOV row is zero by accident."""
        out = canonical.initial(*self.plans, self.retrieval, self.table_rows, self.corpus, seed=self.seed)
        random = generator(self.seed, "conformance/weights")
        for name, value in out.items():
            if name != "task/log_temperature":
                scale = 0.5 if name.startswith("table/") else 0.2
                out[name] = value + random.normal(size=value.shape).astype(np.float32) * np.float32(scale)
        return out

    def features(self, side: str, rows: int, name: str = "features") -> Features:
        """`rows` rows of a tower's input, whole-table codes. OOV codes are among them, and bags and histories that hold
        nothing, or a code twice."""
        tower = self.query if side == "query" else self.candidate
        random = generator(self.seed, f"conformance/{name}/{side}")
        codes: dict[str, Codes] = {}
        dense: dict[str, NDArray[np.floating]] = {}
        for feature in tower.features:
            if feature.table_name is None:
                dense[feature.name] = random.normal(size=(rows, feature.numbers)).astype(np.float32)
                continue
            bound = self.table_rows[feature.table_name]
            if feature.kind == "one":
                codes[feature.name] = random.integers(0, bound, rows).astype(np.int32)
            else:
                lengths = random.integers(0, 5, rows)
                lengths[: min(2, rows)] = (0, 3)[: min(2, rows)]
                held = [random.integers(0, bound, n) for n in lengths]
                for some in held:
                    some[2:3] = some[:1]  # those of three codes or more hold one twice
                codes[feature.name] = ragged(held)
            encoder = feature.column(side).encoder  # type: ignore[arg-type]
            if encoder is not None:
                reads, drawn = encoder.spec.reads_time, sequences(rows, bound, encoder.length, random)
                codes[feature.name] = timed(drawn, reads, random) if reads else drawn
        return Features(rows, codes, dense)

    def candidates(self) -> Features:
        """The features of the corpus: candidate i has row num_oov + i of the item table."""
        features = self.features("candidate", self.corpus, "corpus")
        codes = dict(features.codes)
        for feature in self.candidate.features:
            if feature.kind == "one" and feature.name == "item":
                codes["item"] = np.arange(self.corpus, dtype=np.int32) + np.int32(feature.rows({}))
        return Features(self.corpus, codes, features.dense)

    def batches(self, number: int) -> list[Batch]:
        """The first batches of this world."""
        return [self.batch(i) for i in range(number)]

    def batch(self, number: int = 0) -> Batch:
        """Batch `number`. By interaction: a target per query. By query: one to three targets per query."""
        random = generator(self.seed, "conformance/batch", step=number)
        per_query = random.integers(1, 4, self.queries) if self.batch_by == "query" else np.ones(self.queries, int)
        target_query = np.repeat(np.arange(self.queries), per_query).astype(np.int32)
        # Squared draws make some candidates popular, so that a batch holds accidental hits.
        codes = (self.corpus * random.random(len(target_query)) ** 2).astype(np.int32)
        columns, target_column, start = self._columns(codes, random)
        popularity = np.arange(self.corpus, 0, -1.0) ** 2 / (np.arange(self.corpus, 0, -1.0) ** 2).sum()
        task: TaskInputs = {
            "target_query": target_query,
            "target_candidate": target_column,
            "candidate_ids": columns,
            "negatives_from": start,
        }
        if self.retrieval.corrects:
            uniform = np.full(len(columns), 1 / self.corpus)
            task["candidate_sampling_probability"] = (
                uniform if self.retrieval.negatives == "uniform" else popularity[columns]
            )
        if self.batch_by == "query":
            task["sample_weight"] = random.random(len(target_query)) + 0.1
        if self.retrieval.mask_positives:
            task["positives"] = self._positives(codes, target_query, columns, random)
        if self.retrieval.mask_positives and self.batch_by == "sequence":  # one row for every three queries
            task["positives"] = task["positives"].take(np.arange(0, self.queries, 3))
            task["positives_row"] = (np.arange(self.queries) // 3).astype(np.int32)
        if self.masks:
            task["score_mask"] = random.random((self.queries, len(columns))) < 0.7
        queries = self.features("query", self.queries, f"batch-{number}")
        candidates = self.candidates().take(columns)
        return batch_of(
            self.with_keep(queries, random=random),
            self.with_keep(candidates, "candidate", random=random),
            task,
            self,
            bias_rows=columns if self.retrieval.candidate_bias else None,
        )

    def _columns(
        self, codes: NDArray[np.int32], random: np.random.Generator
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
        """Candidate codes of the columns, the column of each target, and the first column that is a negative."""
        kind, places = self.retrieval.negatives, np.arange(len(codes), dtype=np.int32)
        if kind == "corpus":
            return np.arange(self.corpus, dtype=np.int32), codes, 0
        if kind == "in-batch":
            return codes, places, 0
        assert self.retrieval.num_negatives is not None
        drawn = random.integers(0, self.corpus, self.retrieval.num_negatives).astype(np.int32)
        return np.concatenate([codes, drawn]), places, len(codes) if kind == "uniform" else 0

    def _positives(
        self,
        codes: NDArray[np.int32],
        target_query: NDArray[np.int32],
        columns: NDArray[np.int32],
        random: np.random.Generator,
    ) -> Ragged:
        """The columns of each query's candidates: its targets, and two others it is known to like."""
        rows = []
        for query in range(self.queries):
            liked = np.concatenate([codes[target_query == query], random.integers(0, self.corpus, 2)])
            rows.append(np.flatnonzero(np.isin(columns, liked)))
        return ragged(rows)

    def with_keep(
        self, features: Features, side: Side = "query", *, random: np.random.Generator | None = None
    ) -> Features:
        """With the masks of a training step, of encoders and of the tower's input."""
        random = generator(self.seed, "conformance/keep") if random is None else random
        tower, plan = (self.query, self.plans[0]) if side == "query" else (self.candidate, self.plans[1])
        codes = dict(features.codes)
        for column in plan.columns:
            held = features.codes.get(column.name)
            if column.encoder is not None and isinstance(held, Sequences):
                dropout, widths = column.encoder.spec.dropout, column.encoder.masked
                keep = {part: random.random((len(held.values), width)) >= dropout for part, width in widths.items()}
                codes[column.name] = replace(held, keep=keep)
        kept = None
        if tower.dropout:
            drawn = random.random((features.size, tower.input_dim)) >= tower.dropout
            kept = (drawn / (1 - tower.dropout)).astype(np.float32)
        return Features(features.size, codes, features.dense, kept)


@dataclass(frozen=True)
class TaskWorld:
    """The task alone: embeddings are table rows, query i in row 1 + i of table/q, column j in row 1 + j of table/c."""

    spec: RetrievalSpec
    query: NDArray[np.floating]  # (Q, d)
    candidate: NDArray[np.floating]  # (C, d)
    inputs: TaskInputs
    bias: NDArray[np.floating] | None = None  # (C,) the bias of each column
    log_temperature: float | None = None
    towers: tuple[TowerSpec, TowerSpec] = field(init=False)

    def __post_init__(self) -> None:
        dim = self.query.shape[1]
        towers = (TowerSpec((Categorical("q", dim=dim),)), TowerSpec((Categorical("c", dim=dim),)))
        object.__setattr__(self, "towers", towers)

    @property
    def task_weights(self) -> dict[str, NDArray[np.floating]]:
        """`task/bias` by code, and `task/log_temperature`."""
        out: dict[str, NDArray[np.floating]] = {}
        if self.bias is not None:
            codes = self.inputs["candidate_ids"]
            out["task/bias"] = np.zeros(int(codes.max()) + 1, self.bias.dtype)
            out["task/bias"][codes] = self.bias
        if self.log_temperature is not None:
            out["task/log_temperature"] = np.asarray(self.log_temperature, np.float32)
        return out

    @property
    def weights(self) -> dict[str, NDArray[np.floating]]:
        """The weights of a model whose towers hand out the embeddings."""
        pad = np.zeros((1, self.query.shape[1]), np.float32)
        tables: dict[str, NDArray[np.floating]] = {
            "table/q": np.vstack([pad, self.query]),
            "table/c": np.vstack([pad, self.candidate]),
        }
        return tables | self.task_weights

    def batch(self) -> Batch:
        """A batch whose query i and column j are the i-th and j-th embedding. Its arrays are its own."""
        query = Features(len(self.query), {"q": np.arange(1, len(self.query) + 1, dtype=np.int32)})
        candidate = Features(len(self.candidate), {"c": np.arange(1, len(self.candidate) + 1, dtype=np.int32)})
        bias_rows = None if self.bias is None else self.inputs["candidate_ids"]
        return batch_of(query, candidate, copy.deepcopy(self.inputs), self, bias_rows=bias_rows)


def task_world(
    spec: RetrievalSpec, *, queries: int = 6, columns: int = 9, dim: int = 4, seed: int = 0, **inputs: Any
) -> TaskWorld:
    """A world for the task alone. Column j holds code j unless `candidate_ids` says otherwise."""
    random = generator(seed, "conformance/task")
    query = random.normal(size=(queries, dim)).astype(np.float32)
    candidate = random.normal(size=(columns, dim)).astype(np.float32)
    ids = np.asarray(inputs.pop("candidate_ids", np.arange(columns)), np.int32)
    by_code = random.normal(size=int(ids.max()) + 1).astype(np.float32)
    targets = np.arange(queries, dtype=np.int32)
    places = {"target_query": targets, "target_candidate": targets.copy(), "candidate_ids": ids}
    settled = cast("TaskInputs", {**places, **copy.deepcopy(inputs)})
    return TaskWorld(
        spec=spec,
        query=query,
        candidate=candidate,
        inputs=settled,
        bias=by_code[ids] if spec.candidate_bias else None,
        log_temperature=float(np.float32(np.log(spec.temperature))) if spec.learn_temperature else None,
    )


def many_targets() -> TaskWorld:
    """By query, against the corpus: a candidate liked twice, queries without weight or targets, masked columns."""
    spec = RetrievalSpec(
        scoring="dot",
        temperature=0.5,
        learn_temperature=True,
        negatives="corpus",
        logq=False,
        remove_accidental_hits=False,
        mask_positives=True,
    )
    return task_world(
        spec,
        queries=4,
        columns=6,
        target_query=np.array([0, 2, 0, 1, 0, 2], np.int32),
        target_candidate=np.array([3, 0, 3, 1, 5, 4], np.int32),
        sample_weight=np.array([1.0, 0.5, 2.0, 0.0, 0.3, 1.0]),
        positives=ragged([[0], [], [2, 1, 5], []]),
    )


def batch_of(
    query: Features,
    candidate: Features,
    task: TaskInputs,
    world: World | TaskWorld,
    *,
    bias_rows: ArrayLike | None = None,
) -> Batch:
    """A batch from features with whole-table codes: the unique rows of each table, and codes that count within them."""
    towers = (world.query, world.candidate) if isinstance(world, World) else world.towers
    table_of = {(s, f.name): f.table_name for s, tower in enumerate(towers) for f in tower.features if f.table_name}
    used: dict[str, list[NDArray[np.integer]]] = {}
    for side, features in enumerate((query, candidate)):
        for name, codes in features.codes.items():
            used.setdefault(table_of[side, name], []).append(flat(codes))
    rows = {table: np.unique(np.concatenate(codes)).astype(np.int32) for table, codes in used.items()}

    def local(side: int, features: Features) -> Features:
        codes: dict[str, Codes] = {}
        for name, c in features.codes.items():
            table = rows[table_of[side, name]]
            codes[name] = recoded(c, np.searchsorted(table, flat(c)).astype(np.int32))
        return Features(features.size, codes, features.dense, features.keep)

    bias_codes = None
    if bias_rows is not None:
        rows["task/bias"] = np.unique(np.asarray(bias_rows)).astype(np.int32)
        bias_codes = np.searchsorted(rows["task/bias"], np.asarray(bias_rows)).astype(np.int32)
    shapes = _row_counts(world)
    whole = frozenset(name for name, r in rows.items() if len(r) == shapes[name])
    return Batch(rows, local(0, query), local(1, candidate), task, bias_codes, whole)


def ragged(rows: list[Any]) -> Ragged:
    """Lists of codes as a `Ragged`."""
    lengths = [len(row) for row in rows]
    values = np.concatenate([np.asarray(row, np.int32) for row in rows]) if rows else np.zeros(0, np.int32)
    return Ragged(values.astype(np.int32), np.cumsum([0, *lengths]).astype(np.int32))


def _row_counts(world: World | TaskWorld) -> Mapping[str, int]:
    if isinstance(world, World):
        return {**world.table_rows, "task/bias": world.corpus}
    return {name: len(weight) for name, weight in world.weights.items() if weight.ndim}


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": SGD(0.1, momentum=0.8),
    "adagrad": Adagrad(0.1),
    "row-wise-adagrad": RowWiseAdagrad(0.1),
    "lazy-adam": Adam(0.01),
    "dense-adam": Adam(0.01, dense=True),
}
"""The optimizers under test, by the name their checks carry."""

WIDE = World(
    query=TowerSpec(
        (
            USER,
            Bag("tags", dim=3, pooling="sum"),
            Text("about", dim=3, buckets=16),
            Numeric("age"),
            History("item", dim=4),
        ),
        layers=(5, 3),
        activation="tanh",
        final_activation="sigmoid",
    ),
    candidate=TowerSpec(
        (ITEM, Bag("genres", dim=3, table="genres"), Categorical("genre", dim=3, table="genres"), Numeric("price")),
        layers=(3,),
    ),
)
"""Every kind of feature, a table shared between the towers (item) and one within a tower (genres)."""
