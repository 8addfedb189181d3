"""Biters of the checks of sizes."""

from biters.edits import backend, task, towers

FORWARD = "    x = concatenated(tower, side, features, weights)\n"
LOSSES = "        losses[t] = log_sum - z\n"

BITERS = {
    "towers/large": (
        "bags that end after 255 codes",
        [towers("return [codes.values[a:b] for a, b in", "return [codes.values[max(a, b - 255) : b] for a, b in")],
    ),
    "towers/codes-beyond-2-24": (
        "codes by way of float32",
        [
            towers(
                "    return [np.asarray([code]) for code in codes]",
                "    return [np.asarray([code]).astype(np.float32).astype(np.int64) for code in codes]",
            )
        ],
    ),
    "training/large-gradients": (
        "the gradient of a kernel counts 256 rows",
        [
            towers(
                'gradients[f"{side}/dense_{i}/kernel"] = trace.inputs[i].T @ gradient',
                "rows = 256 if len(tower.layers) == 5 and gradient.shape[0] == 300 else len(gradient)\n"
                '        gradients[f"{side}/dense_{i}/kernel"] = trace.inputs[i][:rows].T @ gradient[:rows]',
            )
        ],
    ),
    "training/large": (
        "rows of slots in 16 bits, beside weights that are right",
        [
            backend(
                "        self._state = self._rounded(result.state)\n        return",
                "        for name, value in result.state.items():\n"
                "            if value.ndim:\n                value[2**15 :] = self._state[name][2**15 :]\n"
                "        self._state = self._rounded(result.state)\n        return",
            )
        ],
    ),
    "task/large": (
        "targets beyond 1,024 do not count",
        [task(LOSSES, LOSSES + "        losses[t] *= not 1024 <= t < 2000\n")],
    ),
    "task/long": (
        "targets beyond 32,768 do not count",
        [task(LOSSES, LOSSES + "        losses[t] *= t < 2**15\n")],
    ),
    "training/long-gradients": (
        "the gradient of a kernel counts 65,536 rows",
        [
            towers(
                'gradients[f"{side}/dense_{i}/kernel"] = trace.inputs[i].T @ gradient',
                'gradients[f"{side}/dense_{i}/kernel"] = trace.inputs[i][: 2**16].T @ gradient[: 2**16]',
            )
        ],
    ),
    "task/one-beside-many": (
        "after a large batch a small one counts for less",
        [
            backend(
                "        return result.loss\n\n\nclass NumpyModel",
                "        self.most = max(len(query), getattr(self, 'most', 0))\n"
                "        return result.loss * (1 if self.most < 100 else len(query) / self.most)\n\n\nclass NumpyModel",
            )
        ],
    ),
}
