"""What a comparison will do, settled before its first process starts: backends, data, model, queries, steps."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recs_core.compare import agreement
from recs_core.compare.agreement import Tier
from recs_core.compare.machine import usable_cpus
from recs_core.config import parse
from recs_core.contract.errors import BackendBroken, BackendConflict, BackendNotFound, ConfigError, MissingExtra
from recs_core.contract.randomness import generator
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.interactions import Interactions
from recs_core.experiment import Experiment, Parts, build, cut, load_data
from recs_core.plugin.manager import backend_info, list_backends
from recs_core.two_tower import TwoTower

COMPARED_QUERIES = 2000
"""Queries whose lists are compared: all of the test, or so many drawn from it."""

SHOWN_QUERIES = 3
ACTIVE_SHARE = 0.2
"""Queries to show are drawn from this share, the most active."""

QUICK_EPOCHS, QUICK_STEPS = 4, 16
REPEATED_STEPS = 100


@dataclass(frozen=True)
class Options:
    """What a comparison may be told. `k`: the length of the lists shown. `show`: query ids, as typed. `epochs`: instead
    of the run's. `quick`: a few epochs only. `threads`: None for all CPUs the process may use."""

    k: int = 5
    show: Sequence[str] = ()
    epochs: int | None = None
    quick: bool = False
    threads: int | None = None


@dataclass(frozen=True)
class Plan:
    """Everything settled before the first process starts."""

    experiment: Experiment
    model: TwoTower
    data: Interactions
    parts: Parts
    options: Options
    steps_per_epoch: int
    queries: list[Any]
    shown: int

    @property
    def epochs(self) -> int:
        """Epochs of the run."""
        return self.model.training.epochs

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return self.epochs * self.steps_per_epoch

    @property
    def repeated_steps(self) -> int:
        """Steps of the second run, which is compared with the first bit by bit."""
        return min(self.steps, QUICK_STEPS if self.options.quick else REPEATED_STEPS)

    @property
    def oracle_steps(self) -> int:
        """Steps that the reference follows: as many as can be held equal one by one, for it is slow."""
        most = agreement.window(self.steps, self.steps_per_epoch)
        return min(most, QUICK_STEPS) if self.options.quick else most

    @property
    def tier(self) -> Tier:
        """What the backends are held to."""
        return agreement.tier(
            self.experiment, self.experiment.resolved(self.model).model, self.steps, self.steps_per_epoch
        )

    @property
    def threads(self) -> int:
        """CPUs for each process."""
        return self.options.threads or usable_cpus()


def choose_backends(text: str | None) -> tuple[list[str], dict[str, str]]:
    """Names to compare, and installed ones that cannot be, with the reason. `text`: as in "torch,keras[jax]"; None is
    every installed backend. Raises `BackendNotFound` for a name that nobody provides; a broken one is a row that fails.
    """
    skipped: dict[str, str] = {}
    if text is None:
        wanted = [row.name for row in list_backends() if row.problem is None]
        skipped = {row.name: row.problem for row in list_backends() if row.problem is not None}
    else:
        wanted = [name.strip() for name in text.split(",") if name.strip()]
    selections = [parse(name, "--backends") for name in wanted]
    for selection in selections:
        with contextlib.suppress(BackendBroken, BackendConflict, MissingExtra):
            backend_info(selection.name, selection.engine, asked_by="--backends")
    if not selections:
        raise BackendNotFound("there is no backend to compare; `recs backends` lists what is installed")
    return list(dict.fromkeys(map(str, selections))), skipped


def plan(experiment: Experiment, options: Options) -> Plan:
    """Read the data, build the (unfitted) model and choose the queries. Raises for every mistake of the user's."""
    data = load_data(experiment.data)
    parts = cut(data, experiment.data, experiment.seed)
    model = build(experiment, parts.train)
    epochs = options.epochs or model.training.epochs
    if model.training.precision is not None:
        raise ConfigError(
            f"the run has precision={model.training.precision!r}, and backends are held to one another in the model's "
            "dtype; leave it out"
        )
    model.training = replace(model.training, epochs=min(epochs, QUICK_EPOCHS) if options.quick else epochs)
    experiment = replace(experiment.resolved(model), backend=None)
    shown, queries = choose_queries(parts, options.show, experiment.seed)
    steps = _steps_per_epoch(model, parts.train)
    return Plan(experiment, model, data, parts, options, steps, queries, len(shown))


def choose_queries(parts: Parts, show: Sequence[str], seed: int) -> tuple[list[Any], list[Any]]:
    """The query ids to show, and all whose lists are compared, those shown first."""
    train = parts.train
    counts = train.query_counts()
    tests = parts.test if parts.test is not None else train
    rows = np.bincount(train.query_ids.encode(tests.query_ids.ids)[tests.query_codes], minlength=len(counts))
    known = np.flatnonzero((rows > 0) & (counts > 0))
    random = generator(seed, "compare/queries")
    if show:
        shown = _codes_as_typed(show, train.query_ids)
    else:
        busiest = known[np.argsort(-counts[known], kind="stable")]
        busiest = busiest[: max(SHOWN_QUERIES, round(ACTIVE_SHARE * len(known)))]
        shown = sorted(random.permutation(busiest)[:SHOWN_QUERIES].tolist())
    others = [code for code in random.permutation(known).tolist() if code not in set(shown)]
    codes = [*shown, *others[: max(0, COMPARED_QUERIES - len(shown))]]
    ids = train.query_ids.decode(np.array(codes, np.int32)).to_pylist()
    return ids[: len(shown)], ids


def _codes_as_typed(show: Sequence[str], ids: Vocabulary) -> list[int]:
    """Codes of ids given as text on the command line."""
    by_text = {str(value): code for code, value in enumerate(ids.ids.to_pylist())}
    unknown = [text for text in show if text not in by_text]
    if unknown:
        raise ConfigError(f"--show {unknown[0]}: no such id in the training data; the first is {next(iter(by_text))}")
    return [by_text[text] for text in dict.fromkeys(show)]


def _steps_per_epoch(model: TwoTower, train: Interactions) -> int:
    from recs_core.contract.protocols import BatchPlan
    from recs_core.data.batching import Batching
    from recs_core.data.encoded import EncodedDataset
    from recs_core.data.schema import Schema

    encoded = EncodedDataset.encode(
        model.query, model.candidate, Schema.learn(model.query, model.candidate, train), train
    )
    return Batching(encoded).steps(BatchPlan.of(model.training, model.retrieval))
