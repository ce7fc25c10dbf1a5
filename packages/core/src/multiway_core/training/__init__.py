"""One recipe form and one trainer for every system.

`run(recipe, options)` is what the `train` commands call: read `run.py` first. It calls
`Trainer(model, objective, batches, config, output_dir).fit()`; the other files are one concern each.
"""

from multiway_core.training.checkpoints import load_ema_into, load_weights_into
from multiway_core.training.config import TrainConfig, learning_rate_at
from multiway_core.training.data import BatchSource
from multiway_core.training.held_out import HeldOut, Score, loss_on
from multiway_core.training.objective import Loss, Objective
from multiway_core.training.optimizers import is_embedding_like
from multiway_core.training.options import TrainOptions
from multiway_core.training.run import Recipe, TrainJob, TrainReport, choose, run, seed_everything
from multiway_core.training.trainer import Trainer, TrainingDivergedError, TrainResult

__all__ = [
    "BatchSource",
    "HeldOut",
    "Loss",
    "Objective",
    "Recipe",
    "Score",
    "TrainConfig",
    "TrainJob",
    "TrainOptions",
    "TrainReport",
    "TrainResult",
    "Trainer",
    "TrainingDivergedError",
    "choose",
    "is_embedding_like",
    "learning_rate_at",
    "load_ema_into",
    "load_weights_into",
    "loss_on",
    "run",
    "seed_everything",
]
