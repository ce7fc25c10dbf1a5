"""Reading a page, from picture to result: the one path of commands, demo, evaluation and Python users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from multiway_core import checkpoint as tensors
from multiway_core import hub
from multiway_core.checkpoint import on_meta
from multiway_core.errors import CheckpointError, InputError
from PIL import Image

from multiway_document.auto_engine import AutoEngine
from multiway_document.checked_engine import CheckedEngine
from multiway_document.fast_engine import FastEngine
from multiway_document.full_engine import FullEngine
from multiway_document.kosmos2_5 import checkpoint
from multiway_document.kosmos2_5.line_reader import LINE_READER_FILE, LineReader
from multiway_document.kosmos2_5.line_writer import LineWriter
from multiway_document.kosmos2_5.processor import Processor
from multiway_document.kosmos2_5.tokenizer import load_tokenizer
from multiway_document.ppocr_engine import PpocrEngine
from multiway_document.result import Line, Page

Task = Literal["ocr", "markdown"]
Engine = Literal["auto", "fast", "ppocr", "full"]

PPOCR = "bundled:pp-ocrv6"


class OcrPipeline:
    """Reads pages with one model, by the engines that its folder has weights for.

    ``fast``: an encoder with a line reader (the bundled model). ``full``: the whole network, which writes the page
    (the published ones), or line by line where the folder has a line reader as well (the bundled model). ``ppocr``:
    PP-OCRv6 small, for photographs, whatever the model. ``auto``: ``fast``, and ``ppocr`` where that is unsure.
    """

    def __init__(
        self, name: str, *, fast: FastEngine | None = None, full: FullEngine | CheckedEngine | None = None
    ) -> None:
        self.name = name
        self.fast = fast
        self.full = full

    @cached_property
    def ppocr(self) -> PpocrEngine:
        """Loaded at the first page that needs it."""
        return PpocrEngine(hub.resolve(PPOCR))

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

        ``dtype`` is bfloat16 by default on a GPU. On a CPU it is float32, but for the fast engine's products, which
        are in bfloat16 if the processor has units for them (AMX, AVX-512 BF16: half the time or less).
        Raises :class:`ModelNotFoundError` or :class:`CheckpointError`.
        """
        folder = hub.resolve(name, revision=revision)
        mixed_precision = dtype is None and torch.device(device).type == "cpu" and _has_bfloat16_units()
        if dtype is None:
            dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
        model = line_reader = None
        if checkpoint.has_decoder(folder):
            model = checkpoint.load(folder, dtype=dtype, device=device)
            tokenizer = load_tokenizer(folder, model.config.tokens)
        if (folder / LINE_READER_FILE).is_file():
            line_reader = _line_reader(folder / LINE_READER_FILE, dtype, device)
        fast = None
        full: FullEngine | CheckedEngine | None = None
        if line_reader is not None:
            vision = model.vision if model else checkpoint.load_vision(folder, dtype=dtype, device=device)
            fast = FastEngine(vision, line_reader, mixed_precision=mixed_precision)
        if model is not None and line_reader is not None:
            full = CheckedEngine(LineWriter(model, line_reader, tokenizer), mixed_precision=mixed_precision)
        elif model is not None:
            full = FullEngine(model, Processor(model.config, tokenizer))
        if fast is None and full is None:
            raise CheckpointError(f"{folder}: holds neither a decoder nor a line reader ({LINE_READER_FILE})")
        return cls(name, fast=fast, full=full)

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines this model has, best default first."""
        if self.fast is None:
            return ("full", "ppocr")
        return ("auto", "fast", "ppocr", *(("full",) if self.full else ()))

    def __call__(
        self, image: Image.Image | np.ndarray, *, task: Task = "ocr", engine: Engine | None = None
    ) -> Page:
        """Read one page (RGB or grey, uint8); lines are in reading order, boxes in pixels of ``image``."""
        *_, page = self.stream(image, task=task, engine=engine)
        assert isinstance(page, Page)
        return page

    def stream(
        self, image: Image.Image | np.ndarray, *, task: Task = "ocr", engine: Engine | None = None
    ) -> Iterator[Line | Page]:
        """As calling, but yields each line as soon as it is read, and the whole page last.

        Raises :class:`InputError` for an unknown task or an engine that the model does not have.
        """
        if task not in get_args(Task):
            raise InputError(f"unknown task {task!r}; there are: {', '.join(get_args(Task))}")
        engine = engine or self.engines[0]
        if engine not in self.engines:
            raise InputError(f"{self.name} has no {engine!r} engine; it has: {', '.join(self.engines)}")
        array = np.asarray(image.convert("RGB")) if isinstance(image, Image.Image) else np.asarray(image)
        return self._engine(engine).stream(array, markdown=task == "markdown")

    def _engine(self, name: Engine) -> FastEngine | FullEngine | CheckedEngine | PpocrEngine | AutoEngine:
        if name == "ppocr":
            return self.ppocr
        if name == "auto":
            assert self.fast is not None
            return AutoEngine(self.fast, lambda: self.ppocr)
        chosen = self.fast if name == "fast" else self.full
        assert chosen is not None
        return chosen

    def ask(self, image: Image.Image | np.ndarray, question: str, *, max_new_tokens: int = 256) -> str:
        """Answer a question about a page (KOSMOS-2.5-CHAT weights)."""
        return self.ask_all(image, [question], max_new_tokens=max_new_tokens)[0]

    def ask_all(
        self, image: Image.Image | np.ndarray, questions: Sequence[str], *, max_new_tokens: int = 256
    ) -> list[str]:
        """Answer questions about one page, which is read once."""
        if not isinstance(self.full, FullEngine):
            raise InputError(
                f"{self.name} was not trained to answer questions; microsoft/kosmos-2.5-chat was"
            )
        return self.full.ask(image, questions, max_new_tokens=max_new_tokens)


def _line_reader(path: Path, dtype: torch.dtype, device: torch.device | str) -> LineReader:
    hidden_size = tensors.read(path)["mix.weight"].shape[0] // 2
    with on_meta():
        head = LineReader(hidden_size)
    tensors.load(head, path, dtype=dtype, device=device)
    return head.to(device).eval()


def _has_bfloat16_units() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
