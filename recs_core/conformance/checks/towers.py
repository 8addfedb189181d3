"""Towers: features in, vectors out, and the gradient of every row that went into them."""

from __future__ import annotations

import dataclasses

import numpy as np

from recs_core.conformance import expect
from recs_core.conformance.context import DESCENT, BackendContext, number
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import ITEM, ITEM_TOWER, PLAIN, USER, USER_TOWER, WIDE, World, ragged
from recs_core.contract.batch import Batch, Features
from recs_core.contract.feature_kinds import Bag, Categorical, History, Numeric, Text, Vector
from recs_core.contract.features import Feature
from recs_core.contract.protocols import DType
from recs_core.contract.towers import Activation, TowerSpec
from recs_core.reference import towers, training

ROWS = 7
BASE = ("towers/categorical",)


def with_feature(feature: Feature) -> World:
    """A world whose query tower has one feature and no layers: what comes out is what was looked up and pooled."""
    return World(query=TowerSpec((feature,)), candidate=TowerSpec((Categorical("item", dim=feature.width),)))


def embed(
    context: BackendContext,
    world: World,
    features: Features | None = None,
    *,
    side: str = "query",
    dtypes: tuple[DType, ...] = ("float32",),
    apart: float = 1,
    plain: Features | None = None,
) -> None:
    """The vectors of given weights, against the oracle's of the same features, or of the `plain` ones; `apart` times as
    far from them as others may be."""
    tower = world.query if side == "query" else world.candidate
    features = world.features(side, ROWS) if features is None else features
    expected = towers.embed(tower, side, features if plain is None else plain, world.weights())
    for dtype in dtypes:
        model = context.model(world, dtype)
        got = (model.query if side == "query" else model.candidate).embed(features)
        expect.same(f"the dtype of embed() in {dtype}", str(got.dtype), dtype)
        expect.close(f"the {side} vectors in {dtype}", got, expected, apart * expect.VECTOR[dtype])


def gradients(
    context: BackendContext, world: World, batch: Batch | None = None, *, counted: Batch | None = None
) -> None:
    """The loss of a step, and the gradient of every weight, against the oracle's, in float64 where there is that.
    `counted`: a smaller batch of the same loss and gradients, for the oracle."""
    dtype = context.finest
    batch = world.batch() if batch is None else batch
    expected_loss, expected = training.gradients(world.model, world.weights(), counted or batch)
    loss, got = context.loss_and_gradients(world, batch, dtype)
    expect.close("the loss of a step", loss, expected_loss, expect.LOSS[dtype])
    for name, gradient in expected.items():
        expect.rows_close(f"the gradient of {name}", got[name], gradient, expect.GRADIENT[dtype])


@check("towers/categorical", needs=("categorical",), formula="f(x) = table[code of x]")
def categorical(context: BackendContext) -> None:
    """One id per row is the row of its code, and gets the row's gradient, summed where a batch names it twice.

    A failure here blocks most others. Look at the gather from `rows`, and at whether codes count within `rows` (in a
    batch) or whole tables (in `embed`).
    """
    world = with_feature(Categorical("user", dim=4))
    embed(context, world, dtypes=context.dtypes)
    gradients(context, world)


@check("towers/oov", needs=("categorical",), rests_on=BASE, formula="OOV rows are rows 0 … num_oov − 1")
def oov(context: BackendContext) -> None:
    """A code of an OOV row, the first rows of a table, is looked up as any other.

    Look for an id 0 that is taken for padding, or for an offset that is added twice.
    """
    embed(context, with_feature(USER), Features(3, {"user": np.array([0, 1, 2], np.int32)}))


@check("towers/bag-mean", needs=("bag",), rests_on=BASE, formula="f = Σ_c table[c] / number of codes; no codes: 0")
def bag_mean(context: BackendContext) -> None:
    """A bag with pooling="mean" is the sum of its rows over their number; one held twice counts twice.

    Look at the division (by the number of codes, not by the longest bag), at its backward pass, and for codes that are
    made unique.
    """
    world = with_feature(Bag("tags", dim=4))
    embed(context, world, Features(3, {"tags": ragged([[1], [2, 3], [4, 4, 5]])}))
    gradients(context, world)


