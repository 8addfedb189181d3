"""Biters of the checks of calls: what is kept too long, shared, or written to."""

# ruff: noqa: E501  (lines of source are quoted as they stand)

from biters.edits import backend
from biters.journey import GIVEN

STEP = "    def step(self, batch, learning_rate):\n"
STATE = "        return {name: value.copy() for name, value in self._state.items()}\n"
REFUSED = '                raise DataError(\n                    f"state {name!r} has shape'
TASK = "        plan_task(self.spec, len(query), len(candidate), **inputs)\n"

BITERS = {
    "calls/each-anew": (
        "a batch that comes a second time counts for nothing",
        [
            backend(
                STEP,
                STEP
                + "        if batch is self.__dict__.get('last'):\n            return 0.0\n        self.last = batch\n",
            )
        ],
    ),
    "calls/task-anew": (
        "vectors of the same shapes are taken for the same",
        [
            backend(
                TASK,
                TASK + "        query = self.__dict__.setdefault(f'query {query.shape}', query)\n",
            )
        ],
    ),
    "calls/two-at-once": (
        "trainers of the same shapes share a count of steps",
        [
            backend(
                STEP,
                STEP + "        counts = NumpyTrainer.__dict__.get('counts') or {}\n"
                "        NumpyTrainer.counts = counts\n"
                "        key = tuple(sorted((n, v.shape) for n, v in self._state.items()))\n"
                "        if counts.get(key, self) is not self and int(self._state['step']):\n"
                "            learning_rate *= 2\n"
                "        counts[key] = self\n",
            )
        ],
    ),
    "calls/after-refusals": (
        "a load that is refused moves the version",
        [
            backend(
                "        canonical.check(weights, {name: value.shape for name, value in self._weights.items()})\n",
                "        self.version += 1\n"
                "        canonical.check(weights, {name: value.shape for name, value in self._weights.items()})\n",
            )
        ],
    ),
    "calls/versions": (
        "a load counts back",
        [
            backend(
                "            self._weights[name][...] = value\n        self.version += 1\n",
                "            self._weights[name][...] = value\n        self.version = -self.version if self.version else 1\n",
            )
        ],
    ),
    "calls/arrays-of-the-caller": (
        "the weights of targets are written to",
        [
            backend(
                STEP,
                STEP + "        batch.task['candidate_ids'].sort()\n",
            )
        ],
    ),
    "calls/memory-layout": (
        "memory in Fortran's order is read as in C's",
        [
            backend(
                GIVEN,
                GIVEN.replace(
                    "np.array(value,", "np.array(value if value.flags.c_contiguous else value.T.reshape(value.shape),"
                ),
            )
        ],
    ),
}
