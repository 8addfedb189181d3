"""Biters of the checks of several workers."""

# ruff: noqa: E501  (lines of source are quoted as they stand)

from biters.edits import backend

STEP = "    def step(self, batch, learning_rate):\n"
SEVERAL = "        several = self.workers is not None and self.workers.size > 1\n"


def on_several(lines):
    """What a step does first where there are several workers."""
    return [backend(STEP, STEP + SEVERAL + "        if several:\n" + lines)]


BITERS = {
    "distributed/step": (
        "targets of the own part alone, and nothing is added up",
        on_several(
            "            weight = batch.task.get('sample_weight', np.ones(len(batch.task['target_query'])))\n"
            "            mine = np.arange(len(weight)) % self.workers.size == self.workers.rank\n"
            "            batch = dataclasses.replace(batch, task={**batch.task, 'sample_weight': weight * mine})\n"
        ),
    ),
    "distributed/clip-and-decay": (
        "the norm of a worker's part, by which less is clipped",
        on_several(
            "            if self.optimizer.clip_norm:\n"
            "                self.optimizer = dataclasses.replace(self.optimizer, clip_norm=self.optimizer.clip_norm * 1.1)\n"
        ),
    ),
    "distributed/negatives": (
        "a mask of scores that nobody shared out",
        on_several("            batch.task.pop('score_mask', None)\n"),
    ),
    "distributed/optimizers": (
        "a dense Adam that moves what was read alone",
        on_several(
            "            if getattr(self.optimizer, 'dense', False):\n"
            "                self.optimizer = dataclasses.replace(self.optimizer, dense=False)\n"
        ),
    ),
    "distributed/state": (
        "slots that stay behind where the number of workers changes",
        [
            backend(
                "        self._state = self._rounded(state)\n",
                "        if self.workers is not None and self.workers.size > 2:\n"
                "            state = {n: v * (n == 'step') for n, v in state.items()}\n"
                "        self._state = self._rounded(state)\n",
            )
        ],
    ),
}
