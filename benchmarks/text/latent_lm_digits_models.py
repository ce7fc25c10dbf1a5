"""What LatentLM is compared with on digits: a diffusion transformer on the same latents, and a model of VQ tokens.

Shape suffixes: B pictures, N latents of a picture, D latent size, E hidden size.
"""

from __future__ import annotations

import torch
from multiway_blocks.attention import Attention
from multiway_blocks.diffusion import CosineSchedule
from multiway_blocks.diffusion_solver import DiffusionSolver
from multiway_blocks.feedforward import FeedForward
from multiway_text.decoders.latent_lm.tokenizer import PictureTokenizer
from multiway_text.decoders.llama.config import LlamaConfig
from multiway_text.decoders.llama.model import Llama
from torch import Tensor, nn

CLASSES = 10


class DiTBlock(nn.Module):
    """A transformer block whose norms are modulated by time and class (Peebles & Xie 2023, adaLN-Zero)."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.attention = Attention(hidden_size, num_heads, bias=True)
        self.feedforward = FeedForward(hidden_size, 4 * hidden_size)
        self.modulation = nn.Linear(hidden_size, 6 * hidden_size)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x_BNE: Tensor, condition_BE: Tensor) -> Tensor:
        parts = self.modulation(condition_BE)[:, None].chunk(6, dim=-1)
        shift, scale, gate, shift2, scale2, gate2 = parts
        normed = nn.functional.layer_norm(x_BNE, x_BNE.shape[-1:])
        x_BNE = x_BNE + gate * self.attention(normed * (1 + scale) + shift)
        normed = nn.functional.layer_norm(x_BNE, x_BNE.shape[-1:])
        return x_BNE + gate2 * self.feedforward(normed * (1 + scale2) + shift2)


class DiT(nn.Module):
    """All latents of a picture are denoised together, at one time; the last class is "none"."""

    def __init__(
        self, latent_size: int, num_latents: int, hidden_size: int, num_layers: int, num_heads: int
    ) -> None:
        super().__init__()
        self.input = nn.Linear(latent_size, hidden_size)
        self.positions = nn.Parameter(0.02 * torch.randn(num_latents, hidden_size))
        self.classes = nn.Embedding(CLASSES + 1, hidden_size)
        nn.init.normal_(self.classes.weight, std=0.02)
        self.times = nn.Sequential(nn.Linear(64, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size))
        self.blocks = nn.ModuleList(DiTBlock(hidden_size, num_heads) for _ in range(num_layers))
        self.modulation = nn.Linear(hidden_size, 2 * hidden_size)
        self.output = nn.Linear(hidden_size, latent_size)
        for layer in (self.modulation, self.output):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.schedule = CosineSchedule()
        self.latent_size, self.num_latents = latent_size, num_latents
        # Normalization of latents, as LatentLM's.
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("bias", torch.tensor(0.0))

    def forward(self, x_BND: Tensor, times_B: Tensor, classes_B: Tensor) -> Tensor:
        """Velocity (B, N, D)."""
        rates = torch.exp(torch.arange(32) * (-9.21 / 32))
        angles = times_B[:, None].float() * rates
        code = self.times(torch.cat([angles.cos(), angles.sin()], dim=-1))
        condition_BE = nn.functional.silu(code + self.classes(classes_B))
        x_BNE = self.input(x_BND) + self.positions
        for block in self.blocks:
            x_BNE = block(x_BNE, condition_BE)
        shift, scale = self.modulation(condition_BE)[:, None].chunk(2, dim=-1)
        x_BNE = nn.functional.layer_norm(x_BNE, x_BNE.shape[-1:])
        return self.output(x_BNE * (1 + scale) + shift)

    def loss(self, latents_BND: Tensor, classes_B: Tensor) -> Tensor:
        """Mean squared error of velocities, normalized latents, one time a picture."""
        flat = latents_BND.flatten(1)
        times, noise = torch.randint(self.schedule.num_steps, (len(flat),)), torch.randn_like(flat)
        noisy = self.schedule.add_noise(flat, noise, times).view_as(latents_BND)
        target = self.schedule.velocity(flat, noise, times).view_as(latents_BND)
        return nn.functional.mse_loss(self(noisy, times, classes_B), target)

    @torch.no_grad()
    def sample(self, classes_B: Tensor, *, steps: int, guidance: float, seed: int) -> Tensor:
        """Raw latents (B, N, D) by DPM-Solver++ of order 2; both contexts in one batch, as LatentLM."""
        solver, count = DiffusionSolver(self.schedule, steps), len(classes_B)
        both = torch.cat([classes_B, torch.full_like(classes_B, CLASSES)])

        def velocity(x: Tensor, step: int) -> Tensor:
            x_BND, time = x.view(count, self.num_latents, -1), solver.times_S[step]
            if guidance == 1:
                return self(x_BND, time.expand(count), classes_B).flatten(1)
            known, unknown = self(x_BND.repeat(2, 1, 1), time.expand(2 * count), both).chunk(2)
            return (unknown + guidance * (known - unknown)).flatten(1)

        noise = torch.randn(
            count, self.num_latents * self.latent_size, generator=torch.Generator().manual_seed(seed)
        )
        return solver.sample(velocity, noise).view(count, self.num_latents, -1) / self.scale - self.bias


class VQTokenizer(nn.Module):
    """The picture tokenizer with a codebook in the place of noise (van den Oord et al. 2017)."""

    def __init__(self, tokenizer: PictureTokenizer, num_codes: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.codes = nn.Parameter(torch.randn(num_codes, tokenizer.config.latent_size))

    def nearest(self, means_BND: Tensor) -> Tensor:
        """Indices (B, N)."""
        return torch.cdist(means_BND.flatten(0, 1), self.codes).argmin(dim=-1).view(means_BND.shape[:2])

    def loss(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and squared error; codes that no picture of the batch uses are pulled to random means."""
        means = self.tokenizer.encode(pixels_BCHW).mean_BND
        chosen = self.nearest(means)
        codes = self.codes[chosen]
        found = self.tokenizer.decode(means + (codes - means).detach())
        error = nn.functional.mse_loss(found, pixels_BCHW)
        unused = torch.bincount(chosen.flatten(), minlength=len(self.codes)) == 0
        flat = means.detach().flatten(0, 1)
        lonely = flat[torch.randint(len(flat), (int(unused.sum()),))]
        pull = nn.functional.mse_loss(self.codes[unused], lonely) if len(lonely) else 0.0
        book = nn.functional.mse_loss(codes, means.detach())
        commitment = nn.functional.mse_loss(means, codes.detach())
        return error + book + 0.25 * commitment + 0.1 * pull, error


