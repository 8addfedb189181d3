"""The model as PyTorch users know modules, adopted modules, devices, and bad input."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from recs_core_torch import Backend, Model
from torch import nn
from torch_worlds import CANDIDATE, CORPUS, QUERY, ROWS, codes, ragged, spec

from recs_core.contract import weights as canonical
from recs_core.contract.batch import Batch, Features
from recs_core.contract.errors import ConfigError, DataError, SpecError
from recs_core.contract.feature_kinds import Bag, Categorical, Numeric
from recs_core.contract.features import Column
from recs_core.contract.optimizers import Adagrad, Adam
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec

BACKEND = Backend()
ONE = TowerPlan.of("candidate", TowerSpec([Categorical("item", dim=2)]))


def test_listing_the_backend_loads_no_torch() -> None:
    code = "import sys; from recs_core_torch import plugin; plugin.recs_backends(); print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown.strip() == "False"


def test_a_shared_table_is_one_parameter(model: Model) -> None:
    assert model.query.table("table/item") is model.candidate.table("table/item")
    names = dict(model.named_parameters())
    assert len(names) == len(canonical.shapes(QUERY, CANDIDATE, model.task.spec, ROWS, CORPUS))


@pytest.mark.parametrize("how", ["through .data", "by a fused optimizer", "into a NumPy view", "in another order"])
def test_whatever_writes_a_weight_moves_the_version(model: Model, how: str) -> None:
    before, weight = model.version, next(model.parameters())
    if how == "through .data":
        weight.data.mul_(2)
    elif how == "by a fused optimizer":
        weight.grad = torch.ones_like(weight)
        torch.optim.Adam([weight], lr=0.1, fused=True).step()
    elif how == "into a NumPy view":
        weight.detach().numpy()[0] += 1
    else:
        weight.data.copy_(weight.data.flip(0))
    assert model.version != before


def test_state_dict_moves_and_copies(model: Model, batch: Batch) -> None:
    before = model(batch)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert other(batch).item() != before.item()
    other.load_state_dict(model.state_dict())
    assert other(batch).item() == before.item()
    assert other.double()(batch).dtype == torch.float64
    assert all(parameter.dtype == torch.float64 for parameter in other.parameters())


def test_printing_names_what_it_holds(model: Model) -> None:
    shown = str(model)
    assert "(table/item): Embedding(9, 3)" in shown
    assert "cosine, temperature=0.5, negatives='in-batch'" in shown


def test_kernels_are_canonical_at_the_border(model: Model) -> None:
    kernel = model.weights()["query/dense_0/kernel"]
    assert kernel.shape == (9, 5)
    np.testing.assert_array_equal(kernel, model.query.layers[0].weight.detach().numpy().T)


def test_vectors_by_hand() -> None:
    """Two features and a layer, worked out on paper."""
    tower = TowerPlan.of("query", TowerSpec([Categorical("a", dim=1)], layers=[2], final_activation="relu"))
    weights = {
        "table/a": np.array([[1.0], [2.0]], np.float32),
        "table/item": np.zeros((1, 2), np.float32),
        "query/dense_0/kernel": np.array([[3.0, -1.0]], np.float32),
        "query/dense_0/bias": np.array([0.5, 0.5], np.float32),
    }
    model = BACKEND.model(tower, ONE, spec(), weights)
    features = Features(2, {"a": codes(0, 1)})
    np.testing.assert_array_equal(model.query.embed(features), [[3.5, 0.0], [6.5, 0.0]])
    np.testing.assert_array_equal(model.query(torch.tensor([1])).detach(), [[6.5, 0.0]])


def test_tensors_by_name_are_features_too(model: Model, query_features: Features) -> None:
    tags, history = query_features.codes["tags"], query_features.codes["item"]
    inputs = {
        "user.id": torch.tensor([0, 5, 2]),
        "tags": (torch.from_numpy(tags.values), torch.from_numpy(tags.offsets)),
        "item": (torch.from_numpy(history.values), torch.from_numpy(history.offsets)),
        "age": torch.tensor([[1.0], [-0.5], [2.0]]),
    }
    np.testing.assert_array_equal(model.query(inputs).detach(), model.query.embed(query_features))


def test_native_loop_gives_the_gradients_of_the_step(model: Model, batch: Batch) -> None:
    """`task(query(batch), candidate(batch), **batch.task)` on whole tables against the step on gathered rows."""
    model = copy.deepcopy(model).double()
    loss = model.task(model.query(batch), model.candidate(batch), **batch.task)
    loss.backward()
    before = model.weights()
    trainer = BACKEND.trainer(model, UpdatePlan(Adagrad(0.1, initial_accumulator=1.0, epsilon=1e-30)))
    gradients = {name: weight.outward(weight.parameter.grad) for name, weight in model.canonical().items()}
    assert float(trainer.step(batch, 0.1)) == pytest.approx(loss.item(), rel=1e-12)
    for name, after in model.weights().items():
        g = gradients[name]
        np.testing.assert_allclose(after, before[name] - 0.1 * g / np.sqrt(1 + g**2), rtol=1e-10, atol=1e-13)


def test_sparse_tables_serve_torchs_own_sparse_optimizers(model: Model, batch: Batch) -> None:
    table = model.query.table("table/item")
    table.sparse = True
    model(batch).backward()
    assert table.weight.grad.is_sparse
    np.testing.assert_array_equal(np.unique(table.weight.grad.coalesce().indices()), [1, 4, 8])


def test_batches_go_in_without_a_copy(batch: Batch) -> None:
    from recs_core_torch.data import as_tensor

    array = batch.rows["table/item"]
    assert as_tensor(array).data_ptr() == array.ctypes.data
    array = array.copy()
    array.flags.writeable = False
    np.testing.assert_array_equal(as_tensor(array), array)


@pytest.mark.parametrize("name", ["tpu9", "cuda:99", "meta", ""])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match=f"no device '{name}'; there is 'cpu'"):
        Backend(device=name)


def test_weights_that_do_not_fit(model: Model) -> None:
    weights = model.weights()
    with pytest.raises(DataError, match="'table/item' is missing"):
        model.load_weights({name: w for name, w in weights.items() if name != "table/item"})
    spoiled = {**weights, "table/item": np.full((9, 3), np.nan, np.float32)}
    with pytest.raises(DataError, match="NaN"):
        model.load_weights(spoiled)
    np.testing.assert_array_equal(model.weights()["table/item"], weights["table/item"])
    with pytest.raises(DataError, match="NaN"):
        BACKEND.model(QUERY, CANDIDATE, model.task.spec, spoiled)


def test_a_feature_that_is_not_given(model: Model) -> None:
    with pytest.raises(DataError, match=r"query tower needs feature 'user.id'; it was given none"):
        model.query.embed(Features(1))


def test_task_alone() -> None:
    with pytest.raises(SpecError, match="task/bias"):
        BACKEND.task(RetrievalSpec())
    task = BACKEND.task(RetrievalSpec(logq=False), weights={"task/bias": np.zeros(4)})
    vectors = np.eye(2, dtype=np.float32)
    with pytest.raises(SpecError, match="candidate_ids"):
        task(vectors, vectors)
    with pytest.raises(DataError, match="0 … 3"):
        task(vectors, vectors, candidate_ids=[0, 4])
    with pytest.raises(DataError, match=r"\(n, d\)"):
        task(np.zeros(3, np.float32), vectors, candidate_ids=[0, 1])
    with pytest.raises(DataError, match="dims"):
        task(np.zeros((2, 3), np.float32), vectors, candidate_ids=[0, 1])


COLUMNS = (Bag("tags").column("query"), Numeric("age").column("query"))


class Doubled(nn.Module):
    """A user's own tower of two features."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(5, 2, include_last_offset=True)
        self.out = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(2))

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        values, offsets = inputs["tags"]
        return self.out(self.table(values, offsets) * inputs["age"])


