"""What ``train`` knows: the encoder's fine-tuning on spans, a trial of it without data, RefQA, generators of twins."""

from dataclasses import replace
from typing import Any

from multiway_text.encoder.recipe import RECIPES as ENCODER
from multiway_text.ref_qa.recipe import RECIPES as REF_QA
from multiway_text.unans_qa.recipe import RECIPES as UNANSWERABLE

_SQUAD = ENCODER["extract"]
RECIPES: dict[str, Any] = {
    "squad": _SQUAD,
    # Half a minute on one core, on the documentation that comes with Python: shows that every part works.
    "smoke": replace(
        _SQUAD,
        base="",
        max_length=64,
        train=replace(_SQUAD.train, steps=60, warmup_steps=6, learning_rate=1e-3),
    ),
    **REF_QA,
    **UNANSWERABLE,
}
