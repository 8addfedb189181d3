"""A model that trains: declare → fit → evaluate → recommend → save."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from recs_core import config, copies, spread
from recs_core.adopted import Adopted, as_adopted
from recs_core.backed import BackedRecommender
from recs_core.contract import weights as canonical
from recs_core.contract.as_json import Custom
from recs_core.contract.batch import Side
from recs_core.contract.errors import BundleError, SpecError
from recs_core.contract.optimizers import Adam, Optimizer
from recs_core.contract.plans import UpdatePlan, check_precision
from recs_core.contract.protocols import Backend, BatchPlan, DType, Index, Trainer
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import SIDES, TowerSpec, check_pair
from recs_core.contract.training import BatchSettings, Precision, TrainingSettings, TrainingSpec
from recs_core.data.batching import Batching
from recs_core.data.catalog import Catalog
from recs_core.data.context import check_context
from recs_core.data.epochs import Epochs
from recs_core.data.interactions import Interactions
from recs_core.data.remembered import with_past
from recs_core.distributed.rows import own_weights
from recs_core.elsewhere import knows_its_arguments
from recs_core.fitted import Declared, Fitted
from recs_core.growth.candidates import with_catalog
from recs_core.recommender import DECLARED
from recs_core.storage.paths import local
from recs_core.together import saving
from recs_core.training import (
    Best,
    EarlyStopping,
    FitRun,
    Loop,
    Position,
    Rate,
    TrainingHistory,
    adapted,
    arguments,
    check_callbacks,
    check_keras,
    facts,
)
from recs_core.training.built_in import built_in
from recs_core.training.callbacks import AnyCallback
from recs_core.version import installed

log = logging.getLogger("recs_core")


class TwoTower(BackedRecommender):
    """A two-tower model: what to train, on which backend, from which seed.

    A tower is a `TowerSpec`, or a user's own native module, plain or in `Adopted`. `training` holds the defaults of
    `fit`. `backend`: a name such as "torch" or "keras[jax]", by default as configured; a model keeps the backend it was
    built with. `device`: where it runs, as the backend names devices: "cpu", "cuda", "cuda:1"; by default the
    backend's own choice, of PyTorch the CPU. A bundle does not hold it. `dtype` "float64" is for comparing backends.
    `index` as in `Recommender`.

    Raises `SpecError` if the towers do not fit together, `ConfigError` for a device that is not there, and
    `UnsupportedFeature` for one where the backend has no choice of it.
    """

    @knows_its_arguments("TwoTower")
    def __init__(
        self,
        query: TowerSpec | Any,
        candidate: TowerSpec | Any,
        retrieval: RetrievalSpec | None = None,
        optimizer: Optimizer | None = None,
        *,
        training: TrainingSpec | None = None,
        seed: int = 42,
        backend: str | Backend | None = None,
        device: str | None = None,
        dtype: DType = "float32",
        index: Index | str | None = None,
    ) -> None:
        natives = zip(SIDES, (query, candidate), strict=True)
        adopted = {side: as_adopted(side, tower) for side, tower in natives if not isinstance(tower, TowerSpec)}
        if not adopted:
            check_pair(query, candidate)
        arguments.check_declared(retrieval, optimizer, training, seed, dtype)
        config.check(backend)
        backend = config.placed(backend, device)
        reads = {side: own.reads(f"{side}_id") for side, own in adopted.items()}
        towers = reads.get("query", query), reads.get("candidate", candidate)
        super().__init__(*towers, retrieval or RetrievalSpec(), index, backend=backend, dtype=dtype, adopted=adopted)
        self.optimizer = optimizer or Adam(2e-3)
        self.training = training or TrainingSpec()
        self.seed = int(seed)
        self.position = Position()
        self.history = TrainingHistory()
        self.data: dict[str, Any] = {}
        self.run: FitRun | None = None
        self._trainer: Trainer | None = None
        self._moves: UpdatePlan | None = None  # the trainer's
        self._fitting = False
        self._left: Hashable = None  # `version` as `fit`, `build` or a load left it

    def __repr__(self) -> str:
        fitted = f"fitted, {self.position.epoch} epochs" if self._model is not None else "not fitted"
        parts = (f"query      {self.query}", f"candidate  {self.candidate}", str(self.retrieval))
        return "\n  ".join((f"TwoTower({fitted}, seed={self.seed})", *parts))

    def __reduce__(self) -> tuple[Any, ...]:
        """For `pickle`, `joblib` and `copy.copy`. Raises `UnsupportedFeature` for a tower of one's own."""
        return copies.reduced(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> TwoTower:
        """A model of its own that trains on as this one would. Raises as `__reduce__`."""
        return copies.copied(self)

    def build(self, train: Interactions) -> Self:
        """Learn what training would learn of the data but its weights, which start as `fit` would start them; the model
        itself, for a loop of one's own (`model.model`, `epochs`).

        `fit` goes on from there. On a model that has weights: what queries took adds up, as in `fit`. Raises
        `DataError` if `train` is no `Interactions`, or not over ids that the model knows.
        """
        arguments.check_rows(train, None, "build")
        self._learnt(train, train.digest())
        return self

    @knows_its_arguments("epochs", more=BatchSettings.__annotations__)
    def epochs(self, train: Interactions, *, epoch: int | None = None, **settings: Unpack[BatchSettings]) -> Epochs:
        """The batches that `fit` would train on, for a loop of one's own; builds the model, as `build` does.

        `epoch`: where to begin, from 0; None: after those that `fit` has done. `settings`: fields of `TrainingSpec`
        that say how to cut batches; those left out are as declared in `self.training`. Raises as `build`, and
        `SpecError` for another setting or one that cannot be meant.
        """
        arguments.check_rows(train, None, "epochs")
        training = dataclasses.replace(self.training, **settings)
        plan = BatchPlan.of(training, self.retrieval)
        data, start = self._learnt(train, train.digest(), plan), self.position.epoch if epoch is None else epoch
        return Epochs(data, plan, seed=self.seed, epoch=start)

    @knows_its_arguments("fit", more=TrainingSettings.__annotations__)
    def fit(
        self,
        train: Interactions,
        validation: Interactions | None = None,
        *,
        optimizer: Optimizer | None = None,
        validate_every: int = 1,
        k: Sequence[int] = (10, 20),
        early_stopping: EarlyStopping | None = None,
        callbacks: Sequence[AnyCallback] = (),
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 1,
        progress: bool | None = None,
        **settings: Unpack[TrainingSettings],
    ) -> TrainingHistory:
        """Train, and return losses, seconds and validation metrics per epoch.

        `settings`: fields of `TrainingSpec` (`epochs`, `batch_size`, `batch_by`, `recency_days`, `row_weight`,
        `schedule`, `drop_last`, `replay`, `pool_rows`, `precision`); those left out are as declared in `self.training`.
        Ctrl-C stops between steps and leaves a usable model. `validation` is ranked with training candidates excluded,
        every `validate_every` epochs, at each of `k`. `callbacks`: objects as `recs.Callback`, or Keras's
        (docs/callbacks.md). `progress`: a bar on stderr, by default only on a terminal.

        Called again it continues: `epochs` more epochs with the same weights and optimizer state. `train` may be other
        data over ids that the model knows (`extend` lets new ones join): histories begin with what earlier fits saw,
        what queries took adds up, and of side features the latest win. `optimizer`: go on with this one; its state is
        kept where it is of the same class (another rate, say), and starts anew where it is not.

        `checkpoint`: a folder that holds this run as a bundle, written anew every `checkpoint_every` epochs, and at the
        end with the weights that early stopping chose. A run that was interrupted, that a callback's error ended, or
        that was loaded from its checkpoint, is finished as it was planned when `epochs` is not given: the same data and
        settings end in the same weights, bit for bit, as a run without a break.

        On workers (`backend` over a group) all call this with the same arguments, worker 0 validates and saves, and
        callbacks run on each.

        Raises `DataError`, `SpecError` for settings that cannot be meant, `UnsupportedFeature` for those that the
        backend declines, `BundleError` if a checkpoint cannot be written, `TrainingError` if the loss is not finite,
        `ConfigError` if workers disagree, `WorkerLost` if one is lost, and whatever a callback raises.
        """
        from recs_core.evaluation.measures import cuts

        self._refuse_while_fitting("fit")
        callbacks = check_callbacks(callbacks)
        arguments.check_optimizer(optimizer)
        arguments.check_kind("early_stopping", early_stopping, EarlyStopping, "recs.EarlyStopping('recall@20', …)")
        arguments.check_every(validate_every=validate_every, checkpoint_every=checkpoint_every)
        arguments.check_rows(train, validation)
        arguments.check_progress(progress)
        self._look_back()
        digest = train.digest()
        training, best = dataclasses.replace(self.training, **settings), Best(early_stopping)
        asked = FitRun(training, self.position.epoch, digest, validate_every, tuple(cuts(k)), best)
        run = asked.begun_or_gone_on_with(self.run, settings, optimizer, self.optimizer)
        arguments.check_validated(run, validation)
        check_precision(self.backend.info, run.settings.precision, self.dtype)
        check_keras(callbacks, run, validated=validation is not None, saved=checkpoint is not None)
        checkpoint = None if checkpoint is None else local(checkpoint, "fit(checkpoint=…)", BundleError)
        plan = BatchPlan.of(run.settings, self.retrieval)
        data, model = self._learnt(train, digest, plan, validation), self.model
        trainer = self._with_trainer(optimizer, run.settings.precision)
        if self.run is not None and self.position.step and not run.cuts_as(self.run):
            self.position = Position(self.position.epoch)  # the epoch begun has other batches: it begins anew
        self.run = run
        history, rate = self.history, Rate(self.optimizer.learning_rate, run.settings.schedule)
        before = len(history.epochs), len(history.losses)
        own = built_in(
            run,
            model,
            history,
            evaluate=spread.validating(self, train, validation, run.k),
            save=saving(self, checkpoint),
            save_every=checkpoint_every,
            masks_hits=self.retrieval.masks_hits and not self.position.epoch,
            progress=progress if spread.is_first(self) else False,
        )
        spread.check_alike(self, digest, validation)
        self._fitting = True
        try:
            Loop(
                trainer, data, plan, self.seed, rate, self.position, history, (*own, *adapted(callbacks, model, rate))
            ).run(run.until)
        finally:
            self._fitting, self._left = False, model.version
        return history.since(*before)

    def gathered(self) -> Self:
        """This model, whole, in this process alone, where several workers hold it: all call this. Itself elsewhere."""
        return spread.gathered(self)

    def _refuse_while_fitting(self, asks: str) -> None:
        if self._fitting:
            raise SpecError(f"{asks}: this model is being fitted; a callback or a thread may ask and save it meanwhile")

    def _become(self, fitted: Fitted) -> None:
        self._refuse_while_fitting("extend, update_candidates")
        other = type(self).of(fitted, backend=self.backend, natives=self._adopted)
        for name in ("_catalog", "_model", "_trainer", "_moves", "_left", "position", "history", "run", "data"):
            setattr(self, name, getattr(other, name))

    def _with_candidates(self, catalog: Catalog, touched: NDArray[np.int32]) -> None:
        if self.retrieval.candidate_bias and len(catalog.schema.candidates) > len(self.schema.candidates):
            self._become(with_catalog(self.fitted(), catalog))
        else:  # no weight knows of it
            self._refuse_while_fitting("update_candidates")
            self._catalog = catalog

    def _look_back(self) -> None:
        """Notice that weights were moved since `fit`, `build` or a load left them: what training kept is of others."""
        if self._model is None or self._fitting or self.version == self._left:
            return
        if self._trainer is not None:
            log.info("weights have been moved outside fit; the state of %s is gone", self.optimizer)
        self._trainer, self.position, self._left = None, Position(self.position.epoch), self.version
        self.history.own_loop = True
        if self.run is not None:
            self.run.open = False

    def _learnt(
        self, train: Interactions, digest: str, plan: BatchPlan | None = None, validation: Interactions | None = None
    ) -> Batching:
        """`train` in the model's codes and known to its catalog, or refused first; the first decides the weights."""
        data = self._encoded(train)
        batching = Batching(with_past(data, self._catalog, 0.0 if plan is None else plan.replay))
        if plan is not None:
            batching.steps(plan)
        if validation is not None:
            check_context(validation, data.query_tower, data.schema)
        self.query, self.candidate = data.query_tower, data.candidate_tower
        if self._model is None:
            self._model = self._initial(data.schema, self.seed)
            self._left = self._model.version
        self._catalog, self.data = Catalog.of(data, self._catalog), facts(train, digest)
        return batching

    def _with_trainer(self, optimizer: Optimizer | None, precision: Precision | None = None) -> Trainer:
        """The trainer; another optimizer, or precision, makes another, with the state of one of its class."""
        before, plan = self._trainer, UpdatePlan(optimizer or self.optimizer, precision)
        if before is not None and plan == self._moves:
            return before
        trainer, keeps = self.backend.trainer(self.model, plan), type(plan.spec) is type(self.optimizer)
        if before is not None and keeps:
            trainer.load_state(before.state())
        if before is not None and plan.spec != self.optimizer:
            state = f"the state of {self.optimizer}" if keeps else f"new state; that of {self.optimizer} is gone"
            log.info("optimizer: %s, with %s", plan.spec, state)
        self.__dict__["optimizer"], self._trainer, self._moves = plan.spec, trainer, plan  # fixed for callers alone
        return trainer

    @property
    def declared(self) -> Declared:
        """What was declared, as a value."""
        return Declared(**{name: getattr(self, name) for name in DECLARED})

    def fitted(self, *, state: bool = True, whole: bool = True) -> Fitted:
        """This model as a value, in which nothing moves when the model trains on; `TwoTower.of` makes a model of it.

        `state`: hold the optimizer's too. `whole`: on several workers all call this, and each has all of it; else each
        has its own rows alone, as `Rows`. Raises `NotFitted` before `fit` or `load`.
        """
        self._look_back()
        info, adopted = self.backend.info, self._adopted.items()
        return Fitted(
            declared=self.declared,
            catalog=self.catalog,
            weights=self.weights() if whole else own_weights(self.model),
            natives={side: own.said(info.name, getattr(self, f"{side}_tower").output_dim) for side, own in adopted},
            progress=spread.progress_of(self, state=state, whole=whole),
            facts=dict(self.data),
            versions={"backend": self.backend_name, **installed(info.requires)},
        )

    @classmethod
    def of(
        cls,
        fitted: Fitted,
        *,
        backend: str | Backend | None = None,
        device: str | None = None,
        natives: Mapping[Side, Adopted] | None = None,
    ) -> Self:
        """A model of this value, on any backend, which trains on from where its progress stands.

        `backend` and `device` as in `TwoTower`. `natives`: side → the module, built again, of a tower that is a user's
        own; it takes over the weights. Raises `SpecError` for one that is missing, and `DataError` if the weights do
        not fit it.
        """
        fitted.refuse_without(natives or {}, "TwoTower.of")
        given: dict[str, Any] = {**vars(fitted.declared), **{str(side): own for side, own in (natives or {}).items()}}
        out = cls(**given, backend=backend, device=device)
        if config.group_of(out.backend) is None:
            fitted = fitted.as_arrays()
        out._catalog = fitted.catalog
        declared = {name: value for name, value in fitted.weights.items() if not canonical.is_native(name)}
        out._model = out._built(declared, fitted.catalog.schema)
        if out._adopted:
            out._model.load_weights(fitted.weights)
        out._left = out._model.version
        out.data = dict(fitted.facts)
        if fitted.progress is not None:
            progress = fitted.progress.copied()
            out.position, out.history, out.run = progress.position, progress.history, progress.run
            if progress.state is not None:
                out._with_trainer(None).load_state(progress.state)
        return out

    @classmethod
    def resume(
        cls,
        checkpoint: str | Path,
        *,
        backend: str | Backend | None = None,
        device: str | None = None,
        native: Mapping[Side, Any] | None = None,
        custom: Sequence[Custom] = (),
    ) -> Self:
        """The model of a run that was cut off; `fit(train)` with the same data finishes it as planned.

        A finished run has nothing left to train. `device` as in `TwoTower`, `native` and `custom` as in `recs.load`.
        Raises `BundleError` if the folder holds no checkpoint.
        """
        from recs_core import restoring  # what `recs.load` rests on too: loading itself is above this class

        return restoring.resumed(cls, checkpoint, config.placed(backend, device), native or {}, custom)

    def save(
        self,
        path: str | Path,
        *,
        include_state: bool = True,
        include_vectors: bool = False,
        metrics: Mapping[str, Any] | None = None,
        licence: str | None = None,
    ) -> Path:
        """Write a bundle, a folder that any backend, or none, can load; the folder.

        A folder that holds a bundle is replaced: a reader, or a crash, sees the old one or the new one.
        `include_state`: optimizer state and training position, so that training can go on (Adam triples the size).
        `include_vectors`: the corpus as the exact index holds it, so that the NumPy runtime need not run the candidate
        tower to serve. `metrics` and `licence` (text) are for the model card: name → finite number, or
        (value, low, high) of an interval.

        Raises `NotFitted` before `fit`, and `BundleError` if the folder is a URL, is no bundle and not empty, cannot be
        written, or the model, `metrics` or `licence` cannot be saved. A card that cannot be written is a warning.
        """
        from recs_core import bundle

        fitted = self.fitted(state=include_state)
        corpus = self.encode_candidate().astype(self.dtype, copy=False) if include_vectors else None
        towers = bundle.Towers(self.query_tower, self.candidate_tower, corpus)
        return bundle.save(fitted, path, towers=towers, metrics=metrics, licence=licence)