def test_adopted_module_trains_saves_and_serves() -> None:
    torch.manual_seed(0)
    tower = BACKEND.adopt(Doubled(), COLUMNS)
    assert tower.output_dim == 2
    assert (tower.native.out[1].running_mean == 0).all()  # trying it taught it nothing
    weights = {"table/item": np.array([[1, 0], [0, 1], [1, 1]], np.float32)}
    model = BACKEND.model(tower, ONE, spec(), weights)
    features = Features(2, {"tags": ragged([0, 1], [])}, {"age": np.array([[1.0], [2.0]], np.float32)})
    first = tower.embed(features)
    np.testing.assert_array_equal(first, tower.embed(features))  # no dropout when serving
    assert tower.native.training
    batch = Batch({"table/item": codes(0, 1)}, features, Features(2, {"item": codes(0, 1)}), {})
    trainer = BACKEND.trainer(model, UpdatePlan(Adam(0.1)))
    before = model.weights()
    trainer.step(batch, 0.1)
    saved = model.weights()
    assert (saved["query/native/table.weight"][:2] != before["query/native/table.weight"][:2]).any()
    assert (saved["query/native/out.1.running_mean"] != before["query/native/out.1.running_mean"]).any()
    again = BACKEND.model(BACKEND.adopt(Doubled(), COLUMNS), ONE, spec(), saved)
    np.testing.assert_array_equal(again.query.embed(features), tower.embed(features))


