"""The ``train`` and ``prepare`` commands."""

from __future__ import annotations

from pathlib import Path

from multiway_core.app import ModelOptions, load_pipeline, pick_device
from multiway_core.errors import InputError

from multiway_news_recommendation.app import APP
from multiway_news_recommendation.loading import tell_bad_rows


def train_recommender(
    data: Path,
    output: Path,
    *,
    preset: str,
    text: str = "tfidf",
    epochs: float | None = None,
    minutes: float | None = None,
    init_from: Path | None = None,
    skip_bad_rows: bool = False,
    device: str = "auto",
    seed: int = 0,
) -> Path:
    """Run ``multiway_recsys.recipe.train`` on the train split; the folder of the model that it wrote.

    Raises:
        InputError: no such preset or folder, or the training extra is not installed.
        DataError: the data are bad.
    """
    if init_from is not None and not init_from.is_dir():
        raise InputError(f"--init-from {init_from}: no such folder")
    try:
        from multiway_recsys import recipe
        from multiway_recsys.glocim.config import PRESETS
    except ModuleNotFoundError as error:
        raise InputError(
            f"training needs {error.name}: pip install 'multiway-news-recommendation[training]'"
        ) from error
    from multiway_recsys.data.mind import read_folder
    from multiway_recsys.serving.folder import About

    if preset not in PRESETS:
        raise InputError(f"--preset {preset}: there are {', '.join(PRESETS)}")
    found = read_folder(data, "train", skip_bad_rows=skip_bad_rows)
    tell_bad_rows(found)
    return recipe.train(
        found,
        output,
        preset=preset,
        seed=seed,
        epochs=epochs,
        minutes=minutes,
        device=str(pick_device(device)),
        init_from=init_from,
        text="minilm" if text == "minilm" else "tfidf",
        about=About(source=data.name, simulated=_is_simulated(data)),
        on_judged=lambda step, steps, auc: APP.note(
            f"step {step} of {steps}: AUC {auc:.4f} on held-out impressions"
        ),
    )


def prepare_model(model: Path, device: str) -> Path:
    """Store vectors and index in a model folder. Raises InputError: it is no folder."""
    if not model.is_dir():
        raise InputError(f"{model}: no such folder; give one that train wrote")
    load_pipeline(APP, ModelOptions(str(model), device)).store(model)
    return model / "serving"


def _is_simulated(data: Path) -> bool:
    """Whether a folder is one that ``simulate`` wrote (it has the truth beside the log)."""
    return any((folder / "truth" / "portal.json").is_file() for folder in (data, data.parent))
