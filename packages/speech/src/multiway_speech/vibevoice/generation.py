"""The generation loop: next-token diffusion with guidance, as a stream of waveforms (arXiv 2508.19205, section 2.2).

In every step the language model chooses a control token for each row; where that is the frame token, the diffusion
head samples a latent, the decoder turns it into a frame of sound, and what was heard is the row's next input.

Guidance needs a second context that knows the speech but neither script nor voices. Both contexts of all rows are one
batch here, since a step costs what reading the weights costs; a step in which a row does not speak is taken back from
its second context.

Shape suffixes: B rows still speaking, R rows of the language model (2 B with guidance), N rows that speak in this step,
E hidden size, D latent size, S diffusion steps, T prompt tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from multiway_blocks.causal_conv import StreamState
from multiway_blocks.diffusion_solver import DiffusionSolver
from multiway_blocks.guided_sampling import LatentSampler
from multiway_core.errors import ConfigError, InputError
from multiway_core.generation import StaticKVCache
from torch import Tensor

from multiway_speech.vibevoice.model import VibeVoice
from multiway_speech.vibevoice.next_token import FreeNextToken, NextToken, ScriptedNextToken


@dataclass(frozen=True)
class SpeechGenerationConfig:
    """How to generate. Raises ConfigError when a value is out of range.

    Attributes:
        max_frames: most frames (control tokens included) of a row.
        guidance: weight of classifier-free guidance; 1 is none, and costs half as much.
        diffusion_steps: evaluations of the head for a latent.
        stochastic: the solver adds fresh noise in every step.
        temperature: spread of the noise a latent begins as; the model learnt 1, and below it says what is likelier.
        seed: row i of a batch draws from seed + i.
    """

    max_frames: int
    guidance: float = 1.3
    diffusion_steps: int = 10
    stochastic: bool = False
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "temperature": (0 <= self.temperature <= 2, "from 0 to 2"),
            "max_frames": (self.max_frames >= 1, "at least 1"),
            "guidance": (0 <= self.guidance <= 20, "from 0 to 20"),
            "diffusion_steps": (1 <= self.diffusion_steps <= 500, "from 1 to 500"),
        }
        for name, (good, wanted) in limits.items():
            if not good:
                raise ConfigError(f"speaking: {name} must be {wanted}, not {getattr(self, name)}")


@dataclass(frozen=True)
class SpeechGenerationStep:
    """One step, by original row.

    Attributes:
        step: index from 0.
        audio: row -> float32 (hop,) of new sound, for rows that spoke.
        tokens: row -> the id of what was chosen.
        ended: row -> "eos" or "length", for rows that end with this step.
    """

    step: int
    audio: dict[int, Tensor]
    tokens: dict[int, int]
    ended: dict[int, str]


class SpeechGenerator:
    """Speaks a batch of prompts."""

    def __init__(self, model: VibeVoice, config: SpeechGenerationConfig) -> None:
        self.model = model
        self.config = config
        self.solver = DiffusionSolver(
            model.schedule, config.diffusion_steps, order=2, stochastic=config.stochastic
        )

    @torch.no_grad()
    def stream(
        self,
        prompts: Sequence[Tensor],
        voices_ND: Tensor | None = None,
        phone_scripts: Sequence[Tensor] | None = None,
    ) -> Iterator[SpeechGenerationStep]:
        """Yield every step until all rows have ended.

        Args:
            prompts: int64 (T,) token ids a row, the last of them the start token.
            voices_ND: raw latents of all frame tokens in the prompts, in order.
            phone_scripts: int64 (T,) ids a row that a model writes along its speech, if it is one that does.

        Raises :class:`InputError` when a prompt and ``max_frames`` do not fit the model's positions.
        """
        model, tokens = self.model, self.model.config.tokens
        cache, start_BE = self._read(prompts, voices_ND)
        device = start_BE.device
        sample = LatentSampler(model.head, self.solver, self.config.guidance)
        following: NextToken = (
            FreeNextToken(model) if phone_scripts is None else ScriptedNextToken(model, phone_scripts)
        )
        acoustic, semantic = StreamState(len(prompts)), StreamState(len(prompts))
        rows = list(range(len(prompts)))
        generators = [torch.Generator().manual_seed(self.config.seed + row) for row in rows]
        x_BE = start_BE
        for step in range(self.config.max_frames):
            positive_BE, negative_BE = self._advance(x_BE, cache)
            chosen_B = following.choose(positive_BE)
            self._correct_second_context(cache, chosen_B)
            x_BE = following.embed(chosen_B)
            speaking_N = (chosen_B == tokens.frame).nonzero()[:, 0]
            audio: dict[int, Tensor] = {}
            if len(speaking_N):
                draw = partial(self.draw_noise, [generators[i] for i in speaking_N.tolist()])
                contexts = (positive_BE,) if negative_BE is None else (positive_BE, negative_BE)
                hidden_RE = torch.cat([context_BE[speaking_N] for context_BE in contexts])
                latents_ND = sample(hidden_RE, draw).to(hidden_RE.dtype)
                waves_NT, heard_NE = self._hear(latents_ND, speaking_N, acoustic, semantic)
                x_BE[speaking_N] = heard_NE
                audio = {rows[i]: w for i, w in zip(speaking_N.tolist(), waves_NT.float().cpu(), strict=True)}
            self.end_segments(chosen_B == tokens.end, acoustic, semantic)
            finished_B = (chosen_B == tokens.eos).cpu()
            ended = {rows[i]: "eos" for i in finished_B.nonzero()[:, 0].tolist()}
            if step + 1 == self.config.max_frames:
                ended |= {row: "length" for row in rows if row not in ended}
            yield SpeechGenerationStep(step, audio, dict(zip(rows, chosen_B.tolist(), strict=True)), ended)
            if len(ended) == len(rows):
                return
            if ended:
                kept = (~finished_B).nonzero()[:, 0]
                copies = 1 if negative_BE is None else 2
                cache.select(torch.cat([kept + copy * len(rows) for copy in range(copies)]))
                following.select(kept.tolist())
                rows, generators = ([items[i] for i in kept.tolist()] for items in (rows, generators))
                kept = kept.to(device)
                x_BE, acoustic, semantic = x_BE[kept], acoustic.take(kept), semantic.take(kept)

    def draw_noise(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Normal (N, D) on the CPU, each row from its own generator: batch mates do not matter."""
        size = self.model.config.acoustic.latent_size
        noise_ND = torch.stack([torch.randn(size, generator=generator) for generator in generators])
        return self.config.temperature * noise_ND

    def end_segments(self, ended_B: Tensor, acoustic: StreamState, semantic: StreamState) -> None:
        """Where the end token was chosen, the next speech begins in silence."""
        if bool(ended_B.any()):
            acoustic.reset(ended_B)
            semantic.reset(ended_B)

    def _read(self, prompts: Sequence[Tensor], voices_ND: Tensor | None) -> tuple[StaticKVCache, Tensor]:
        """A cache that holds the prompts but for their start tokens, and the embedding (B, E) of those."""
        model, config = self.model, self.config
        start = model.config.tokens.start
        if not prompts or any(len(prompt) < 2 or int(prompt[-1]) != start for prompt in prompts):
            raise InputError("a prompt is a sequence of tokens that ends with the start token")
        longest = max(len(prompt) for prompt in prompts)
        tokens_BT = torch.full((len(prompts), longest), model.config.tokens.eos)
        valid_BT = torch.zeros_like(tokens_BT, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            tokens_BT[row, longest - len(prompt) :] = prompt
            valid_BT[row, longest - len(prompt) :] = True
        device = model.language_model.embedding.weight.device
        tokens_BT, valid_BT = tokens_BT.to(device), valid_BT.to(device)
        cache = model.language_model.new_cache(len(prompts), longest + config.max_frames)
        x_BTE = model.embed_prompt(tokens_BT, voices_ND)
        model.language_model.read(x_BTE[:, :-1], valid_BT[:, :-1], cache)
        if config.guidance != 1:
            cache.select(torch.arange(len(prompts)).repeat(2))
            forgotten = torch.zeros(2 * len(prompts), cache.length, dtype=torch.bool, device=device)
            forgotten[len(prompts) :] = True
            cache.invalidate(forgotten)
        return cache, x_BTE[:, -1]

    def _advance(self, x_BE: Tensor, cache: StaticKVCache) -> tuple[Tensor, Tensor | None]:
        """Hidden states (B, E) of the contexts with and without the script."""
        guided = cache.batch_size > len(x_BE)
        x_R1E = x_BE.repeat(2 if guided else 1, 1)[:, None]
        valid_R1 = torch.ones(len(x_R1E), 1, dtype=torch.bool, device=x_BE.device)
        hidden_RE = self.model.language_model.decoder(x_R1E, valid_R1, cache)[:, -1]
        return (hidden_RE[: len(x_BE)], hidden_RE[len(x_BE) :]) if guided else (hidden_RE, None)

    def _correct_second_context(self, cache: StaticKVCache, chosen_B: Tensor) -> None:
        """Take this step back where no frame was chosen, and everything where speech starts anew."""
        if cache.batch_size == len(chosen_B):
            return
        tokens = self.model.config.tokens
        silent_B = chosen_B != tokens.frame
        if not bool(silent_B.any()):
            return
        forgotten_RT = torch.zeros(cache.batch_size, cache.length, dtype=torch.bool, device=chosen_B.device)
        forgotten_RT[len(chosen_B) :, -1] = silent_B
        forgotten_RT[len(chosen_B) :] |= (chosen_B == tokens.start)[:, None]
        cache.invalidate(forgotten_RT)

    def _hear(
        self, latents_ND: Tensor, speaking_N: Tensor, acoustic: StreamState, semantic: StreamState
    ) -> tuple[Tensor, Tensor]:
        """Sound (N, hop) of the latents, and the inputs (N, E) that tell the language model of it."""
        model = self.model
        heard_NE = model.acoustic_connector(latents_ND)
        with _rows(acoustic, speaking_N) as part:
            wave_N1T = model.acoustic.decoder(model.denormalize(latents_ND)[:, None], part)
        if model.config.semantic is not None:
            with _rows(semantic, speaking_N) as part:
                heard_NE = heard_NE + model.semantic_connector(model.semantic(wave_N1T, part)[:, 0])
        return wave_N1T[:, 0], heard_NE


@contextmanager
def _rows(state: StreamState, rows_N: Tensor) -> Iterator[StreamState]:
    """The state of some rows, put back at the end."""
    part = state.take(rows_N)
    yield part
    state.put(rows_N, part)
