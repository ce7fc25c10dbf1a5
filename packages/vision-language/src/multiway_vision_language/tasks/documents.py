"""Kosmos-1 and MetaLM by the app's verbs: their folders, and captions, answers and classes in words."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from multiway_core import checkpoint, config, files
from multiway_core.errors import CheckpointError, InputError
from multiway_core.generation import GenerationConfig, generate
from multiway_core.tokenization import TextTokenizer
from PIL import Image

from multiway_vision_language.kosmos1 import processor as kosmos1_formats
from multiway_vision_language.kosmos1.inference import Kosmos1Generator
from multiway_vision_language.kosmos1.model import Kosmos1
from multiway_vision_language.kosmos1.processor import Kosmos1Processor
from multiway_vision_language.kosmos2.config import Kosmos2Config
from multiway_vision_language.kosmos2.generation import Decoding
from multiway_vision_language.metalm import processor as metalm_formats
from multiway_vision_language.metalm.config import MetaLMConfig
from multiway_vision_language.metalm.model import MetaLM
from multiway_vision_language.metalm.processor import Document, MetaLMProcessor
from multiway_vision_language.pictures import PictureSource, open_picture
from multiway_vision_language.result import Grounding, LabelScore

KOSMOS_1, METALM = "kosmos-1", "metalm"
"""``model_type`` of their folders' ``config.json``."""
LONGEST = 32
"""Tokens that are written at most."""


@dataclass(frozen=True)
class Marks:
    """Ids of MetaLM's tokenizer: what a document begins with, what fills rows, what ends an answer."""

    bos: int
    pad: int
    eos: int


class Writer(ABC):
    """A model that writes behind a picture and words, and says how likely given words are there."""

    kind: str
    caption_start = ""
    """What a caption begins with; the model writes the rest."""
    model: Kosmos1 | MetaLM
    tokenizer: TextTokenizer

    @abstractmethod
    def caption(self, image: Image.Image) -> str:
        """What the model writes behind its prompt for captions."""

    @abstractmethod
    def answer(self, image: Image.Image, question: str) -> str:
        """What the model writes behind a question."""

    @abstractmethod
    def log_probs(self, image: Image.Image, names: Sequence[str]) -> list[float]:
        """Log-probability of each name behind the prompt for names."""


class Kosmos1Writer(Writer):
    """Kosmos-1 with the prompts of its paper."""

    kind, caption_start = KOSMOS_1, f"{kosmos1_formats.CAPTION_PROMPT} "

    def __init__(self, generator: Kosmos1Generator) -> None:
        self.generator, self.model = generator, generator.model
        self.tokenizer = generator.processor.tokenizer

    def caption(self, image: Image.Image) -> str:
        return self.generator.answer(kosmos1_formats.caption(image), Decoding(max_new_tokens=LONGEST))

    def answer(self, image: Image.Image, question: str) -> str:
        asked = kosmos1_formats.question(image, question)
        return self.generator.answer(asked, Decoding(max_new_tokens=LONGEST))

    def log_probs(self, image: Image.Image, names: Sequence[str]) -> list[float]:
        found = self.generator.choose([image, kosmos1_formats.IMAGENET_PROMPT], names)
        return [score.log_prob for score in found]


class MetaLMWriter(Writer):
    """MetaLM with the prompts of its paper; names are judged behind a question. ``eos`` ends an answer."""

    kind = METALM
    model: MetaLM

    def __init__(self, model: MetaLM, processor: MetaLMProcessor, *, eos: int) -> None:
        self.model, self.processor, self.eos = model, processor, eos
        self.tokenizer = processor.tokenizer

    def caption(self, image: Image.Image) -> str:
        return self._write(metalm_formats.caption(image))

    def answer(self, image: Image.Image, question: str) -> str:
        return self._write(metalm_formats.question(image, question))

    @torch.inference_mode()
    def log_probs(self, image: Image.Image, names: Sequence[str]) -> list[float]:
        prompt = metalm_formats.question(image, "what is it?")
        scores = []
        for name in names:
            ids = self.tokenizer.encode(name)
            tokens_T = torch.tensor(ids, device=self._device)
            logits_BTV = self._logits([*prompt, name])[:, -len(ids) - 1 : -1]
            scores.append(float(logits_BTV[0].log_softmax(-1).gather(1, tokens_T[:, None]).sum()))
        return scores

    @torch.inference_mode()
    def _write(self, document: Document) -> str:
        cache = self.model.new_cache(1, self._length(document) + LONGEST)
        first_BV = self._logits(document, cache=cache)[:, -1]
        settings = GenerationConfig(
            max_new_tokens=LONGEST,
            eos_token_ids=(self.eos,),
            pad_token_id=self.processor.pad,
            no_repeat_ngram_size=3,
        )
        (ids,) = generate(self.model.decode, first_BV, cache, settings).tokens
        return self.tokenizer.decode(ids.tolist()).strip()

    def _length(self, document: Document) -> int:
        return self.processor.batch([document]).tokens_BT.shape[1]

    def _logits(self, document: Document, **more: Any) -> torch.Tensor:
        inputs = self.processor.batch([document])
        pixels = inputs.pixels_PCHW
        return self.model(
            inputs.tokens_BT.to(self._device),
            inputs.valid_BT.to(self._device),
            inputs.spans,
            pixels_PCHW=None
            if pixels is None
            else pixels.to(self._device, self.model.embedding.weight.dtype),
            picture_spans=inputs.picture_spans,
            **more,
        ).float()

    @property
    def _device(self) -> torch.device:
        return self.model.embedding.weight.device


