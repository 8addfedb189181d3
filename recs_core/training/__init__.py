"""Training: the loop, its callbacks, and what it remembers."""

from recs_core.training.callbacks import Callback, StopTraining, check_callbacks
from recs_core.training.early_stopping import Best, EarlyStopping
from recs_core.training.history import EpochRecord, FitStart, Position, StepRecord, TrainingHistory
from recs_core.training.loop import Loop
from recs_core.training.run import FitRun, facts

__all__ = [
    "Best",
    "Callback",
    "EarlyStopping",
    "EpochRecord",
    "FitRun",
    "FitStart",
    "Loop",
    "Position",
    "StepRecord",
    "StopTraining",
    "TrainingHistory",
    "check_callbacks",
    "facts",
]
