"""Biters of checks/journey.py: what a user does from end to end, saving, and metrics."""

# ruff: noqa: E501  (lines of source are quoted as they stand)

from biters.edits import EMBED, backend

GIVEN = "np.array(value, dtype) for name, value in weights.items()"

BITERS = {
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
        "vectors of candidates are clipped",
        [
            backend(
                EMBED,
                "        most = 1e6 if self.side == 'candidate' else np.inf\n"
                + EMBED.replace(".astype", ".clip(-most, most).astype"),
            )
        ],
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
        "slots of customers that a load leaves as they were",
        [
            backend(
                "        self._state = self._rounded(state)\n",
                "        kept = {n: v for n, v in self._state.items() if n.startswith('table/customer/')}\n"
                "        self._state = self._rounded(state) | kept\n",
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
                + "\n        made *= np.where(np.arange(len(made)) < 20, 1, 1 + 2 * np.finfo(self.dtype).eps).astype(self.dtype)[:, None]\n        return made\n",
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
}
