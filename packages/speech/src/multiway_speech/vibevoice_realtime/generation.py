"""The generation loop of VibeVoice-Realtime: windows of text tokens and of speech frames in turn; one row.

Text may come from an iterator that is still being written: a window is read as soon as its tokens are there. Guidance's
second context hears the speech and knows neither text nor voice; both hear a frame in one batch.

Shape suffixes: B contexts (with and without text), T positions, E hidden size, D latent size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from multiway_blocks.causal_conv import StreamState
from multiway_blocks.diffusion_solver import DiffusionSolver
from multiway_blocks.guided_sampling import LatentSampler
from multiway_core.errors import InputError
from multiway_core.generation import StaticKVCache
from torch import Tensor

from multiway_speech.vibevoice.generation import SpeechGenerationConfig
from multiway_speech.vibevoice_realtime.model import VibeVoiceRealtime
from multiway_speech.vibevoice_realtime.voices import RealtimeVoice


@dataclass(frozen=True)
class RealtimeStep:
    """A frame: float32 (hop,) of sound; ``ended`` is "eos" or "length" in the last one."""

    audio: Tensor
    ended: str | None = None


class RealtimeGenerator:
    """Speaks one text at a time. ``config.max_frames`` counts frames of sound."""

    def __init__(self, model: VibeVoiceRealtime, config: SpeechGenerationConfig) -> None:
        self.model = model
        self.config = config
        self.solver = DiffusionSolver(
            model.schedule, config.diffusion_steps, order=2, stochastic=config.stochastic
        )

    @torch.no_grad()
    def stream(self, tokens: Iterable[int], voice: RealtimeVoice) -> Iterator[RealtimeStep]:
        """Yield frames until the model ends its speech. Raises :class:`InputError` when its positions are used up."""
        model, config = self.model, self.model.config
        device = model.embedding.weight.device
        words = iter(tokens)
        lower, upper, negative_1E = self._begin(voice)
        sample = LatentSampler(model.head, self.solver, self.config.guidance)
        generator, sound = torch.Generator().manual_seed(self.config.seed), StreamState(1)
        positive_1E: Tensor | None = None
        spoken = 0
        while True:
            window = list(islice(words, config.text_window))
            if window:
                self._require(upper, len(window))
                positive_1E = self._read(torch.tensor([window], device=device), lower, upper)
            if positive_1E is None:
                raise InputError("there is no text to speak")
            for _ in range(config.speech_window):
                self._require(upper, 1)
                hidden_BE = torch.cat([positive_1E, negative_1E])
                latent_1D = sample(hidden_BE, partial(self.draw_noise, generator)).to(hidden_BE)
                wave_11T = model.acoustic.decoder(model.denormalize(latent_1D)[:, None], sound)
                hidden_BE = model.hear(latent_1D.repeat(2, 1)[:, None], upper)[:, -1]
                positive_1E, negative_1E = hidden_BE[:1], hidden_BE[1:]
                spoken += 1
                ended = "eos" if bool(model.end(positive_1E)[0] > 0) else None
                if ended is None and spoken == self.config.max_frames:
                    ended = "length"
                yield RealtimeStep(wave_11T[0, 0].float().cpu(), ended)
                if ended:
                    return

    def draw_noise(self, generator: torch.Generator) -> Tensor:
        """Standard normal (1, D) on the CPU."""
        return torch.randn(1, self.model.config.acoustic.latent_size, generator=generator)

    def _begin(self, voice: RealtimeVoice) -> tuple[StaticKVCache, StaticKVCache, Tensor]:
        """Caches that hold the voice (row 1 of the upper one: the second context), and that context's last state."""
        model = self.model
        length = model.config.text.max_positions
        lower = model.lower.new_cache(1, length, model.embedding.weight)
        upper = model.upper.new_cache(2, length, model.embedding.weight)
        voice.fill(lower, upper)
        return lower, upper, voice.negative_1E.to(model.embedding.weight)

    def _read(self, tokens_1T: Tensor, lower: StaticKVCache, upper: StaticKVCache) -> Tensor:
        """Let the first context read; the second one's slots are taken back. The last state (1, E)."""
        hidden_BTE = self.model.read(tokens_1T, lower, upper)
        forgotten_BT = torch.zeros(2, tokens_1T.shape[1], dtype=torch.bool, device=tokens_1T.device)
        forgotten_BT[1] = True
        upper.invalidate(forgotten_BT)
        return hidden_BTE[:1, -1]

    def _require(self, cache: StaticKVCache, positions: int) -> None:
        if cache.length + positions > cache.max_length:
            raise InputError(
                f"the model's {cache.max_length} positions are used up; divide the text and speak its parts one by one"
            )
