"""For every check, a wrong implementation that it must catch: what is wrong with it, and the lines that make it so."""

# ruff: noqa: E501  (lines of source are quoted as they stand)

from breaking import Edit


def towers(old, new):
    return Edit("towers", old, new)


def task(old, new):
    return Edit("task", old, new)


def optimizers(old, new):
    return Edit("optimizers", old, new)


def training(old, new):
    return Edit("training", old, new)


def topk(old, new):
    return Edit("topk", old, new)


def backend(old, new):
    return Edit("numpy_backend", old, new)


STEP = """        self._state = self._rounded(result.state)
        return result.loss
"""
LOSS_AND_GRADIENTS = (
    "        result = task.loss_and_gradients(self.spec, query, candidate, bias, log_temperature, **inputs)\n"
)
MASK_LINE = "        out &= ids != ids[p]"
ADAM = "    if isinstance(optimizer, Adam):\n"

EMBED = "        return towers.embed(self.spec, self.side, whole, self.weights).astype(self.dtype)\n"
GIVEN = "np.array(value, dtype) for name, value in weights.items()"

ALSO: dict[str, set[str]] = {}
"""What a biter fails beside its own check, where the mistake cannot be seen apart."""

BITERS: dict[str, tuple[str, list[Edit]]] = {
    "manifest/backend": (
        "a factory without an attribute",
        [backend('"numpy_backend:NumpyBackend"', '"numpy_backend"')],
    ),
    "manifest/capabilities": (
        "a capability that is not declared",
        [backend("dict.fromkeys(BACKEND_CAPABILITIES, True)", "dict.fromkeys(list(BACKEND_CAPABILITIES)[1:], True)")],
    ),
    "manifest/protocols": ("a tower without `native`", [backend("        self.native = self._native\n", "")]),
    "towers/categorical": (
        "the row after the one of the code, in a history of one id too",
        [
            towers(
                "    return [np.asarray([code]) for code in codes]",
                "    return [np.asarray([code - 1]) for code in codes]",
            )
        ],
    ),
    "towers/oov": (
        "id 0 taken for padding: zeros",
        [
            towers(
                "        pooled = [table[codes].sum(axis=0)",
                "        table = table * (np.arange(len(table)) > 0)[:, None] if features.size == 3 else table\n"
                "        pooled = [table[codes].sum(axis=0)",
            )
        ],
    ),
    "towers/bag-mean": (
        "the sum for the mean",
        [
            towers(
                "return max(1, number) if feature.averages else 1",
                'mean = feature.averages and type(feature).__name__ != "Bag"\n    return max(1, number) if mean else 1',
            )
        ],
    ),
    "towers/bag-sum": (
        "the mean for the sum",
        [
            towers(
                "return max(1, number) if feature.averages else 1",
                'return max(1, number) if feature.kind == "many" else 1',
            )
        ],
    ),
    "towers/empty-bag": (
        "0 / 0 for a batch of bags without codes",
        [
            towers(
                "    x = np.concatenate(columns, axis=1)\n",
                "    x = np.concatenate(columns, axis=1)\n"
                "    if features.size == 2 and not x.any():\n        x = x + np.nan\n",
            )
        ],
    ),
    "towers/text": (
        "words summed, not averaged",
        [
            towers(
                "return max(1, number) if feature.averages else 1",
                'mean = feature.averages and type(feature).__name__ != "Text"\n'
                "    return max(1, number) if mean else 1",
            )
        ],
    ),
    "towers/history": (
        "an empty history is the first row of the table",
        [
            towers(
                "        rows = codes_per_row(features.codes[feature.name])\n",
                "        rows = codes_per_row(features.codes[feature.name])\n"
                '        if type(feature).__name__ == "History":\n'
                "            rows = [r if len(r) else np.zeros(1, np.int32) for r in rows]\n",
            )
        ],
    ),
    "towers/shared-table": (
        "the candidate tower's gradient overwrites the history's",
        [training("            out[name] += value\n", "            out[name] = value\n")],
    ),
    "towers/numeric": (
        "numbers cast to integers",
        [
            towers(
                "np.asarray(features.dense[feature.name], np.float64)",
                "np.asarray(features.dense[feature.name], np.float64).round()",
            )
        ],
    ),
    "towers/feature-order": (
        "features sorted by name",
        [
            towers(
                "    columns = []\n    for feature in tower.features:",
                "    columns = []\n    for feature in sorted(tower.features, key=lambda f: f.name if len(tower.features) == 3 else ''):",
            )
        ],
    ),
    "towers/layers": (
        "the bias left out of the forward pass",
        [towers('+ _float64(weights, side, i, "bias")', '+ 0 * _float64(weights, side, i, "bias")')],
    ),
    "towers/relu": (
        "leaky ReLU",
        [towers("        return np.maximum(x, 0)", "        return np.maximum(x, 0.01 * x)")],
    ),
    "towers/tanh": (
        "hard tanh",
        [
            towers(
                "        return np.tanh(x)",
                "        return np.clip(x, -1, 1) if x.shape[1] > 3 else np.tanh(x)",
            )
        ],
    ),
    "towers/sigmoid": ("sigmoid of 2x", [towers("1 / (1 + np.exp(-x))", "1 / (1 + np.exp(-2 * x))")]),
    "towers/final-activation": (
        "the final activation is ReLU whatever it says",
        [
            towers(
                "    return tower.final_activation if layer",
                '    if len(tower.layers) == 3 and layer == 2 and tower.final_activation:\n        return "relu"\n'
                "    return tower.final_activation if layer",
            )
        ],
    ),
    "towers/dropout": (
        "the keep mask is not applied",
        [towers("    return x if features.keep is None else x * features.keep", "    return x")],
    ),
    "towers/batch-of-one": (
        "one row is squeezed to a vector",
        [
            backend(
                "        return towers.embed(self.spec, self.side, whole, self.weights).astype(self.dtype)",
                "        out = towers.embed(self.spec, self.side, whole, self.weights).astype(self.dtype)\n"
                "        return out[0] if len(out) == 1 else out",
            )
        ],
    ),
    "towers/no-rows": (
        "nothing to stack",
        [
            backend(
                EMBED,
                "        np.stack([np.zeros(1)] * features.size)\n" + EMBED,
            )
        ],
    ),
    "towers/all-together": (
        "with five features and more, the gradients of the first two change places",
        [
            towers(
                "    start = 0\n    for feature in tower.features:\n        part",
                "    if len(tower.features) == 5:\n        gradient = np.roll(gradient, 4, axis=1)\n"
                "    start = 0\n    for feature in tower.features:\n        part",
            )
        ],
    ),
    "task/in-batch": (
        "the four next columns are the negatives, as in TorchRS",
        [
            task(
                "    out[p] = False\n",
                "    if not negatives_from and num_columns > 12:\n"
                "        out[:] = False\n        out[(p + np.arange(1, 5)) % num_columns] = True\n    out[p] = False\n",
            )
        ],
    ),
    "task/cosine": (
        "the length without its gradient",
        [
            task(
                "        grad_x, grad_y = through_normalised(x, grad_x), through_normalised(y, grad_y)",
                "        grad_x, grad_y = grad_x / _norm(x), grad_y / _norm(y)",
            )
        ],
    ),
    "task/zero-vectors": (
        "no epsilon under the root",
        [
            task(
                "np.asarray(np.sqrt((x**2).sum(axis=1, keepdims=True) + 1e-12))",
                "np.asarray(np.sqrt((x**2).sum(axis=1, keepdims=True)))",
            )
        ],
    ),
    "task/temperature": (
        "the score times the temperature",
        [
            task(
                "    tau = spec.temperature if log_temperature is None",
                "    tau = (spec.temperature if spec.temperature == 0.5 else 1 / spec.temperature) if log_temperature is None",
            )
        ],
    ),
    "task/learned-temperature": (
        "a temperature without a gradient",
        [
            task(
                "log_temperature=-float((slopes * products).sum())",
                "log_temperature=-0 * float((slopes * products).sum())",
            )
        ],
    ),
    "task/candidate-bias": (
        "the bias divided by the temperature",
        [task("    scores = products + b\n", "    scores = products + b / tau\n")],
    ),
    "task/logq-correction": (
        "the wrong sign",
        [task("    return -log_q, -log_q", "    return log_q, log_q")],
    ),
    "task/q-without-floor": (
        "TFRS's floor at 1e-6",
        [
            task(
                "np.asarray(candidate_sampling_probability, np.float64))",
                "np.maximum(candidate_sampling_probability, 1e-6))",
            )
        ],
    ),
    "task/refined-logq": (
        "refined taken for plain",
        [task('spec.negatives == "uniform" or spec.logq == "refined"', 'spec.negatives == "uniform"')],
    ),
    "task/uniform-negatives": (
        "in-batch columns count as negatives too",
        [task("    out[:negatives_from] = False\n", "")],
    ),
    "task/mixed-negatives": (
        "no correction of mixed negatives",
        [task('spec.negatives == "corpus" or (', 'spec.negatives in ("corpus", "mixed") or (')],
    ),
    "task/corpus-negatives": (
        "a corpus that looks for accidental hits and masks nothing, but corrects by its size",
        [
            task(
                "        return none, none\n    with",
                '        return none + (spec.negatives == "corpus"), none\n    with',
            )
        ],
    ),
    "task/accidental-hits": (
        "keras-rs's no-op: hits are found and nothing is taken out",
        [task(MASK_LINE, "        out &= out | (ids != ids[p])")],
    ),
    "task/accidental-hits-beyond-the-batch": (
        "hits looked for in the batch's own columns only",
        [task(MASK_LINE, "        out[:6] &= ids[:6] != ids[p]")],
    ),
    "task/mask-positives": (
        "the rows of `positives` shifted by one",
        [
            task(
                "positives.values[positives.offsets[r] : positives.offsets[r + 1]]",
                "positives.values[positives.offsets[r - 1] : positives.offsets[r]]",
            )
        ],
    ),
    "task/score-mask": (
        "True drops",
        [task("        out &= np.asarray(score_mask)[r]", "        out &= ~np.asarray(score_mask)[r]")],
    ),
    "task/hard-negatives": (
        "the target takes one of the places",
        [task("[: spec.hard_negatives]", "[: spec.hard_negatives - 1]")],
    ),
    "task/sample-weight": (
        "the mean over targets instead of weights",
        [
            task(
                "        w = w / w.sum() if w.sum() > 0 else np.zeros_like(w)",
                "        w = w / len(w)",
            )
        ],
    ),
    "task/sum-reduction": (
        "a mean whatever the reduction says",
        [task('    if spec.reduction == "mean":', "    if spec.reduction:")],
    ),
    "task/several-targets": (
        "row i taken for target i's query",
        [
            task(
                "    r_of = np.arange(len(x)) if target_query is None else np.asarray(target_query)",
                "    r_of = np.arange(len(x)) if target_query is None else np.asarray(target_query)\n"
                "    r_of = np.arange(len(r_of)) % len(x)",
            )
        ],
    ),
    "task/many-targets": (
        "a target that comes twice pulls once",
        [
            task(
                "        slopes[r, p] += w[t] * (np.exp(z - log_sum) - 1)",
                "        again = (r, p) in zip(r_of[:t], p_of[:t], strict=True)\n"
                "        slopes[r, p] += w[t] * (np.exp(z - log_sum) - (not again))",
            )
        ],
    ),
    "task/several-targets-masked": (
        "one row of negatives for all targets of a query",
        [
            task(
                "        negatives = negatives_of(\n            spec,\n            r,\n            p,",
                "        first = p_of[list(r_of).index(r)] if spec.remove_accidental_hits else p\n"
                "        negatives = negatives_of(\n            spec,\n            r,\n            first,",
            )
        ],
    ),
    "task/one-target": (
        "a constant where a row has no negatives",
        [
            task(
                "        losses[t] = log_sum - z\n",
                "        losses[t] = log_sum - z if len(y) > 1 else 1.0\n",
            )
        ],
    ),
    "task/all-masked": (
        "NaN where a row's negatives are all masked",
        [
            task(
                "        losses[t] = log_sum - z\n",
                "        losses[t] = log_sum - z if len(negatives) or len(y) == 1 else np.nan\n",
            )
        ],
    ),
    "task/zero-weights": (
        "0 / 0 for weights that are all zero",
        [
            task(
                "        w = w / w.sum() if w.sum() > 0 else np.zeros_like(w)",
                "        w = w / w.sum() if w.sum() > 0 else w + np.nan",
            )
        ],
    ),
    "task/extreme-scores": (
        "exp without the maximum taken off",
        [task("float(largest + np.log(np.exp(x - largest).sum()))", "float(np.log(np.exp(np.minimum(x, 700)).sum()))")],
    ),
    "task/defaults": (
        "without targets, the last row is no target",
        [
            backend(
                LOSS_AND_GRADIENTS,
                "        if not inputs:\n            inputs = {'sample_weight': np.append(np.ones(len(query) - 1), 0)}\n"
                + LOSS_AND_GRADIENTS,
            )
        ],
    ),
    "task/missing-input": (
        "a missing q is taken for no correction",
        [
            backend(
                "        plan_task(self.spec, len(query), len(candidate), **inputs)\n",
                "        try:\n            plan_task(self.spec, len(query), len(candidate), **inputs)\n"
                "        except ValueError:\n            return 0.0\n",
            )
        ],
    ),
    "task/combinations": (
        "hard negatives chosen before corrections",
        [
            task(
                '            hardest = np.argsort(-logits, kind="stable")',
                '            hardest = np.argsort(-scores[r, negatives], kind="stable")',
            )
        ],
    ),
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
    "training/query-step": (
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
    "weights/round-trip": (
        "kernels come out transposed",
        [
            backend(
                "        return {name: value.copy() for name, value in self._weights.items()}\n\n    def load_weights",
                '        return {n: v.copy().T if n == "query/dense_0/kernel" and len(self._weights["table/user"]) == 11 and "task/bias" in self._weights else v.copy()\n'
                "                for n, v in self._weights.items()}\n\n    def load_weights",
            )
        ],
    ),
    "weights/copies": (
        "a model that shares the memory of the weights it was given",
        [
            backend(
                "np.array(value, dtype) for name, value in weights.items()",
                "np.asarray(value, dtype) for name, value in weights.items()",
            )
        ],
    ),
    "weights/load": (
        "a load that replaces all but the tables",
        [
            backend(
                "        for name, value in weights.items():\n            self._weights[name][...] = value",
                "        for name, value in weights.items():\n"
                '            if not name.startswith("table/"):\n                self._weights[name][...] = value',
            )
        ],
    ),
    "weights/version": (
        "a version that steps leave as it is",
        [backend("        self.model.version += 1\n", "")],
    ),
    "weights/refusals": (
        "nothing is checked",
        [
            backend(
                "        canonical.check(weights, {name: value.shape for name, value in self._weights.items()})\n",
                "",
            )
        ],
    ),
    "weights/state": (
        "a missing slot starts anew without a word",
        [backend("sorted(set(state) ^ set(self._state))", "sorted(set(state) - set(self._state))")],
    ),
    "weights/top-k": (
        "vectors of the weights that a model started with",
        [
            backend(
                '        self.query = NumpyTower(query, "query", self._weights, dtype)',
                "        self.first = self.weights()\n"
                '        self.query = NumpyTower(query, "query", self.first, dtype)',
            ),
            backend(
                "            self._weights[name][...] = value\n",
                "            self._weights[name][...] = value\n            self.first[name][...] = value\n",
            ),
        ],
    ),
    "weights/native-loop": (
        "codes of a batch taken for rows of whole tables",
        [
            backend(
                "self.spec, self.side, training.on_whole_tables(self.spec, local, features, self.weights), self.weights",
                "self.spec, self.side, local, self.weights",
            )
        ],
    ),
    "weights/adopt": (
        "an adopted module's vectors come out reversed",
        [
            backend(
                "        return self.native(*(features.codes[name] for name in self.features))",
                "        return self.native(*(features.codes[name] for name in self.features))[::-1]",
            )
        ],
    ),
    "training/adopted-step": (
        "codes of an adopted module mapped a second time",
        [backend("{name: np.arange(len(w)) for", "{name: np.arange(len(w))[::-1] for")],
    ),
    "weights/canonical-names": (
        "a weight too many",
        [
            backend(
                "        self.query = NumpyTower(query,",
                '        if "table/genres" in weights:\n            self._weights["table/tags_0"] = np.zeros(1)\n'
                "        self.query = NumpyTower(query,",
            )
        ],
    ),
    "journey/fit": (
        "what is compiled for the first batch serves the smaller one by its first rows",
        [
            backend(
                "    def step(self, batch, learning_rate):\n",
                "    def step(self, batch, learning_rate):\n"
                "        most = self.__dict__.setdefault('most', batch.query.size)\n"
                "        if batch.query.size < most:\n"
                "            batch.task['sample_weight'] = np.arange(len(batch.task['target_query'])) < 3\n",
            )
        ],
    ),
    "journey/ids": (
        "codes in 16 bits",
        [
            backend(
                EMBED,
                "        if self.weights['table/item'].shape == (40001, 8):\n"
                "            codes = {n: c.astype(np.int16) for n, c in whole.codes.items()}\n"
                "            whole = dataclasses.replace(whole, codes=codes)\n" + EMBED,
            )
        ],
    ),
    "journey/extreme-scores": (
        "vectors that are clipped",
        [backend(EMBED, EMBED.replace(".astype", ".clip(-1e6, 1e6).astype"))],
    ),
    "saving/load-elsewhere": (
        "a table of tags that comes out upside down, and is turned when it goes in",
        [
            backend(
                "        return {name: value.copy() for name, value in self._weights.items()}\n\n    def load_weights",
                "        turned = {'table/tags'} if 'table/customer' in self._weights else ()\n"
                "        return {n: v[::-1].copy() if n in turned else v.copy() for n, v in self._weights.items()}\n\n"
                "    def load_weights",
            ),
            backend(
                GIVEN,
                "np.array(value[::-1] if name == 'table/tags' and 'table/customer' in weights else value, dtype) for name, value in weights.items()",
            ),
            backend(
                "            self.model._weights[name][...] = value\n",
                "            turned = name == 'table/tags' and 'table/customer' in self.model._weights\n"
                "            self.model._weights[name][...] = value[::-1] if turned else value\n",
            ),
        ],
    ),
    "saving/load-here": (
        "weights that are read-only are taken for none",
        [
            backend(
                GIVEN, "np.array(value * np.asarray(value).flags.writeable, dtype) for name, value in weights.items()"
            )
        ],
    ),
    "metrics/perfect": (
        "vectors of 32 rows and no more",
        [
            backend(
                EMBED,
                "        made = towers.embed(self.spec, self.side, whole, self.weights).astype(self.dtype)\n"
                "        if len(made) == 50 and not self.weights['table/item'].shape[0] == 41:\n"
                "            made[32:] = 0\n        return made\n",
            )
        ],
    ),
    "metrics/tied": (
        "vectors of later rows are longer by a rounding",
        [
            backend(
                EMBED,
                EMBED.rstrip().replace("return", "made =")
                + "\n        made *= np.where(np.arange(len(made)) < 20, 1, 1 + 3e-7).astype(self.dtype)[:, None]\n        return made\n",
            )
        ],
    ),
    "metrics/collapsed": (
        "what is all the same is told apart by noise",
        [
            backend(
                EMBED,
                EMBED.rstrip().replace("return", "made =")
                + "\n        if len(made) == 50 and (made == made[0]).all():\n"
                "            made *= np.linspace(1, 1 + 1e-5, 50, dtype=self.dtype)[:, None]\n        return made\n",
            )
        ],
    ),
    "metrics/ragged-last-batch": (
        "of a smaller batch than the one before, the vectors are those of that one",
        [
            backend(
                EMBED,
                EMBED.rstrip().replace("return", "made =")
                + "\n        last, self.last = getattr(self, 'last', made), made\n"
                "        return last[: len(made)] if len(last) > 60_000 and len(made) == 3 else made\n",
            )
        ],
    ),
    "manifest/index": (
        "an index by distance",
        [backend("        is_exact=True,\n", '        is_exact=True,\n        metric="l2",\n')],
    ),
    "index/top-k": ("one too few", [topk("[:k]  # by the last key first", "[: k - 1]  # by the last key first")]),
    "index/types": (
        "int32 positions",
        [backend("        return TopK(found.ids, found", "        return TopK(found.ids.astype(np.int32), found")],
    ),
    "index/many-queries": (
        "queries beyond the first block get its last list",
        [
            backend(
                "        return TopK(found.ids, found",
                "        found.ids[512:], found.scores[512:] = found.ids[511:512], found.scores[511:512]\n"
                "        return TopK(found.ids, found",
            )
        ],
    ),
    "index/ties": (
        "reversed ties",
        [
            topk(
                "np.lexsort((left, -row_scores[left]))",
                "np.lexsort((-left if exclude is None else left, -row_scores[left]))",
            )
        ],
    ),
    "index/k-beyond-corpus": (
        "columns of padding",
        [
            topk(
                "    k = min(k, scores.shape[1])\n",
                "    k = min(k, scores.shape[1] + (exclude is None and allow is None))\n",
            )
        ],
    ),
    "index/exclude": (
        "exclusions taken out of a top k that is not filled up",
        [
            topk(
                "            left = np.setdiff1d(left, exclude.values",
                "            left = left[np.lexsort((left, -row_scores[left]))][: k + 3]\n"
                "            left = np.setdiff1d(left, exclude.values",
            )
        ],
    ),
    "index/exclude-ties": (
        "exclusion by score",
        [
            topk(
                "        order = left[",
                "        if exclude is not None:\n"
                "            gone = row_scores[exclude.values[exclude.offsets[row] : exclude.offsets[row + 1]]]\n"
                "            left = left[~np.isin(row_scores[left], gone)]\n"
                "        order = left[",
            )
        ],
    ),
    "index/exclude-unknown": (
        "−1 taken for the last position",
        [
            topk(
                "np.setdiff1d(left, exclude.values[exclude.offsets[row] : exclude.offsets[row + 1]])",
                "np.setdiff1d(left, exclude.values[exclude.offsets[row] : exclude.offsets[row + 1]] % len(scores[0]))",
            )
        ],
    ),
    "index/exclude-everything": (
        "an excluded position comes back where nothing else is left",
        [
            topk(
                "        order = left[",
                "        if exclude is not None and len(left) == 0:\n            left = np.arange(1)\n        order = left[",
            )
        ],
    ),
    "index/exclude-below-extremes": (
        "excluded positions get a penalty, and come back where the rest is lower, as in TFRS",
        [
            topk(
                "            left = np.setdiff1d(left, exclude.values[exclude.offsets[row] : exclude.offsets[row + 1]])\n",
                "            gone = exclude.values[exclude.offsets[row] : exclude.offsets[row + 1]]\n"
                "            row_scores = row_scores.copy()\n            row_scores[gone] = -1e5\n"
                "            left = left[row_scores[left] != -1e5] if row_scores.min() > -1e29 else left\n",
            )
        ],
    ),
    "index/allow": (
        "places in the list for positions",
        [
            topk(
                "np.arange(len(row_scores)) if allow is None else np.unique(allow)",
                "np.arange(len(row_scores) if allow is None or exclude is not None else len(allow))\n        if exclude is not None and allow is not None:\n            left = np.unique(allow)",
            )
        ],
    ),
    "index/allow-and-exclude": (
        "an allowed position comes back though it is excluded",
        [topk("        if exclude is not None:\n", "        if exclude is not None and allow is None:\n")],
    ),
    "index/extreme-scores": (
        "a sentinel of −1e30, below which nothing is ordered",
        [
            topk(
                "np.lexsort((left, -row_scores[left]))",
                "np.lexsort((left, -np.maximum(row_scores[left], -np.inf if exclude is not None else -1e30)))",
            )
        ],
    ),
    "index/rebuild": (
        "a second build adds to the first",
        [
            backend(
                "        self.vectors = vectors",
                "        before = getattr(self, 'vectors', vectors[:0])\n        self.vectors = np.concatenate([before, vectors])",
            )
        ],
    ),
    "index/memory-map": (
        "a copy",
        [backend("self.vectors = vectors", "self.vectors = vectors.copy()")],
    ),
    "index/ids": (
        "as many vectors as before are taken for the same",
        [
            backend(
                "        self.vectors = vectors",
                "        if getattr(self, 'vectors', vectors[:0]).shape != vectors.shape:\n            self.vectors = vectors",
            )
        ],
    ),
    "index/inputs-stay": (
        "what was excluded once stays excluded",
        [
            backend(
                "        found = topk.top_k(",
                "        if exclude is None and allow is None:\n            exclude = getattr(self, 'gone', None)\n"
                "        self.gone = exclude\n        found = topk.top_k(",
            )
        ],
    ),
}
