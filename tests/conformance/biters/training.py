"""Biters of the checks of training."""

# ruff: noqa: E501  (lines of source are quoted as they stand)

from biters.edits import backend, optimizers, training

STEP = """        self._state = self._rounded(result.state)
        return result.loss
"""
ADAM = "    if isinstance(optimizer, Adam):\n"

BITERS = {
    "training/adagrad-one-step": (
        "the root of the accumulator before this step",
        [
            optimizers(
                '    slots["accumulator"][rows] = a\n', '    slots["accumulator"][rows] = a\n    a = a - squares\n'
            )
        ],
    ),
    "training/row-wise-adagrad-one-step": (
        "the sum of squares for the mean",
        [optimizers("(g**2).mean(axis=-1)", "(g**2).sum(axis=-1)")],
    ),
    "training/sgd-one-step": (
        "a velocity that is dampened",
        [optimizers('slots["velocity"][rows] + g', 'slots["velocity"][rows] + (1 - optimizer.momentum) * g')],
    ),
    "training/settings": (
        "β₁ is 0.9",
        [
            optimizers("        m = optimizer.beta_1 * slots", "        m = 0.9 * slots"),
            optimizers("(1 - optimizer.beta_1) * g", "(1 - 0.9) * g"),
        ],
    ),
    "training/no-gradient": (
        "rows without a gradient stay, also by their slots",
        [
            optimizers(
                "        rows = touched\n",
                "        rows = touched\n    if touched is not None and not np.any(gradient) and isinstance(optimizer, Adam):\n        return weight.copy(), dict(slots)\n",
            )
        ],
    ),
    "training/late-steps": (
        "a count that ends at 1,000",
        [
            optimizers(
                "    if isinstance(optimizer, Adam):\n        m =",
                "    step = min(step, 1000)\n    if isinstance(optimizer, Adam):\n        m =",
            )
        ],
    ),
    "training/decay-and-clip": (
        "the dense Adam does not decay",
        [
            optimizers(
                '    if not name.startswith("task/"):\n',
                '    if not name.startswith("task/") and not getattr(optimizer, "dense", False):\n',
            )
        ],
    ),
    "training/lazy-adam-one-step": (
        "no correction of the first moments' bias",
        [optimizers("m / (1 - optimizer.beta_1**step)", "m / 1")],
    ),
    "training/dense-adam-one-step": (
        "dense taken for lazy",
        [optimizers("isinstance(optimizer, Adam) and optimizer.dense", "False")],
    ),
    "training/weight-decay": (
        "task/bias decays",
        [optimizers('    if not name.startswith("task/"):\n', "    if True:\n")],
    ),
    "training/vector": (
        "kernels of vectors without decay",
        [
            optimizers(
                '    if not name.startswith("task/"):\n',
                '    if not name.startswith("task/") and "/vector/" not in name:\n',
            )
        ],
    ),
    "training/clip-norm": (
        "a norm for each weight",
        [
            optimizers(
                "    return {name: g * (clip_norm / max(norm, clip_norm)) for name, g in gradients.items()}",
                "    norms = {name: np.sqrt((g**2).sum()) for name, g in gradients.items()}\n"
                "    return {name: g * (clip_norm / max(norms[name], clip_norm)) for name, g in gradients.items()}",
            )
        ],
    ),
    "training/learning-rate": (
        "the rate of the first step for ever",
        [
            backend(
                "    def step(self, batch, learning_rate):\n",
                "    def step(self, batch, learning_rate):\n"
                "        learning_rate = self.__dict__.setdefault('rate', learning_rate)\n",
            )
        ],
    ),
    "training/untouched-rows": (
        "a gradient of some 1e-12 in rows that the batch does not name",
        [
            optimizers(
                '        slots["m"][rows], slots["v"][rows] = m, v\n',
                '        slots["m"][rows], slots["v"][rows] = m, v\n'
                '        if touched is not None and not optimizer.dense and step == 4 and slots["m"].all():\n'
                '            slots["m"] = slots["m"] * (1 - 5e-7)\n',
            )
        ],
    ),
    "training/several-targets": (
        "weights ignored where queries have several targets",
        [
            training(
                "    result = task.loss_and_gradients(",
                "    if 'table/item' in weights and len(batch.task['target_query']) > batch.query.size and not (\n"
                "        model.retrieval.negatives == 'corpus'\n    ):\n"
                "        batch.task.pop('sample_weight', None)\n"
                "    result = task.loss_and_gradients(",
            )
        ],
    ),
    "training/whole-corpus": (
        "a table that is not named whole is taken for its first rows",
        [
            training(
                "    return np.minimum(batch.rows[name], len(weights[name]) - 1)",
                "    rows = np.minimum(batch.rows[name], len(weights[name]) - 1)\n"
                "    return rows if len(rows) < len(weights[name]) - 1 or name != 'table/item' or name in batch.whole else rows - rows[0]",
            )
        ],
    ),
    "training/padding": (
        "a row out of range lands in the last one",
        [
            training(
                "batch.rows[name][batch.rows[name] < len(weight)]",
                "np.unique(np.minimum(batch.rows[name], len(weight) - 1))",
            )
        ],
    ),
    "training/deterministic": (
        "an unseeded generator",
        [
            backend(
                STEP,
                "        if self.model.dtype == 'float32' and result.state['step'] == 2:\n"
                "            users = self.model._weights['table/user']\n"
                # A number for each weight: one for all has nine values in float32, and two runs would often draw one.
                "            users *= 1 + np.random.default_rng().random(users.shape) * 1e-6\n" + STEP,
            )
        ],
    ),
    "training/resume": (
        "something is kept that the state does not hold",
        [
            backend(
                STEP,
                "        self.steps = getattr(self, 'steps', 0) + 1\n"
                "        if self.steps == 4 and self.model.dtype == 'float32':\n"
                "            for value in self.model._weights.values():\n                value *= 1 + 2e-7\n" + STEP,
            )
        ],
    ),
    "training/adagrad-100-steps": (
        "an accumulator that stops growing after 50 steps",
        [
            optimizers(
                '    a = slots["accumulator"][rows] + squares\n',
                '    a = slots["accumulator"][rows] + (squares if step <= 50 or isinstance(optimizer, RowWiseAdagrad) else 0)\n',
            )
        ],
    ),
    "training/row-wise-adagrad-100-steps": (
        "an accumulator that stops growing after 50 steps",
        [
            optimizers(
                '    a = slots["accumulator"][rows] + squares\n',
                '    a = slots["accumulator"][rows] + (squares if step <= 50 or not _row_wise(optimizer, name) else 0)\n',
            )
        ],
    ),
    "training/sgd-100-steps": (
        "a velocity that starts anew after 50 steps",
        [
            optimizers(
                '        slots["velocity"][rows] = v\n', '        slots["velocity"][rows] = v if step != 50 else 0\n'
            )
        ],
    ),
    "training/lazy-adam-100-steps": (
        "a step counter that stops at 50",
        [optimizers(ADAM, "    step = step if getattr(optimizer, 'dense', 1) else min(step, 50)\n" + ADAM)],
    ),
    "training/dense-adam-100-steps": (
        "a step counter that stops at 50",
        [optimizers(ADAM, "    step = min(step, 50) if getattr(optimizer, 'dense', 0) else step\n" + ADAM)],
    ),
    "training/float32-100-steps": (
        "half precision where nobody asked for it",
        [
            backend(
                STEP,
                '        if self.model.dtype == "float32" and result.state["step"] > 10:\n'
                "            for value in self.model._weights.values():\n"
                "                value[...] = value.astype(np.float16)\n" + STEP,
            )
        ],
    ),
    "training/cost-of-rows": (
        "a manifest that promises it of steps that copy whole tables",
        [backend(' | {"sparse_rows": No("a step is one of whole tables")}', "")],
    ),
    "training/everything": (
        "beside a bias and layers, the temperature is not learned",
        [
            training(
                "        new_weights[name], slots = optimizers.update(",
                '        if name == "task/log_temperature" and {"task/bias", "query/dense_0/kernel"} <= set(weights):\n'
                "            gradient = 0 * gradient\n"
                "        new_weights[name], slots = optimizers.update(",
            )
        ],
    ),
    "training/devices": (
        "a device that is not there is taken for the CPU",
        [backend("        if device not in self.devices():\n", "        if not device:\n")],
    ),
    "training/bf16": (
        "weights are kept in bfloat16",
        [
            backend(
                "        for name, value in result.weights.items():\n",
                "        for name, value in result.weights.items():\n"
                "            value = value if self.precision is None else bfloat16(value)\n",
            )
        ],
    ),
}
