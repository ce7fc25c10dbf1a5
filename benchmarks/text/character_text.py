"""English text that is on every machine with CPython, in characters: the language reference inside ``pydoc``.

Some 700,000 characters of prose and code about Python. The last tenth is held out.
"""

from __future__ import annotations

import hashlib
from pydoc_data.topics import topics

import torch
from torch import Tensor


class CharacterText:
    """``train`` and ``held_out`` int64 (N,), the characters they stand for, and a digest that names the text."""

    def __init__(self) -> None:
        text = "\n\n".join(topics[name] for name in sorted(topics))
        self.characters = sorted(set(text))
        number = {character: index for index, character in enumerate(self.characters)}
        codes = torch.tensor([number[character] for character in text])
        cut = len(codes) * 9 // 10
        self.train, self.held_out = codes[:cut], codes[cut:]
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def vocab_size(self) -> int:
        """Characters that occur."""
        return len(self.characters)

    def batch(self, rows: int, length: int, generator: torch.Generator) -> Tensor:
        """Random windows of the training part, (rows, length + 1)."""
        starts = torch.randint(len(self.train) - length, (rows,), generator=generator)
        return torch.stack([self.train[start : start + length + 1] for start in starts.tolist()])

    def windows(self, length: int, characters: int) -> Tensor:
        """The held-out part cut in windows, (W, length + 1): the same ``characters`` are predicted at every length."""
        count = characters // length
        return torch.stack([self.held_out[i * length : (i + 1) * length + 1] for i in range(count)])

    def unigram_entropy(self) -> float:
        """Nats a character of the held-out part, predicted by the training part's frequencies."""
        counts = torch.bincount(self.train, minlength=self.vocab_size) + 1
        log_share = (counts / counts.sum()).log()
        return -log_share[self.held_out].mean().item()