@check("towers/bag-sum", needs=("bag",), rests_on=BASE, formula="f = Σ_c table[c]; no codes: 0")
def bag_sum(context: BackendContext) -> None:
    """A bag with pooling="sum" is the sum of its rows.

    Look at whether `pooling` is read, and for codes that are made unique.
    """
    world = with_feature(Bag("tags", dim=4, pooling="sum"))
    embed(context, world, Features(3, {"tags": ragged([[1], [2, 3], [4, 4, 5]])}))
    gradients(context, world)


@check("towers/empty-bag", needs=("bag",), rests_on=("towers/bag-mean",), formula="no codes: f = 0")
def empty_bag(context: BackendContext) -> None:
    """A bag without codes is zeros: first, last, and in a batch that holds no code at all.

    Look at 0 / 0, and at segment sums that give no row to an empty segment at the end.
    """
    world = with_feature(Bag("tags", dim=4))
    embed(context, world, Features(4, {"tags": ragged([[], [1, 2], [], []])}))
    embed(context, world, Features(2, {"tags": ragged([[], []])}))


@check("towers/text", tier="optional", needs=("text",), rests_on=BASE, formula="f = Σ_c table[c] / number of codes")
def text(context: BackendContext) -> None:
    """A text is the mean of the rows of its hashed words; the core has made codes of them.

    Look at whether `Text` is pooled as a `Bag` with pooling="mean" is.
    """
    world = with_feature(Text("about", dim=4, buckets=16))
    embed(context, world)
    gradients(context, world)


@check("towers/history", needs=("history",), rests_on=BASE, formula="f = Σ_c table[c] / number of past candidates")
def history(context: BackendContext) -> None:
    """A history with its own table is the mean of its rows; an empty one is zeros, an id held twice counts twice.

    Look at what an empty history reads, for codes that are made unique, and at `Column.table`: the table is
    `table/<name>_history`.
    """
    world = with_feature(History("item", dim=4, share=None))
    embed(context, world)
    gradients(context, world)


@check(
    "towers/shared-table", needs=("history",), rests_on=("towers/history",), formula="∂L/∂table = Σ over all its uses"
)
def shared_table(context: BackendContext) -> None:
    """A history that shares the candidate tower's table reads it, and both towers' gradients are added up.

    Look for a table that is copied for each tower, or for a gradient that overwrites instead of adding.
    """
    world = with_feature(History("item", dim=4))
    embed(context, world)
    gradients(context, world)


@check("towers/numeric", needs=("numeric",), rests_on=BASE, formula="f = the number itself")
def numeric(context: BackendContext) -> None:
    """A number is one column of the input, near 0 or far from it; the core has standardised it.

    Look for a second standardisation, for numbers that are cut, or for a column that is integer by accident.
    """
    world = World(
        query=TowerSpec((USER, Numeric("age"))), candidate=TowerSpec((ITEM, Numeric("price"))), retrieval=PLAIN
    )
    embed(context, world)
    gradients(context, world)
    batch = world.batch()
    far = dataclasses.replace(batch.query, dense={"age": batch.query.dense["age"] * np.float32(30)})
    gradients(context, world, dataclasses.replace(batch, query=far))


@check("towers/feature-order", needs=("numeric",), rests_on=("towers/numeric",), formula="x = [f₁ ; f₂ ; …]")
def feature_order(context: BackendContext) -> None:
    """Features stand side by side in the order of the spec, whatever their names and the order of the input.

    Look for a dict that is sorted by name, as some frameworks do with inputs.
    """
    features = (Numeric("z"), Categorical("user", dim=2), Numeric("a"))
    given = Features(
        2,
        {"user": np.array([3, 1], np.int32)},
        {"a": np.array([[1], [2]], np.float32), "z": np.array([[3], [4]], np.float32)},
    )
    embed(context, World(query=TowerSpec(features), candidate=TowerSpec((ITEM,))), given)


def _layers(context: BackendContext, activation: Activation | None, final: Activation | None = None) -> None:
    query = TowerSpec((USER,), layers=(5, 4, 3), activation=activation, final_activation=final)
    world = World(query=query, candidate=ITEM_TOWER)
    embed(context, world)
    gradients(context, world)


@check("towers/layers", rests_on=BASE, formula="h ← h W + b; W is (in, out)")
def layers(context: BackendContext) -> None:
    """Dense layers multiply by their kernel, stored (in, out), and add their bias.

    Look at whether the bias is there, and at a transpose at the border, as frameworks that store (out, in) need.
    """
    _layers(context, None)


