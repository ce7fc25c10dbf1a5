"""The model that a run uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multiway_core.app import pick_device, pick_dtype

if TYPE_CHECKING:
    from multiway_text.language_model import LanguageModel
    from multiway_text.sampling import RecommendedSampling, SamplingOptions

BUNDLED_MODEL = "bundled:lm-tiny"
PROGRAM = "multiway-lm"
CHAT_TEMPERATURE = 0.7


def load_model(name: str = BUNDLED_MODEL, device: str = "auto", dtype: str = "auto") -> LanguageModel:
    """``bundled:NAME``, a folder, a GGUF file or a hub id. Raises ModelNotFoundError, CheckpointError, InputError."""
    chosen_device, chosen_dtype = pick_device(device), pick_dtype(dtype)
    from multiway_text.language_model import LanguageModel

    return LanguageModel.from_pretrained(name, device=chosen_device, dtype=chosen_dtype)


@dataclass(frozen=True)
class Sampling:
    """What the command line says about sampling; None is "not said"."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def options(
        self, defaults: RecommendedSampling, *, temperature: float = 0.0, **more: Any
    ) -> SamplingOptions:
        """Options: what was said, else what the checkpoint's authors recommend, else plain."""
        from multiway_text.sampling import SamplingOptions

        def first(name: str, otherwise: Any) -> Any:
            said, recommended = getattr(self, name), getattr(defaults, name)
            return said if said is not None else recommended if recommended is not None else otherwise

        return SamplingOptions(
            max_tokens=self.max_tokens,
            temperature=first("temperature", temperature),
            top_k=first("top_k", 0),
            top_p=first("top_p", 1.0),
            repetition_penalty=first("repetition_penalty", 1.0),
            stop=self.stop,
            seed=self.seed,
            **more,
        )
