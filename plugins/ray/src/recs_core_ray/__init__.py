"""recs-core on a Ray cluster: training by Ray Train, which starts workers anew, and answers by Ray Data."""

from recs_core_ray.answers import recommend
from recs_core_ray.training import fit

__all__ = ["fit", "recommend"]