class VQModel(nn.Module):
    """A causal Transformer of [class, code, code ...]; the last class is "none"."""

    def __init__(
        self, num_codes: int, hidden_size: int, num_layers: int, num_heads: int, inner_size: int
    ) -> None:
        super().__init__()
        self.num_codes = num_codes
        self.model = Llama(
            LlamaConfig(
                hidden_size=hidden_size,
                num_layers=num_layers,
                num_heads=num_heads,
                num_kv_heads=num_heads,
                head_dim=hidden_size // num_heads,
                inner_size=inner_size,
                vocab_size=num_codes + CLASSES + 1,
                rope_theta=10_000.0,
                tied_embeddings=False,
            )
        )
        nn.init.normal_(self.model.embedding.weight, std=0.02)

    def loss(self, codes_BN: Tensor, classes_B: Tensor) -> Tensor:
        """Mean cross-entropy of the codes."""
        tokens = torch.cat([classes_B[:, None] + self.num_codes, codes_BN], dim=1)
        logits = self.model(tokens[:, :-1])[..., : self.num_codes]
        return nn.functional.cross_entropy(logits.flatten(0, 1), codes_BN.flatten())

    @torch.no_grad()
    def sample(self, classes_B: Tensor, num_latents: int, *, guidance: float, seed: int) -> Tensor:
        """Codes (B, N) at a temperature of 1, logits guided as ``none + guidance (class - none)``."""
        generator, count = torch.Generator().manual_seed(seed), len(classes_B)
        tokens = torch.cat([classes_B, torch.full_like(classes_B, CLASSES)])[:, None] + self.num_codes
        tokens = tokens if guidance != 1 else tokens[:count]
        cache = self.model.new_cache(len(tokens), num_latents)
        found = []
        for _ in range(num_latents):
            logits = self.model.decode(tokens, cache)[:, : self.num_codes]
            if guidance != 1:
                known, unknown = logits.chunk(2)
                logits = unknown + guidance * (known - unknown)
            code = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)
            found.append(code)
            tokens = code.repeat(len(tokens) // count, 1)
        return torch.cat(found, dim=1)
