"""One experiment, as data: which interactions, which model, which settings. `recs train` writes it and repeats it.

`run.json` holds an `Experiment` under "run" and what came of it beside it.
"""

from recs_core.experiment.continued import continued
from recs_core.experiment.data import Parts, absolute, cut, load_data
from recs_core.experiment.execute import execute
from recs_core.experiment.model import build
from recs_core.experiment.outcome import Outcome
from recs_core.experiment.spec import PROTOCOLS, DataSpec, Experiment, ModelSpec

__all__ = [
    "PROTOCOLS",
    "DataSpec",
    "Experiment",
    "ModelSpec",
    "Outcome",
    "Parts",
    "absolute",
    "build",
    "continued",
    "cut",
    "execute",
    "load_data",
]
