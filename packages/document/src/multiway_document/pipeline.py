"""Reading a page, from picture to result: the one path of the commands, the demo, the evaluation and
Python users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from multiway_core import checkpoint as tensors
from multiway_core import hub
from multiway_core.errors import InputError
from multiway_core.generation import GenerationConfig, GenerationOutput, StaticKVCache, generate
from PIL import Image

from multiway_document.kosmos2_5 import checkpoint
from multiway_document.kosmos2_5.guard import ocr_guard, text_guard
from multiway_document.kosmos2_5.line_reader import LINE_READER_FILE, LineReader, read_lines
from multiway_document.kosmos2_5.model import Kosmos25, Patches
from multiway_document.kosmos2_5.processor import Picture, Processor
from multiway_document.kosmos2_5.tokenizer import FileTokenizer
from multiway_document.markdown_layout import lines_to_markdown
from multiway_document.result import Line, Page
from multiway_document.segmentation import crop_line, find_lines, prepare

Task = Literal["ocr", "markdown"]
Engine = Literal["fast", "full"]

LOW_CONFIDENCE = 0.5
LINES_PER_EVENT = 8  # how many lines the fast engine reads between two events of a stream


class OcrPipeline:
    """Reads pages with one model.

    ``engine="fast"`` finds the lines of a page and reads each in one pass of the encoder and the line reader;
    only models that have a line reader (the bundled one) can. ``engine="full"`` is KOSMOS-2.5 as published:
    the whole page goes through the encoder and the decoder writes lines with boxes, or markdown.
    """

    def __init__(
        self, model: Kosmos25, processor: Processor, *, name: str, line_reader: LineReader | None = None
    ) -> None:
        self.model = model
        self.processor = processor
        self.name = name
        self.line_reader = line_reader

    @classmethod
    def from_pretrained(
        cls,
        name: str = "bundled:ocr-small",
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        revision: str | None = None,
    ) -> OcrPipeline:
        """Load ``bundled:NAME``, a local folder, or a hub id such as ``microsoft/kosmos-2.5``.

        ``dtype`` is float32 by default on a CPU and bfloat16 elsewhere. Raises :class:`ModelNotFoundError` or
        :class:`CheckpointError`.
        """
        folder = hub.resolve(name, revision=revision)
        if dtype is None:
            dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
        model = checkpoint.load(folder, dtype=dtype, device=device)
        tokenizer = FileTokenizer.from_folder(folder, model.config.tokens)
        line_reader = _load_line_reader(folder, model, device, dtype)
        return cls(model, Processor(model.config, tokenizer), name=name, line_reader=line_reader)

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines this model has, best default first."""
        return ("fast", "full") if self.line_reader is not None else ("full",)

    def __call__(
        self, image: Image.Image | np.ndarray, *, task: Task = "ocr", engine: Engine | None = None
    ) -> Page:
        """Read one page (RGB or grey, uint8); lines are in reading order, boxes in pixels of ``image``."""
        page: Page | None = None
        for event in self.stream(image, task=task, engine=engine):
            if isinstance(event, Page):
                page = event
        assert page is not None
        return page

    def stream(
        self, image: Image.Image | np.ndarray, *, task: Task = "ocr", engine: Engine | None = None
    ) -> Iterator[Line | Page]:
        """As calling, but yields each line as soon as it is read, and the whole page last."""
        if task not in get_args(Task):
            raise InputError(f"unknown task {task!r}; there are: {', '.join(get_args(Task))}")
        engine = engine or self.engines[0]
        if engine not in self.engines:
            raise InputError(f"{self.name} has no {engine!r} engine; it has: {', '.join(self.engines)}")
        array = np.asarray(image.convert("RGB")) if isinstance(image, Image.Image) else np.asarray(image)
        if engine == "fast":
            return self._read_lines(array, task)
        return self._write_page(array, task)

    def ask(self, image: Image.Image | np.ndarray, question: str, *, max_new_tokens: int = 256) -> str:
        """Answer a question about a page (KOSMOS-2.5-CHAT weights; section 2.4 of the paper)."""
        return self.ask_all(image, [question], max_new_tokens=max_new_tokens)[0]

    @torch.inference_mode()
    def ask_all(
        self, image: Image.Image | np.ndarray, questions: Sequence[str], *, max_new_tokens: int = 256
    ) -> list[str]:
        """Answer questions about one page; the page is encoded and read into the cache once."""
        if not questions or not all(question.strip() for question in questions):
            raise InputError("a question is empty; ask something about the page")
        picture = self.processor.picture(image)
        prompts = [self.processor.chat_prompt(question) for question in questions]
        longest = max(len(prompt) for prompt in prompts)
        cache = self._cache(1, longest, max_new_tokens)
        embeddings = self.model.embed_images(self._patches([picture]))
        # The prefix without a prompt: `</image>` is its last token, and every question goes on from there.
        self.model.prefill(embeddings, self._tokens([[]]), cache)
        prefix = cache.length
        answers = []
        for prompt in prompts:
            cache.truncate(prefix)
            first = self.model.decode(self._tokens([prompt]), cache)
            output = generate(self.model.decode, first, cache, self._config(max_new_tokens))
            answers.append(self.processor.tokenizer.decode(output.tokens[0].tolist()).strip())
        return answers

    # -- fast: line by line, without autoregression

    def _read_lines(self, image: np.ndarray, task: Task) -> Iterator[Line | Page]:
        assert self.line_reader is not None
        height, width = image.shape[:2]
        prepared = prepare(image)
        regions = find_lines(prepared)
        lines: list[Line] = []
        kept = []
        for start in range(0, len(regions), LINES_PER_EVENT):
            part = regions[start : start + LINES_PER_EVENT]
            readings = read_lines(
                self.model, self.line_reader, [crop_line(prepared, region) for region in part]
            )
            for region, reading in zip(part, readings, strict=True):
                text = reading.text.strip()
                if not text:
                    continue
                flags = ("low_confidence",) if reading.confidence < LOW_CONFIDENCE else ()
                line = Line(text, prepared.to_source(region.box), reading.confidence, flags)
                lines.append(line)
                kept.append(region)
                yield line
        markdown = lines_to_markdown(kept, [line.text for line in lines]) if task == "markdown" else None
        yield Page(index=0, width=width, height=height, lines=tuple(lines), markdown=markdown)

    # -- full: the published way

    @torch.inference_mode()
    def _write_page(self, image: np.ndarray, task: Task) -> Iterator[Line | Page]:
        height, width = image.shape[:2]
        picture = self.processor.picture(image)
        prompt = self.processor.ocr_prompt() if task == "ocr" else self.processor.markdown_prompt()
        room = self.model.config.text.max_positions - (self.model.config.num_queries + 3) - len(prompt)
        cache = self._cache(1, len(prompt), room)
        first = self.model.prefill(
            self.model.embed_images(self._patches([picture])), self._tokens([prompt]), cache
        )
        guard = ocr_guard(self.processor) if task == "ocr" else text_guard(self.processor)
        output = generate(self.model.decode, first, cache, self._config(room), processors=guard)
        page = Page(
            index=0,
            width=width,
            height=height,
            lines=(),
            truncated=output.stop_reasons[0] == "length",
            looped=output.stop_reasons[0].startswith("stopped"),
        )
        tokens = output.tokens[0].tolist()
        if task == "markdown":
            yield replace(page, markdown=self.processor.markdown(tokens))
            return
        lines = self._lines(tokens, output, picture)
        yield from lines
        yield replace(page, lines=tuple(lines))

    def _lines(self, tokens: list[int], output: GenerationOutput, picture: Picture) -> list[Line]:
        probabilities = output.log_probs[0].exp().tolist()
        return [
            self.processor.to_source(line, picture, sum(probabilities[start:end]) / (end - start))
            for line, (start, end) in self.processor.parse_lines_with_spans(tokens)
        ]

    def _cache(self, rows: int, prompt: int, new_tokens: int) -> StaticKVCache:
        return self.model.new_cache(rows, self.model.config.num_queries + 3 + prompt + new_tokens)

    def _patches(self, pictures: Sequence[Picture]) -> Patches:
        weight = self.model.text.token_embedding.weight
        return self.processor.batch(pictures).to(weight.device, weight.dtype)

    def _tokens(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        return self.processor.left_padded(prompts).to(self.model.text.token_embedding.weight.device)

    def _config(self, max_new_tokens: int) -> GenerationConfig:
        tokens = self.model.config.tokens
        return GenerationConfig(
            max_new_tokens=max_new_tokens, eos_token_ids=(tokens.eos,), pad_token_id=tokens.pad
        )


def _load_line_reader(
    folder: Path, model: Kosmos25, device: torch.device | str, dtype: torch.dtype
) -> LineReader | None:
    path = folder / LINE_READER_FILE
    if not path.is_file():
        return None
    with torch.device("meta"):
        head = LineReader(model.config.vision.hidden_size)
    tensors.load(head, path, dtype=dtype, device=device)
    return head.to(device).eval()
