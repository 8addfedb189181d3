"""TorchRS's API, correct: change `from torchrs import …` to `from recs_core_torch.torchrs import …`.

A thin face over this plugin: the loss is `recs_core_torch.RetrievalTask`, top-k and metrics are recs-core's exact ones.
What behaves differently, and why, is in the README of recs-core-torch.
"""

from recs_core_torch.torchrs import data, metrics, models, tasks

__all__ = ["data", "metrics", "models", "tasks"]
