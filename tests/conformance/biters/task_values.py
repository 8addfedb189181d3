"""Biters of the checks of the task far from 1."""

# ruff: noqa: E501  (lines of source are quoted as they stand)

from biters.edits import backend, task

SLOPES = "        slopes[r, negatives] += w[t] * np.exp(logits - log_sum)\n"
TAU = "float(np.exp(log_temperature))"

BITERS = {
    "task/large-score-gradients": (
        "no gradient by a score beyond 88",
        [task(SLOPES, SLOPES.replace("w[t] *", "(np.abs(logits) < 88) * w[t] *"))],
    ),
    "task/values": (
        "a learned temperature below 0.1 counts as 0.1",
        [task(TAU, "max(0.1, float(np.exp(log_temperature)))")],
    ),
    "task/float64": (
        "a task called alone counts in float32",
        [
            backend(
                "        result = task.loss_and_gradients(self.spec, query, candidate, bias, log_temperature, **inputs)\n",
                "        query, candidate = np.float32(query), np.float32(candidate)\n"
                "        result = task.loss_and_gradients(self.spec, query, candidate, bias, log_temperature, **inputs)\n",
            )
        ],
    ),
}