@check(
    "towers/vector",
    tier="optional",
    needs=("vector",),
    rests_on=("towers/numeric", "towers/feature-order", "towers/layers"),
    formula="f = x W; x itself without a kernel",
)
def vector(context: BackendContext) -> None:
    """A given vector is mapped by the kernel of its column, on either side, and is read as it is where there is none.

    Look at `Column.kernel`: a weight of shape (`length`, `width`), one for each column, with no bias and no activation.
    """
    mapped = Vector("face", dim=3, length=5), Vector("pose", dim=3, length=5)
    world = World(
        query=TowerSpec((USER, *mapped, Vector("voice", length=2)), layers=(6,), activation="tanh"),
        candidate=TowerSpec((ITEM, Vector("face", dim=2, length=1100))),
    )
    embed(context, world, dtypes=context.dtypes)
    wide = world.features("candidate", ROWS)
    shorter = {name: numbers / np.float32(32) for name, numbers in wide.dense.items()}  # of length 1, or so
    embed(context, world, Features(ROWS, wide.codes, shorter), side="candidate")
    batch = world.batch()
    finer = {name: np.asarray(numbers, context.finest) / 3 for name, numbers in batch.query.dense.items()}
    gradients(context, world, dataclasses.replace(batch, query=dataclasses.replace(batch.query, dense=finer)))


@check("towers/relu", rests_on=("towers/layers",), formula="φ(x) = max(x, 0) after every layer but the last")
def relu(context: BackendContext) -> None:
    """`activation="relu"` follows every layer but the last.

    Look at the table of activations, and for one after the last layer, where only `final_activation` belongs.
    """
    _layers(context, "relu")


@check("towers/tanh", rests_on=("towers/layers",), formula="φ(x) = tanh x")
def tanh(context: BackendContext) -> None:
    """`activation="tanh"` follows every layer but the last.

    Look at the table of activations.
    """
    _layers(context, "tanh")


@check("towers/sigmoid", rests_on=("towers/layers",), formula="φ(x) = 1 / (1 + exp(− x))")
def sigmoid(context: BackendContext) -> None:
    """`activation="sigmoid"` follows every layer but the last.

    Look at the table of activations.
    """
    _layers(context, "sigmoid")


@check("towers/final-activation", rests_on=("towers/layers",), formula="output = φ_final(h W + b)")
def final_activation(context: BackendContext) -> None:
    """`final_activation` follows the last layer, and only that.

    Look at whether it is read, and whether `activation` is applied there too.
    """
    _layers(context, None, "tanh")


@check(
    "towers/dropout",
    needs=("dropout",),
    rests_on=("towers/layers",),
    formula="x ← x ⊙ keep, keep ∈ {0, 1/(1 − dropout)}",
)
def dropout(context: BackendContext) -> None:
    """A step multiplies the concatenated input by the batch's keep mask; `embed` drops nothing.

    The mask comes with the batch and is already scaled: look for one that is left out, applied after a layer or scaled
    again, and for a generator of the framework's.
    """
    world = World(
        query=TowerSpec((USER,), layers=(3,), dropout=0.5), candidate=TowerSpec((ITEM,), layers=(3,), dropout=0.25)
    )
    embed(context, world)
    gradients(context, world)


@check("towers/batch-of-one", rests_on=BASE)
def batch_of_one(context: BackendContext) -> None:
    """One row gives (1, output_dim), and the same vector as among others.

    Look for a squeeze.
    """
    embed(context, with_feature(USER), Features(1, {"user": np.array([4], np.int32)}))


@check("towers/no-rows", rests_on=("towers/layers",))
def no_rows(context: BackendContext) -> None:
    """No rows give (0, output_dim): nobody asked, and nobody is left without an answer.

    Look for a shape that is lost where there is nothing to stack or to concatenate.
    """
    model = context.model(World())
    nobody = Features(0, {"user": np.zeros(0, np.int32)})
    expect.same("the shape", model.query.embed(nobody).shape, (0, USER_TOWER.output_dim))


@check(
    "towers/all-together",
    tier="optional",
    needs=("bag", "text", "history", "numeric"),
    rests_on=(
        "towers/bag-sum", "towers/empty-bag", "towers/text", "towers/shared-table", "towers/feature-order",
        "towers/tanh", "towers/sigmoid", "towers/final-activation",
    ),
)  # fmt: skip
def all_together(context: BackendContext) -> None:
    """Every kind of feature in one tower, a table shared by a bag and an id, and layers: vectors and gradients.

    Each alone was right: look at offsets of the concatenation, and at tables with several uses in one tower.
    """
    embed(context, WIDE)
    embed(context, WIDE, side="candidate")
    gradients(context, WIDE)


