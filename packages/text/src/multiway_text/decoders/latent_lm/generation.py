"""Generation: text tokens by sampling, latents by next-token diffusion with guidance (arXiv 2412.08635, section 2.3).

Each step of a row either chooses a text token or, between <BOD> and <EOD>, samples a latent: the diffusion head walks
from noise to a latent under the hidden state, and the latent is the row's next input. With guidance every row has a
second context in the same batch, in which text is ``null``; both are given the same latents and tokens.

Shape suffixes: B rows still going, R rows of the Transformer (2 B with guidance), N rows that sample a latent in this
step, E hidden size, D latent size, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from multiway_blocks.diffusion_solver import DiffusionSolver
from multiway_blocks.guided_sampling import LatentSampler
from multiway_core.errors import InputError
from multiway_core.generation import StaticKVCache
from torch import Tensor

from multiway_text.decoders.latent_lm.model import LatentLM


@dataclass(frozen=True)
class SamplingConfig:
    """How to generate. Raises InputError when a value is out of range.

    Attributes:
        max_tokens: most new tokens of a row, latents among them.
        guidance: weight of classifier-free guidance; 1 is none, and costs half as much.
        steps: evaluations of the head for a latent.
        sampler: "dpm" is DPM-Solver++ of order 2; "ddpm" the ancestral sampler, which adds noise in every step.
        span_length: latents of every span, such as a picture's; None: the model says when it ends.
        temperature: of text tokens; 0 takes the likeliest.
        seed: row i of a batch draws from seed + i.
    """

    max_tokens: int
    guidance: float = 4.0
    steps: int = 20
    sampler: Literal["dpm", "ddpm"] = "dpm"
    span_length: int | None = None
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "max_tokens": (self.max_tokens >= 1, "at least 1"),
            "guidance": (math.isfinite(self.guidance) and 0 <= self.guidance <= 100, "from 0 to 100"),
            "steps": (self.steps >= 1, "at least 1"),
            "sampler": (self.sampler in ("dpm", "ddpm"), "'dpm' or 'ddpm'"),
            "span_length": (self.span_length is None or self.span_length >= 1, "at least 1, or None"),
            "temperature": (math.isfinite(self.temperature) and self.temperature >= 0, "at least 0"),
        }
        for name, (good, wanted) in limits.items():
            if not good:
                raise InputError(f"sampling: {name} must be {wanted}, not {getattr(self, name)!r}")


@dataclass(frozen=True)
class Generated:
    """What one row became, without its prompt.

    Attributes:
        tokens: ids, ``latent`` in the place of each latent.
        latents_ND: float32, raw (as the tokenizer's decoder takes them).
        ended: "eos" or "length".
    """

    tokens: list[int]
    latents_ND: Tensor
    ended: Literal["eos", "length"]


class Generator:
    """Continues prompts."""

    def __init__(self, model: LatentLM, config: SamplingConfig) -> None:
        if config.steps >= model.schedule.num_steps:
            raise InputError(
                f"sampling: steps must be below the {model.schedule.num_steps} of the schedule, not {config.steps}"
            )
        self.model = model
        self.config = config
        noisy = config.sampler == "ddpm"
        self.solver = DiffusionSolver(model.schedule, config.steps, order=1 if noisy else 2, stochastic=noisy)

    @torch.no_grad()
    def generate(self, prompts: Sequence[Tensor], latents_ND: Tensor | None = None) -> list[Generated]:
        """Continue ``prompts``, int64 (T,) each, that may hold latents (normalized, of all prompts in order).

        A row's result does not depend on its batch mates. Raises InputError for an empty prompt, ids outside the
        vocabulary, and weights that give values that are not finite.
        """
        model, config, ids = self.model, self.config, self.model.config.tokens
        rows = _Rows(prompts, config.seed)
        cache, hidden_RE = self._read(prompts, latents_ND)
        sample = LatentSampler(model.diffusion_head, self.solver, config.guidance)
        in_span = [_is_open(prompt.tolist(), ids.begin, ids.end) for prompt in prompts]
        for _ in range(config.max_tokens):
            if not bool(torch.isfinite(hidden_RE).all()):
                raise InputError("the model gives hidden states that are not finite; its weights are damaged")
            count = len(rows.active)
            chosen = self._choose(model.logits(hidden_RE[:count]).float(), in_span, rows)
            chosen_B = torch.tensor(chosen, device=hidden_RE.device)
            x_RE = model.embedding(self._second(chosen_B))
            sampling = [index for index, token in enumerate(chosen) if token == ids.latent]
            if sampling:
                at_R = torch.tensor(sampling, device=hidden_RE.device)
                at_R = torch.cat([at_R, at_R + count]) if len(hidden_RE) > count else at_R
                latents = sample(hidden_RE[at_R], partial(self._draw, [rows.noise[i] for i in sampling]))
                x_RE[at_R] = model.latent_input(latents.to(x_RE.dtype)).repeat(len(at_R) // len(sampling), 1)
                rows.keep_latents(sampling, model.denormalize(latents).float().cpu())
            rows.keep_tokens(chosen)
            for index, token in enumerate(chosen):
                in_span[index] = token in (ids.begin, ids.latent)
            kept = [index for index, token in enumerate(chosen) if token != ids.eos]
            if len(kept) < count:
                rows.end(set(range(count)) - set(kept))
                in_span = [in_span[index] for index in kept]
                at_R = torch.tensor(kept, dtype=torch.long, device=hidden_RE.device)
                at_R = torch.cat([at_R, at_R + count]) if len(hidden_RE) > count else at_R
                cache.select(at_R)
                x_RE = x_RE[at_R]
            if not kept or cache.length == cache.max_length:
                break
            hidden_RE = model.decoder(x_RE[:, None], cache=cache)[:, -1]
        return rows.results(model.config.latent_size)

    def _read(self, prompts: Sequence[Tensor], latents_ND: Tensor | None) -> tuple[StaticKVCache, Tensor]:
        """A cache that holds the prompts, and their last hidden states (R, E)."""
        model, ids = self.model, self.model.config.tokens
        vocabulary = model.config.vocab_size
        for row, prompt in enumerate(prompts):
            if not len(prompt):
                raise InputError(f"prompt {row} is empty; it needs a token at least, such as <BOD>")
            if int(prompt.min()) < 0 or int(prompt.max()) >= vocabulary:
                raise InputError(f"prompt {row} has a token id outside 0 to {vocabulary - 1}")
        if not prompts:
            raise InputError("there is no prompt")
        device = model.embedding.weight.device
        longest = max(len(prompt) for prompt in prompts)
        tokens_BT = torch.full((len(prompts), longest), ids.null)
        valid_BT = torch.zeros_like(tokens_BT, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            tokens_BT[row, longest - len(prompt) :] = prompt
            valid_BT[row, longest - len(prompt) :] = True
        tokens_RT = self._second(tokens_BT.to(device))
        copies = len(tokens_RT) // len(prompts)
        if latents_ND is not None:
            latents_ND = latents_ND.to(device).repeat(copies, 1)
        cache = model.new_cache(len(tokens_RT), longest + self.config.max_tokens)
        x_RTE = model.embed(tokens_RT, latents_ND)
        return cache, model.decoder(x_RTE, valid_BT.to(device).repeat(copies, 1), cache)[:, -1]

    def _second(self, tokens_BT: Tensor) -> Tensor:
        """Tokens of both contexts, (2 B, ...), or of the first alone without guidance."""
        if self.config.guidance == 1:
            return tokens_BT
        ids = self.model.config.tokens
        return torch.cat([tokens_BT, torch.where(tokens_BT >= ids.first_text, ids.null, tokens_BT)])

    def _choose(self, logits_BV: Tensor, in_span: Sequence[bool], rows: _Rows) -> list[int]:
        """The next token of each row: in a span ``latent`` or ``end``, else any but those two and ``null``."""
        ids, config = self.model.config.tokens, self.config
        outside_BV = logits_BV.clone()
        outside_BV[:, [ids.latent, ids.end, ids.null]] = -math.inf
        ends = (logits_BV[:, ids.end] > logits_BV[:, ids.latent]).tolist()
        likeliest = outside_BV.argmax(dim=-1).tolist()
        chosen = []
        for index, inside in enumerate(in_span):
            if inside:
                over = ends[index]
                if config.span_length is not None:
                    over = rows.latents_of_span(index, ids.latent) >= config.span_length
                chosen.append(ids.end if over else ids.latent)
            elif config.temperature > 0:
                weights = (outside_BV[index] / config.temperature).softmax(dim=-1).cpu()
                chosen.append(int(torch.multinomial(weights, 1, generator=rows.noise[index])))
            else:
                chosen.append(likeliest[index])
        return chosen

    def _draw(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Standard normal (N, D), each row from its own generator."""
        size = self.model.config.latent_size
        return torch.stack([torch.randn(size, generator=generator) for generator in generators])


class _Rows:
    """What belongs to each row while others end."""

    def __init__(self, prompts: Sequence[Tensor], seed: int) -> None:
        self.prompts = [prompt.tolist() for prompt in prompts]
        self.active = list(range(len(prompts)))
        """Original rows of those still going."""
        self.noise = [torch.Generator().manual_seed(seed + row) for row in self.active]
        self.tokens: list[list[int]] = [[] for _ in prompts]
        self.latents: list[list[Tensor]] = [[] for _ in prompts]
        self.ended = ["length"] * len(prompts)

    def latents_of_span(self, index: int, latent: int) -> int:
        """Latents at the end of an active row."""
        row, count = self.active[index], 0
        for token in reversed(self.prompts[row] + self.tokens[row]):
            if token != latent:
                break
            count += 1
        return count

    def keep_tokens(self, chosen: Sequence[int]) -> None:
        for row, token in zip(self.active, chosen, strict=True):
            self.tokens[row].append(token)

    def keep_latents(self, indices: Sequence[int], latents_ND: Tensor) -> None:
        for index, latent in zip(indices, latents_ND, strict=True):
            self.latents[self.active[index]].append(latent)

    def end(self, indices: set[int]) -> None:
        for index in indices:
            self.ended[self.active[index]] = "eos"
        self.active = [row for index, row in enumerate(self.active) if index not in indices]
        self.noise = [noise for index, noise in enumerate(self.noise) if index not in indices]

    def results(self, latent_size: int) -> list[Generated]:
        found = []
        for tokens, latents, ended in zip(self.tokens, self.latents, self.ended, strict=True):
            stacked = torch.stack(latents) if latents else torch.zeros(0, latent_size)
            found.append(Generated(tokens, stacked, "eos" if ended == "eos" else "length"))
        return found


def _is_open(tokens: Sequence[int], begin: int, end: int) -> bool:
    """Whether the last delimiter of a prompt begins a span."""
    marks = [token for token in tokens if token in (begin, end)]
    return bool(marks) and marks[-1] == begin