def test_embedding_leaves_each_part_in_its_mode() -> None:
    """A batch norm that its owner froze stays frozen."""
    tower = BACKEND.adopt(Doubled(), COLUMNS)
    tower.native.out[1].eval()
    tower.embed(Features(1, {"tags": ragged([1])}, {"age": np.ones((1, 1))}))
    assert tower.native.out[0].training and not tower.native.out[1].training


def test_adopting_probes_the_width() -> None:
    wide = BACKEND.adopt(nn.Linear(3, 5), [Column("vector", "dense", 3)])
    assert wide.output_dim == 5
    assert wide.embed(Features(4, dense={"vector": np.ones((4, 3))})).shape == (4, 5)
    assert BACKEND.adopt(nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 7)), ["item"]).output_dim == 7


def test_what_cannot_be_adopted() -> None:
    with pytest.raises(SpecError, match=r"torch.nn.Module, got int"):
        BACKEND.adopt(3, ["item"])
    with pytest.raises(SpecError, match="no parameters"):
        BACKEND.adopt(nn.ReLU(), ["item"])
    with pytest.raises(SpecError, match=r"shape \(2, 4\); it returned \(2, 1, 4\)"):
        BACKEND.adopt(nn.Sequential(nn.Embedding(3, 4), nn.Unflatten(1, (1, 4))), ["item"])
    with pytest.raises(SpecError, match="failed on code 0 of item"):
        BACKEND.adopt(nn.Linear(3, 4), ["item"])
    with pytest.raises(SpecError, match="list of the features"):
        BACKEND.adopt(nn.Embedding(3, 4), "item")
    spoiled = nn.Embedding(3, 4)
    nn.init.constant_(spoiled.weight, float("nan"))
    with pytest.raises(DataError, match="'weight' of Embedding holds NaN"):
        BACKEND.adopt(spoiled, ["item"])
    wrong = BACKEND.adopt(nn.Embedding(3, 4), ["item"], output_dim=5)
    with pytest.raises(SpecError, match=r"\(1, 5\); it returned \(1, 4\)"):
        wrong.embed(Features(1, {"item": codes(0)}))
    with pytest.raises(SpecError, match=r"output has 4 dims, the candidate tower's 2"):
        BACKEND.model(BACKEND.adopt(nn.Embedding(3, 4), ["item"]), ONE, spec(), {"table/item": np.ones((3, 2))})
    with pytest.raises(SpecError, match="backend.adopt"):
        BACKEND.model(nn.Embedding(3, 2), ONE, spec(), {"table/item": np.ones((3, 2))})
    with pytest.raises(SpecError, match="its own models, got Embedding"):
        BACKEND.trainer(nn.Embedding(3, 2), UpdatePlan(Adam()))


def test_a_table_may_be_called_native() -> None:
    spec = TowerSpec([Categorical("item", dim=2, table="native/item")])
    weights = {"table/native/item": np.ones((3, 2), np.float32)}
    retrieval = RetrievalSpec(candidate_bias=False)
    towers = TowerPlan.of("query", spec), TowerPlan.of("candidate", spec)
    model = BACKEND.model(*towers, retrieval, weights)
    np.testing.assert_array_equal(model.weights()["table/native/item"], weights["table/native/item"])


def test_a_tower_of_given_vectors_alone_counts_in_the_models_dtype() -> None:
    """It has no weight that would say it."""
    plans = (
        TowerPlan.of("query", TowerSpec([Numeric("age")])),
        TowerPlan.of("candidate", TowerSpec([Categorical("i", dim=1)])),
    )
    start = {"table/i": np.ones((3, 1))}
    model = BACKEND.model(*plans, RetrievalSpec(candidate_bias=False), start, dtype="float64")
    numbers = np.array([[1 / 3], [1e9 / 7]])
    got = model.query.embed(Features(2, {}, {"age": numbers}))
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, numbers)
