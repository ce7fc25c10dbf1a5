"""How to decode: one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass

from multiway_core.errors import ConfigError


@dataclass(frozen=True)
class GenerationConfig:
    """Decoding options. Raises ConfigError when a value is out of range.

    Attributes:
        max_new_tokens: most tokens per row, a final end-of-sequence token included.
        eos_token_ids: tokens that end a row.
        pad_token_id: stands in `StepEvent.tokens_B` for rows that emit nothing.
        temperature: 0 takes the likeliest token; above 0 samples from softmax(logits / temperature).
        top_k: sample from the k likeliest tokens only; 0 for all.
        top_p: sample from the smallest set of tokens whose probability reaches p (nucleus); 1 for all.
        num_beams: hypotheses per row in beam search; 1 for none.
        length_penalty: a finished hypothesis scores log p / length ** length_penalty, so above 0 favours long
            ones.
        no_repeat_ngram_size: no n-gram of generated tokens occurs twice; 0 allows it.
        seed: row i of a batch samples from seed + i; None takes a seed from torch's global generator.
    """

    max_new_tokens: int
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    num_beams: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        limits = {
            "max_new_tokens": (self.max_new_tokens >= 0, "at least 0"),
            "temperature": (0 <= self.temperature < float("inf"), "at least 0"),
            "top_k": (self.top_k >= 0, "at least 0"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "num_beams": (self.num_beams >= 1, "at least 1"),
            "no_repeat_ngram_size": (self.no_repeat_ngram_size >= 0, "at least 0"),
        }
        for name, (good, wanted) in limits.items():
            if not good:
                raise ConfigError(f"generation: {name} must be {wanted}, not {getattr(self, name)}")
        if self.num_beams > 1 and self.temperature > 0:
            raise ConfigError(
                "generation: beam search does not sample; set temperature to 0 or num_beams to 1"
            )
