"""One trainer for every system: `Trainer(model, objective, batches, config, output_dir).fit()`.

Read `trainer.py` first; the other files are what it calls, one concern each.
"""

from multiway_core.training.checkpoints import load_ema_into, load_weights_into
from multiway_core.training.config import TrainConfig, learning_rate_at
from multiway_core.training.data import BatchSource
from multiway_core.training.optimizers import is_embedding_like
from multiway_core.training.trainer import (
    Loss,
    Objective,
    Trainer,
    TrainingDivergedError,
    TrainResult,
)

__all__ = [
    "BatchSource",
    "Loss",
    "Objective",
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "TrainingDivergedError",
    "is_embedding_like",
    "learning_rate_at",
    "load_ema_into",
    "load_weights_into",
]