class DocumentPipeline:
    """Captions, answers and classes of one such model; it finds no places."""

    knows_absence = False

    def __init__(self, name: str, writer: Writer) -> None:
        self.name, self.writer = name, writer

    def caption(self, picture: PictureSource, **options: Any) -> Grounding:
        """What the picture shows, in words, without places."""
        opened = open_picture(picture)
        text = f"{self.writer.caption_start}{self.writer.caption(opened.image)}".strip()
        return Grounding(opened.source, self.name, opened.width, opened.height, text, ())

    def ask(self, picture: PictureSource, question: str, **options: Any) -> Grounding:
        """What the model writes behind the question."""
        if not question.strip():
            raise InputError("there are no words to read with the picture")
        opened = open_picture(picture)
        text = self.writer.answer(opened.image, question)
        return Grounding(opened.source, self.name, opened.width, opened.height, text, ())

    def classify(
        self, picture: PictureSource, names: Sequence[str] = (), *, top: int = 5
    ) -> list[LabelScore]:
        """The likeliest of the names, which are judged by the likelihood of all their tokens, best first.

        Raises InputError: there are no names, or an empty one.
        """
        if not names or not all(name.strip() for name in names):
            raise InputError(f"{self.name} has no classes of its own; give their names behind the picture")
        scores = torch.tensor(self.writer.log_probs(open_picture(picture).image, names)).softmax(0)
        best = scores.argsort(descending=True).tolist()
        return [LabelScore(names[index], float(scores[index])) for index in best[:top]]

    def locate(self, *arguments: Any, **options: Any) -> NoReturn:
        """Raises InputError: such models find no places."""
        raise InputError(f"{self.name} finds no places in pictures; bundled:grounding-small does")

    describe = prompt = locate


def save(writer: Writer, folder: Path) -> None:
    """Write ``config.json``, tensors and tokenizer. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(writer.model, folder)
    writer.tokenizer.save(folder)
    content: dict[str, Any] = {"model_type": writer.kind, "sizes": config.to_dict(writer.model.config)}
    if isinstance(writer, MetaLMWriter):
        marks = Marks(writer.processor.bos, writer.processor.pad, writer.eos)
        content["tokens"] = config.to_dict(marks)
    files.write_text(folder / "config.json", json.dumps(content, indent=2) + "\n")


def load(folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Writer:
    """What :func:`save` wrote, in evaluation mode. Raises ConfigError, CheckpointError."""
    path = folder / "config.json"
    found = config.read_json(path)
    kind, sizes, where = found.get("model_type"), found.get("sizes", {}), f"{path}: sizes"
    if kind not in (KOSMOS_1, METALM):
        raise CheckpointError(f"{path}: model_type is {kind!r}, expected {KOSMOS_1!r} or {METALM!r}")
    tokenizer = TextTokenizer.from_folder(folder)
    network: Any
    with checkpoint.on_meta():
        if kind == KOSMOS_1:
            network = Kosmos1(config.from_dict(Kosmos2Config, sizes, where=where))
        else:
            network = MetaLM(config.from_dict(MetaLMConfig, sizes, where=where))
    checkpoint.load(network, folder, dtype=dtype, device=device)
    network = network.to(device).eval()
    if kind == KOSMOS_1:
        return Kosmos1Writer(Kosmos1Generator(network, Kosmos1Processor(network.config, tokenizer)))
    marks = config.from_dict(Marks, found.get("tokens", {}), where=f"{path}: tokens")
    return MetaLMWriter(
        network, MetaLMProcessor(network.config, tokenizer, bos=marks.bos, pad=marks.pad), eos=marks.eos
    )
