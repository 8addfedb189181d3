"""Biters of the checks of calls: what is kept too long, shared, or written to."""

# ruff: noqa: E501  (lines of source are quoted as they stand)

from biters.edits import backend
from biters.journey import GIVEN

STEP = "    def step(self, batch, learning_rate):\n"
END_OF_STEP = "        self._state = self._rounded(result.state)\n        return result.loss\n"
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
        "where another trainer has stepped in between, a step is twice as long",
        [
            backend(
                STEP,
                STEP + "        if self.__dict__.get('stepped') and NumpyTrainer.last is not self:\n"
                "            learning_rate *= 2\n"
                "        self.stepped, NumpyTrainer.last = True, self\n",
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
        "a step leaves the ids of its candidates sorted",
        [backend(END_OF_STEP, "        batch.task['candidate_ids'].sort()\n" + END_OF_STEP)],
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
