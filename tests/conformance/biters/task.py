"""Biters of the checks of the task."""

# ruff: noqa: E501  (lines of source are quoted as they stand)

from biters.edits import backend, task

LOSS_AND_GRADIENTS = (
    "        result = task.loss_and_gradients(self.spec, query, candidate, bias, log_temperature, **inputs)\n"
)
MASK_LINE = "        out &= ids != ids[p]"

BITERS = {
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
    "task/positives-shared": (
        "query r has the positives of row r, whoever they belong to",
        [
            task(
                "        positives = positives.take(np.asarray(positives_row))\n",
                "        positives = positives.take(np.arange(len(x)) % len(positives.lengths))\n",
            )
        ],
    ),
    "task/score-mask": (
        "True drops",
        [task("        out &= np.asarray(score_mask)[r]", "        out &= ~np.asarray(score_mask)[r]")],
    ),
    "task/uncorrected": (
        "corrected as a draw is",
        [task("np.where(np.arange(len(y)) < drawn, correction, 0)", "correction")],
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
    "task/pairs": (
        "accidental hits stay where known positives are masked",
        [task(MASK_LINE, "        out &= (ids != ids[p]) | (positives is not None)")],
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
}
