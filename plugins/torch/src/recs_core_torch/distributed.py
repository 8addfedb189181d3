"""A model whose tables lie on several workers, and the step that trains it as one process would.

1  rows        ids of the rows that the own share reads → their owners; the rows come back
2  towers      own queries, own columns
3  gather      the columns' vectors of all; backwards each gets the SUM of its columns' gradients
4  task        own queries against all columns, weights divided by their global sum
   or, of a corpus larger than the batch, 3 the queries' vectors of all, 4 all queries against own columns
5  sum         the loss and the gradients of weights that every worker has, in one buffer
6  rows back   gradients of rows → their owners, added there by rank; one clip of all; then the update of a step
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NoReturn, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recs_core.contract.batch import Batch
from recs_core.contract.errors import DataError, UnsupportedFeature
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.rows import Rows, held, is_finite
from recs_core.contract.task import plan_task
from recs_core.contract.weights import Weights
from recs_core.distributed.rows import lies_in_rows, own_places, own_rows
from recs_core.distributed.share import edges, own_columns, query_edges, share
from recs_core_torch import optimizers
from recs_core_torch.adopted import AdoptedTower
from recs_core_torch.group import Group
from recs_core_torch.model import Model, Weight, build
from recs_core_torch.task import RetrievalTask
from recs_core_torch.tensors import as_tensor, numpy_dtype
from recs_core_torch.trainer import Trainer, dense

BLOCK = 1 << 16
"""Rows that each worker sends at a time where whole tables are asked for."""

Counts = Mapping[str, Sequence[int]]
"""Weight → its rows that go to, or come from, each rank."""


@dataclass(frozen=True)
class SpreadWeight(Weight):
    """The rows of a weight that lie on this worker; to others the weight is whole, which takes all workers."""

    rows: int = 0
    group: Group | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole weight."""
        return (self.rows, *self.parameter.shape[1:])

    def own(self, tensor: Tensor) -> Rows:
        """What this worker holds of a tensor that lies as the parameter does, as a copy."""
        assert self.group is not None
        parts: list[NDArray[Any] | None] = [None] * self.group.size
        parts[self.group.rank] = super().outward(tensor)
        return Rows(parts, self.rows)

    def outward(self, tensor: Tensor) -> NDArray[Any]:
        """The whole of a tensor that lies as the parameter does, on every worker."""
        assert self.group is not None
        size, tensor = self.group.size, tensor.detach()
        out = np.empty((self.rows, *tensor.shape[1:]), numpy_dtype(tensor))
        counts = [held(self.rows, rank, size) for rank in range(size)]
        for low in range(0, max(counts), BLOCK):
            block = [max(0, min(BLOCK, count - low)) for count in counts]
            parts = self.group.gather(tensor[low : low + BLOCK], block, "whole tables").split(block)
            for rank, part in enumerate(parts):
                own_rows(out, rank, size)[low : low + BLOCK] = part.cpu().numpy()
        return out

    def inward(self, array: NDArray[Any]) -> Tensor:
        """The own rows of a whole array."""
        assert self.group is not None
        return super().inward(own_rows(array, self.group.rank, self.group.size))


def own(weight: Weight, tensor: Tensor) -> NDArray[Any]:
    """A weight, or a slot of it, by what this worker holds: as `Rows` where others hold the rest."""
    return cast("NDArray[Any]", weight.own(tensor)) if isinstance(weight, SpreadWeight) else weight.outward(tensor)


class SpreadModel(Model):
    """A model whose tables, and `task/bias`, have on this worker the rows that lie there. `rows`: how many in all."""

    def __init__(
        self,
        query: Any,
        candidate: Any,
        task: RetrievalTask,
        group: Group,
        rows: Mapping[str, int],
    ) -> None:
        super().__init__(query, candidate, task)
        self.group, self.rows = group, dict(rows)
        for module in (self, query, candidate, task):
            if not isinstance(module, AdoptedTower):
                module.register_forward_pre_hook(_refuse)

    def canonical(self) -> dict[str, Weight]:
        """Every weight by canonical name."""
        out = super().canonical()
        spread = {name: SpreadWeight(out[name].parameter, rows=n, group=self.group) for name, n in self.rows.items()}
        return out | spread

    def own_weights(self) -> dict[str, NDArray[np.floating]]:
        """See `WithWorkers`."""
        return {name: own(weight, weight.parameter) for name, weight in self.canonical().items()}

    def whole(self, weights: Weights) -> dict[str, NDArray[np.floating]]:
        """See `WithWorkers`."""
        return {name: w.outward(w.inward(weights[name])) for name, w in self.canonical().items()}


