"""xTune's augmentations that change words: subword sampling and code-switching, and noise on word embeddings."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from multiway_core.errors import ConfigError, InputError
from multiway_core.tokenization import TextTokenizer
from torch import Tensor, nn

from multiway_text.encoder.word_tokens import tokens_of
from multiway_text.xtune.dictionaries import Dictionary

Kind = Literal["subword", "noise", "code-switch", "translation"]


@dataclass(frozen=True)
class Augmentation:
    """One way to change an example.

    Attributes:
        kind: ``subword`` draws the tokens of some words from a Unigram vocabulary, ``code-switch`` translates some by a
            dictionary, ``noise`` adds Gaussian noise to all word embeddings (`EmbeddingNoise`), ``translation`` takes
            a given translation in the example's place.
        ratio: the share of words that is chosen.
        alpha: subword: a segmentation is drawn in proportion to its probability to this power.
        dictionaries: code-switch: by language; each chosen word draws one of them.
    """

    kind: Kind
    ratio: float = 0.3
    alpha: float = 0.3
    dictionaries: Mapping[str, Dictionary] = field(default_factory=dict)

    def check(self, tokenizer: TextTokenizer) -> None:
        """Raises InputError (the vocabulary cannot be sampled from, no dictionary), ConfigError."""
        if not 0 <= self.ratio <= 1:
            raise ConfigError(f"the share of augmented words is between 0 and 1, not {self.ratio:g}")
        if self.kind == "subword":
            tokenizer.sample("a", self.alpha)
        if self.kind == "code-switch" and not self.dictionaries:
            raise InputError("code-switching needs a dictionary: MUSE's en-de.txt, or freedict-eng-deu.index")

    def new_tokens(
        self,
        tokenizer: TextTokenizer,
        words: Sequence[str],
        generator: torch.Generator,
        keep: Container[int] = (),
    ) -> dict[int, list[int]]:
        """{number of a word: its new tokens} of the words that are changed; those of ``keep`` are not."""
        if self.kind not in ("subword", "code-switch") or not words:
            return {}
        draws = torch.rand(len(words), generator=generator).tolist()
        chosen = [place for place, draw in enumerate(draws) if draw < self.ratio and place not in keep]
        if self.kind == "subword":
            found = {place: tokenizer.sample(words[place], self.alpha, generator) for place in chosen}
        else:
            translated = {place: self._translated(words[place], generator) for place in chosen}
            switched = {place: word for place, word in translated.items() if word is not None}
            pieces = tokens_of(tokenizer, list(switched.values()))
            found = dict(zip(switched, pieces, strict=True))
        return {place: ids for place, ids in found.items() if ids}

    def _translated(self, word: str, generator: torch.Generator) -> str | None:
        """A translation in a language drawn at random, with the marks around the word; None where there is none."""
        dictionaries = list(self.dictionaries.values())
        before, bare, after = re.fullmatch(r"(\W*)(.*?)(\W*)", word, re.DOTALL).groups()  # type: ignore[union-attr]
        found = dictionaries[_draw(len(dictionaries), generator)].get(bare.lower())
        return before + found[_draw(len(found), generator)] + after if found else None


def _draw(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


class EmbeddingNoise:
    """Adds N(0, std^2) to the word embeddings of chosen rows of a batch, as a hook on an embedding in training.

    ``rows_M``: bool, set before a pass and None behind it.
    """

    rows_M: Tensor | None = None

    def __init__(self, embedding: nn.Embedding, std: float) -> None:
        self.std = std
        embedding.register_forward_hook(self._add)

    def _add(self, module: nn.Module, inputs: object, output_MTE: Tensor) -> Tensor:
        if self.rows_M is None or not bool(self.rows_M.any()):
            return output_MTE
        return output_MTE + self.std * torch.randn_like(output_MTE) * self.rows_M[:, None, None]
