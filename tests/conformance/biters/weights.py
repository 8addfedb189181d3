"""Biters of checks/weights.py."""

# ruff: noqa: E501  (lines of source are quoted as they stand)

from biters.edits import backend

BITERS = {
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
}