def build_over(
    group: Group,
    query: TowerPlan | AdoptedTower,
    candidate: TowerPlan | AdoptedTower,
    retrieval: RetrievalSpec,
    weights: Weights,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> SpreadModel:
    """A model of this worker's part of `weights`, which are whole. Raises as `build`, and `UnsupportedFeature` for an
    adopted module that keeps numbers which no gradient moves, such as the means of a batch norm."""
    for tower in (tower for tower in (query, candidate) if isinstance(tower, AdoptedTower)):
        for name, value in tower.native.named_buffers():
            if value.is_floating_point():
                raise UnsupportedFeature(
                    f"{type(tower.native).__name__} keeps {name!r} of what it has seen, and each worker sees another "
                    "part of a batch; train it on one worker, or write it without, as with LayerNorm"
                )
    rows = {name: len(value) for name, value in weights.items() if lies_in_rows(name)}
    for name in rows:
        if not is_finite(weights[name]):  # every worker refuses it, not the owner of the row alone
            raise DataError(f"weight {name!r} holds NaN or infinity")
    own = {name: own_rows(w, group.rank, group.size) if name in rows else w for name, w in weights.items()}
    plain = build(query, candidate, retrieval, own, dtype=dtype, device=device)
    return SpreadModel(plain.query, plain.candidate, plain.task, group, rows)


class SpreadTrainer(Trainer):
    """See `Trainer`; every worker is given the same batch, and moves what it holds."""

    model: SpreadModel

    def __init__(self, model: SpreadModel, plan: UpdatePlan) -> None:
        super().__init__(model, plan)
        self.group = model.group
        self.spread = sorted(name for name in self.weights if name in model.rows)
        self.task = _adding_up(model.task)

    def step(self, batch: Batch, learning_rate: float) -> Tensor:
        """Train on one global batch; its loss before the update, on every worker."""
        own = self._share(batch)
        fetched = [name for name in self.spread if name in own.rows]
        lanes = Lanes(self.group, {name: own.rows[name] for name in fetched})
        values = lanes.fetch({name: self.weights[name].parameter.detach() for name in fetched})
        values |= {name: w.parameter for name, w in self.weights.items() if name not in values}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.precision == "bf16"):
            loss = self._loss(own, batch, values)
        found = torch.autograd.grad(loss, list(values.values()), allow_unused=True)
        with torch.no_grad():
            gradients = {name: dense(g, values[name]) for name, g in zip(values, found, strict=True)}
            total = self._sum(loss.detach(), gradients)
            touched = {name: self._touched(batch, name) for name in fetched}
            merged = lanes.give_back({name: gradients[name] for name in fetched})
            for name, (places, rows) in merged.items():
                gradients[name] = self._added(name, touched[name], places, rows)
            if self.plan.clip_norm is not None:
                self._clip(gradients, self.plan.clip_norm)
            self.steps += 1
            scalars = self.plan.scalars(learning_rate, self.steps)
            for name, gradient in gradients.items():
                here = touched.get(name)
                value = self.weights[name].parameter
                self._move(name, value if here is None else value.index_select(0, here), gradient, here, scalars)
        return total

    def own_state(self) -> dict[str, NDArray[Any]]:
        """See `WithWorkers`."""
        return {
            **{f"{n}/{slot}": own(self.weights[n], t) for n, slots in self.slots.items() for slot, t in slots.items()},
            "step": np.asarray(self.steps, np.int64),
        }

    def _share(self, batch: Batch) -> Batch:
        model = self.model
        return share(
            batch,
            self.group.rank,
            self.group.size,
            query=model.query.plan,
            candidate=model.candidate.plan,
            reduction=model.task.spec.reduction,
        )

    def _loss(self, own: Batch, batch: Batch, values: Mapping[str, Tensor]) -> Tensor:
        """What this worker adds to the loss."""
        query, candidate, bias = self.model.vectors(own, values)
        sizes = np.diff(edges(batch.candidate.size, self.group.size)).tolist()
        if self._by_candidate(batch, query.shape[1]):
            return self._of_own_columns(batch, query, candidate, bias, sizes)
        candidate, bias = self._of_all(candidate, bias, sizes)
        return self.task.loss(query, candidate, bias, **own.task)

    def _by_candidate(self, batch: Batch, dim: int) -> bool:
        """Whether the columns are more numbers than the queries, so that the queries had better travel. In-batch and
        sampled columns are about as many as queries."""
        spec, columns = self.model.task.spec, batch.candidate.size
        if spec.negatives != "corpus" or spec.hard_negatives is not None:  # the hardest are those of all columns
            return False
        return columns >= self.group.size and batch.query.size * dim < columns * (dim + spec.candidate_bias)

    def _of_own_columns(
        self, batch: Batch, query: Tensor, candidate: Tensor, bias: Tensor | None, sizes: Sequence[int]
    ) -> Tensor:
        """What the targets whose columns are here add to the loss, of all queries against the own columns."""
        task = self.model.task
        query, candidate = (x.to(task.log_temperature.dtype) for x in (query, candidate))
        queries = np.diff(query_edges(batch.query, self.group.size)).tolist()
        query = _Gather.apply(query, queries, self.group, "vectors of queries")  # type: ignore[no-untyped-call]
        first = sum(sizes[: self.group.rank])
        plan = plan_task(task.spec, len(query), batch.candidate.size, **batch.task)
        plan, mine = own_columns(plan, first, first + len(candidate))
        others = Columns(self.group, max(sizes), as_tensor(mine, self.device))
        with torch.autocast(self.device.type, enabled=False):
            return task.planned(plan, query, candidate, bias, others)

    def _of_all(self, candidate: Tensor, bias: Tensor | None, sizes: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """The columns' vectors of all workers, and their biases, which travel as one more number of each vector."""
        candidate = candidate.to(self.model.task.log_temperature.dtype)
        if self.group.size == 1:
            return candidate, bias
        if bias is None:
            return _Gather.apply(candidate, sizes, self.group, "vectors of candidates"), None  # type: ignore[no-untyped-call]
        both = torch.cat([candidate, bias[:, None]], 1)
        both = _Gather.apply(both, sizes, self.group, "vectors of candidates")  # type: ignore[no-untyped-call]
        return both[:, :-1], both[:, -1].contiguous()

    def _sum(self, loss: Tensor, gradients: dict[str, Tensor]) -> Tensor:
        """The loss of all, and in place the gradients of all for weights that every worker has."""
        names = [name for name in gradients if name not in self.model.rows]
        flat = torch.cat([loss.reshape(1), *(gradients[name].reshape(-1) for name in names)])
        parts = self.group.sum(flat, "loss and dense gradients").split([1, *(gradients[n].numel() for n in names)])
        for name, part in zip(names, parts[1:], strict=True):
            gradients[name] = part.view_as(gradients[name])
        return parts[0].reshape(())

    def _touched(self, batch: Batch, name: str) -> Tensor | None:
        """The places of the rows held here that the global batch touches; None where it touches all."""
        if name in batch.whole:
            return None
        rows = own_places(batch.rows[name], self.group.rank, self.group.size)
        return as_tensor(rows, self.device).long()

    def _added(self, name: str, touched: Tensor | None, places: Tensor, rows: Tensor) -> Tensor:
        """The gradient of the rows touched, from those that came: a row's are added in the order of ranks."""
        here = len(self.weights[name].parameter) if touched is None else len(touched)
        if self.group.size == 1 and len(rows) == here:  # each came once, in order
            return rows
        at = places if touched is None else torch.searchsorted(touched, places)
        return rows.new_zeros(here, *rows.shape[1:]).index_add_(0, at, rows)

    def _clip(self, gradients: Mapping[str, Tensor], limit: float) -> None:
        """As `optimizers.clip`: one norm over all gradients, of which each worker has its rows'."""
        spread = [g for name, g in gradients.items() if name in self.model.rows]
        own = torch.stack([*(torch.linalg.vector_norm(g) ** 2 for g in spread), self._zero]).sum()
        whole = [g for name, g in gradients.items() if name not in self.model.rows]
        squares = self.group.sum(own, "norm of gradients") + sum(torch.linalg.vector_norm(g) ** 2 for g in whole)
        optimizers.scale(gradients.values(), squares.sqrt(), limit)

    @cached_property
    def _zero(self) -> Tensor:
        return self.model.task.log_temperature.detach().new_zeros(())


class Lanes:
    """The way to the owners of the rows that a step reads, and back. `rows`: those, of each weight by its name, sorted
    by owner."""

    def __init__(self, group: Group, rows: Mapping[str, NDArray[np.int32]]) -> None:
        self.group, self.names = group, list(rows)
        if not rows:
            return
        size = group.size
        out = np.stack([np.bincount(read % size, minlength=size) for read in rows.values()], 1)  # (ranks, weights)
        counts = torch.from_numpy(out).to(group.device)
        one = [1] * size
        back = group.exchange(counts, one, one, "numbers of rows").tolist()
        self._out: Counts = {name: out[:, i].tolist() for i, name in enumerate(self.names)}
        self._back: Counts = {name: [of[i] for of in back] for i, name in enumerate(self.names)}
        asked = {name: as_tensor(read // size, group.device) for name, read in rows.items()}
        self._asked = {n: at.long() for n, at in self._swapped(asked, self._out, self._back, "ids of rows").items()}

    def fetch(self, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The rows asked for, from what each worker has `held` of the weights; to be differentiated by."""
        mine = {name: held[name].index_select(0, self._asked[name]) for name in self.names}
        got = self._swapped(mine, self._back, self._out, "rows")
        return {name: rows.requires_grad_() for name, rows in got.items()}

    def give_back(self, gradients: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Of each weight the places of the rows held here that came, once for each worker that read one, by rank, and
        their gradients."""
        got = self._swapped(gradients, self._out, self._back, "gradients of rows")
        return {name: (self._asked[name], rows) for name, rows in got.items()}

    def _swapped(self, tensors: Mapping[str, Tensor], out: Counts, into: Counts, what: str) -> dict[str, Tensor]:
        """Tensors whose rows are sorted by the rank they go to, `out` of each; what came, by rank, `into` of each. All
        go in one buffer, so that a step has as many rounds with ten tables as with one."""
        if not tensors or self.group.size == 1:
            return dict(tensors)
        ranks, names = range(self.group.size), list(tensors)
        widths = {name: tensors[name].shape[1:].numel() for name in names}
        pieces = {name: tensors[name].reshape(-1).split([n * widths[name] for n in out[name]]) for name in names}
        send = [sum(out[name][rank] * widths[name] for name in names) for rank in ranks]
        receive = [[into[name][rank] * widths[name] for name in names] for rank in ranks]
        flat = torch.cat([pieces[name][rank] for rank in ranks for name in names])
        got = self.group.exchange(flat, send, [sum(of) for of in receive], what)
        parts = got.split([n for of in receive for n in of])
        return {
            name: torch.cat(parts[i :: len(names)]).view(-1, *tensors[name].shape[1:]) for i, name in enumerate(names)
        }


@dataclass(frozen=True)
class Columns:
    """See `kernel.Others`."""

    group: Group
    columns: int
    mine: Tensor

    def log_sum(self, here: Tensor) -> Tensor:
        """See `kernel.Others.log_sum`; added by rank, alike on every worker."""
        sizes = [len(here)] * self.group.size
        return self.group.gather(here, sizes, "sums of scores").view(self.group.size, -1).logsumexp(0)

    def z(self, here: Tensor) -> Tensor:
        """See `kernel.Others.z`; each comes from one worker."""
        return self.group.sum(here.where(self.mine, 0), "scores of targets")


class _Gather(torch.autograd.Function):
    """The rows of all workers, by rank. Backwards each worker gets the SUM over all of the gradients of its rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: Sequence[int], group: Group, what: str) -> Tensor:
        ctx.sizes, ctx.group, ctx.what = sizes, group, what
        return group.gather(x, sizes, what)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.group.scatter_sum(grad.contiguous(), ctx.sizes, f"gradients of {ctx.what}"), None, None, None


def _adding_up(task: RetrievalTask) -> RetrievalTask:
    """The same task, of the same weights, whose losses add up to the batch's: a share's weights are divided already."""
    out = copy.copy(task)
    out.spec = replace(task.spec, reduction="sum")
    return out


def _refuse(module: nn.Module, inputs: Any) -> NoReturn:
    raise UnsupportedFeature(
        f"{type(module).__name__}: its tables lie on several workers, so that it answers nothing alone; ask a model of "
        "its weights, TwoTower.gathered()"
    )
