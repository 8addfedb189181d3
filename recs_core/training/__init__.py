"""Training: the loop, its callbacks, and what it remembers."""

from recs_core.training.callbacks import Callback, StopTraining, check_callbacks
from recs_core.training.early_stopping import Best, EarlyStopping
from recs_core.training.history import EpochRecord, EpochStart, FitStart, Position, StepRecord, TrainingHistory
from recs_core.training.keras_callbacks import adapted, check_keras
from recs_core.training.loop import Loop
from recs_core.training.rate import Rate
from recs_core.training.run import FitRun, facts

__all__ = [
    "Best",
    "Callback",
    "EarlyStopping",
    "EpochRecord",
    "EpochStart",
    "FitRun",
    "FitStart",
    "Loop",
    "Position",
    "Rate",
    "StepRecord",
    "StopTraining",
    "TrainingHistory",
    "adapted",
    "check_callbacks",
    "check_keras",
    "facts",
]
