"""The tasks of Kosmos-1: generation, choice by likelihood, Raven matrices, classification, chain of thought.

Shape suffixes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from multiway_core.errors import InputError
from multiway_core.generation import GenerationConfig, StaticKVCache, generate
from torch import Tensor

from multiway_vision_language.kosmos1 import processor as formats
from multiway_vision_language.kosmos1.class_names import OnlyNames
from multiway_vision_language.kosmos1.model import Kosmos1
from multiway_vision_language.kosmos1.processor import Document, Kosmos1Processor, Picture
from multiway_vision_language.kosmos2.generation import Decoding, Kosmos2Generator, Prefix


@dataclass(frozen=True)
class ChoiceScore:
    """One choice behind a prompt: its log-probability, summed and per token (the paper does not say which)."""

    text: str
    log_prob: float
    log_prob_per_token: float


@dataclass(frozen=True)
class Thought:
    """An answer of two-stage prompting with the description it rests on."""

    rationale: str
    answer: str


class Kosmos1Generator(Kosmos2Generator):
    """A model with its processor, for documents with pictures anywhere."""

    model: Kosmos1
    processor: Kosmos1Processor

    @torch.inference_mode()
    def read_documents(self, documents: Sequence[Document], *, room: int = 0) -> Prefix:
        """Read documents into a cache with ``room`` more slots a row. Raises :class:`InputError`."""
        pictures = formats.pictures_of(documents)
        images = self.model.encode_images(self.processor.pixels(pictures)) if pictures else None
        return self.prefill([self.processor.document(document) for document in documents], images, room=room)

    @torch.inference_mode()
    def extend_documents(self, prefix: Prefix, documents: Sequence[Document]) -> Prefix:
        """One prefix with each of many continuations, pictures included; the prefix stays as it is."""
        if len(prefix) != 1:
            raise InputError(f"a prefix of one row is continued many times, got {len(prefix)} rows")
        suffixes = [self.processor.document(document, begin=False) for document in documents]
        if not suffixes or not all(suffixes):
            raise InputError("nothing to read behind the prefix")
        pictures = formats.pictures_of(documents)
        images = self.model.encode_images(self.processor.pixels(pictures)) if pictures else None
        batch = self.processor.batch(suffixes).to(self.model.device)
        cache = self.model.text.new_cache(len(suffixes), prefix.cache.length + batch.tokens_BT.shape[1])
        cache.copy_from(prefix.cache, torch.zeros(len(suffixes), dtype=torch.long))
        hidden_BTE = self.model.hidden(
            batch.tokens_BT, batch.valid_BT, images=images, image_slots_BT=batch.image_slots_BT, cache=cache
        )
        return Prefix(cache, self.model.logits(hidden_BTE[:, -1]).float(), batch)

    def answer(self, document: Document, decoding: Decoding | None = None) -> str:
        """Continue a document until ``</s>``; the text behind it."""
        decoding = decoding or Decoding()
        prefix = self.read_documents([document], room=decoding.max_new_tokens)
        return self.processor.decode(self.generate(prefix, decoding)[0].ids).strip()

    def choose(self, document: Document, choices: Sequence[str]) -> list[ChoiceScore]:
        """Likelihood of every choice behind a document, in the order given; the document is read once.

        Choices are tokenized for themselves, so with the space before their first word.
        Raises :class:`InputError` for an empty choice.
        """
        if not choices or not all(choice.strip() for choice in choices):
            raise InputError("a choice is empty")
        prefix = self.read_documents([document])
        scores = self.score(prefix, [self.processor.encode(choice) for choice in choices])
        return [
            ChoiceScore(choice, sum(of_tokens), sum(of_tokens) / len(of_tokens))
            for choice, of_tokens in zip(choices, scores, strict=True)
        ]

    def classify(
        self, picture: Picture, names: Sequence[str], category: str, descriptions: Sequence[str] = ()
    ) -> str:
        """The likeliest of several class names, with descriptions of the classes in front (section 4.8)."""
        scores = self.choose(formats.classification(picture, category, descriptions), names)
        return max(scores, key=lambda score: score.log_prob).text

    def name(self, picture: Picture, names: Sequence[str], *, num_beams: int = 2) -> str:
        """The name that a beam search constrained to ``names`` writes behind "The photo of the" (section 4.7).

        Hypotheses are compared by their summed log-probability. Raises :class:`InputError` for an empty name.
        """
        encoded = {tuple(self.processor.encode(name)): name for name in names}
        longest = max((len(tokens) for tokens in encoded), default=0) + 1
        prefix = self.read_documents([[picture, formats.IMAGENET_PROMPT]], room=longest)
        config = GenerationConfig(
            max_new_tokens=longest,
            eos_token_ids=(self.tokens.eos,),
            pad_token_id=self.tokens.pad,
            num_beams=num_beams,
            length_penalty=0.0,
        )

        def decode(tokens_BT: Tensor, cache: StaticKVCache) -> Tensor:
            valid_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
            return self.model(tokens_BT, valid_BT, cache=cache)[:, -1].float()

        only = OnlyNames(list(encoded), self.tokens.eos)
        output = generate(decode, prefix.logits_BV, prefix.cache, config, [only])
        return encoded[tuple(token for token in output.tokens[0].tolist() if token != self.tokens.eos)]

    def think(self, picture: Picture, prompt: str, decoding: Decoding | None = None) -> Thought:
        """Two stages: describe the picture in detail, then the task with that description (section 4.6)."""
        rationale = self.answer([picture, formats.RATIONALE_PROMPT], decoding)
        told: Document = [picture, f"{formats.RATIONALE_PROMPT} {rationale} {prompt}"]
        return Thought(rationale, self.answer(told, decoding))

    def think_and_choose(
        self, picture: Picture, prompt: str, choices: Sequence[str], decoding: Decoding | None = None
    ) -> tuple[str, list[ChoiceScore]]:
        """As :meth:`think`, with the answer chosen by likelihood: the rationale and the scores."""
        rationale = self.answer([picture, formats.RATIONALE_PROMPT], decoding)
        return rationale, self.choose([picture, f"{formats.RATIONALE_PROMPT} {rationale} {prompt}"], choices)

    def solve_matrix(self, panels: Sequence[Picture], candidates: Sequence[Picture]) -> list[float]:
        """P("Yes") of every candidate for the missing panel, as the first word behind the question (section 4.3).

        The given panels are read once for all candidates.
        """
        prefix = self.read_documents([formats.raven_prefix(panels)])
        extended = self.extend_documents(prefix, [formats.raven_candidate(c) for c in candidates])
        return extended.logits_BV.softmax(dim=-1)[:, self.yes_token()].tolist()

    def yes_token(self) -> int:
        """Id of the first piece of ``Yes``, with the space before it. Raises InputError if ``No`` begins alike."""
        yes, no = (self.processor.encode(word)[0] for word in ("Yes", "No"))
        if yes == no:
            raise InputError("this tokenizer begins Yes and No with the same piece; P(Yes) has no meaning")
        return yes