@check("towers/values", needs=("numeric",), rests_on=("towers/relu", "towers/feature-order"))
def far_values(context: BackendContext) -> None:
    """Numbers, weights and activations from 10⁻¹³ to 10⁵ go through the layers; a row looked up alone keeps each bit.

    Look for a clamp, for half precision, and for subnormal numbers that are taken for 0.
    """
    query = TowerSpec((USER, Numeric("age")), layers=(5, 4, 3), activation="relu")
    world = World(query=query, candidate=ITEM_TOWER)
    ages = np.array([[1e5], [-1e5], [1e-13], [0.0], [300.0], [-12.0]])
    users = np.array([0, 3, 3, 5, 6, 2], np.int32)
    weights = {name: value * np.float32(30) for name, value in world.weights().items()}
    features = Features(len(ages), {"user": users}, {"age": ages})
    expected = towers.embed(query, "query", features, weights)
    for dtype in context.dtypes:
        got = context.model(world, dtype, weights).query.embed(features)
        scale = np.abs(expected).max(axis=1, keepdims=True)
        expect.close(f"the vectors in {dtype}, over their largest", got / scale, expected / scale, expect.VECTOR[dtype])
    table = with_feature(USER)
    rows = table.weights()
    rows["table/user"][:4] = np.array([[1e-42], [-3e-45], [2e30], [-1e-13]], np.float32)
    model = context.model(table, "float32", rows)
    codes = np.array([2, 0, 3, 1, 0], np.int32)
    expect.same("rows that are looked up", model.query.embed(Features(5, {"user": codes})), rows["table/user"][codes])
    expect.same("the table", model.weights()["table/user"], rows["table/user"])


@check("towers/float64", needs=("float64", "numeric"), rests_on=("towers/tanh", "towers/numeric"))
def float64(context: BackendContext) -> None:
    """A model of float64 counts in float64: weights and numbers that no float32 holds.

    Look for a constant, an input or an answer that is float32 on the way; and for a dtype that is that of a tower's
    first weight, where a tower has none.
    """
    query = TowerSpec((USER, Numeric("age")), layers=(5, 3), activation="tanh", final_activation="tanh")
    world = World(query=query, candidate=ITEM_TOWER)
    weights = {name: np.asarray(value, np.float64) / 3 for name, value in world.weights().items()}
    features = world.features("query", ROWS)
    features = Features(ROWS, features.codes, {"age": np.asarray(features.dense["age"], np.float64) / 3})
    expected = towers.embed(query, "query", features, weights)
    model = context.model(world, "float64", weights)
    expect.close("the vectors", model.query.embed(features), expected, 1e-13)
    bare = World(query=TowerSpec((Numeric("age"),)), candidate=TowerSpec((Categorical("item", dim=1),)))
    numbers = Features(ROWS, {}, features.dense)
    got = context.model(bare, "float64").query.embed(numbers)
    expect.close("the vectors of a tower without weights", got, numbers.dense["age"], 1e-13)
    batch = world.batch()
    finer = {"age": np.asarray(batch.query.dense["age"], np.float64) / 3}
    batch = dataclasses.replace(batch, query=dataclasses.replace(batch.query, dense=finer))
    loss, _ = training.gradients(world.model, weights, batch)
    expect.close("the loss of a step", number(context.trainer(model, DESCENT).step(batch, 0.1)), loss, 1e-13)


@check("towers/keep-is-for-steps", needs=("dropout",), rests_on=("towers/dropout", "towers/batch-of-one"))
def keep_is_for_steps(context: BackendContext) -> None:
    """`embed` drops nothing, also of features that carry a keep mask; one row alone goes through layers and biases.

    Look at who applies the mask: a step does, `embed` does not.
    """
    world = World(query=TowerSpec((USER,), layers=(3,), dropout=0.5))
    features = world.features("query", ROWS)
    masked = Features(ROWS, features.codes, keep=np.zeros((ROWS, USER.dim), np.float32))
    expected = towers.embed(world.query, "query", features, world.weights())
    model = context.model(world)
    expect.close("the vectors", model.query.embed(masked), expected, expect.VECTOR["float32"])
    alone = model.query.embed(features.take(np.arange(1)))
    expect.close("the vector of one row", alone, expected[:1], expect.VECTOR["float32"])
