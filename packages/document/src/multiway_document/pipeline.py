"""Reading a page, from picture to result: the one path of commands, demo, evaluation and Python users."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from multiway_core import hub
from multiway_core.errors import CheckpointError, InputError
from PIL import Image

from multiway_document.auto_engine import AutoEngine
from multiway_document.fast_engine import FastEngine
from multiway_document.line_network import LineNetwork, weight_files
from multiway_document.line_reading import LINE_READER_FILE
from multiway_document.ppocr_engine import PpocrEngine
from multiway_document.result import Line, Page

if TYPE_CHECKING:  # imported where a network runs in torch; reading with the bundled model does not need it
    import torch

    from multiway_document.checked_engine import CheckedEngine
    from multiway_document.full_engine import FullEngine
    from multiway_document.kosmos2_5.line_reader import LineReader

Task = Literal["ocr", "markdown"]
Engine = Literal["auto", "fast", "ppocr", "full"]

PPOCR = "bundled:pp-ocrv6"


class OcrPipeline:
    """Reads pages with one model, by the engines that its folder has weights for.

    ``fast``: an encoder with a line reader (the bundled model). ``full``: the whole network, which writes the page
    (the published ones), or line by line where the folder has a line reader as well (the bundled model). ``ppocr``:
    PP-OCRv6 small, for photographs, whatever the model. ``auto``: ``fast``, and ``ppocr`` where that is unsure.
    """

    runs_without_torch = True  # for multiway_core.app: on a CPU it takes its device and dtype by name

    def __init__(
        self,
        name: str,
        *,
        fast: FastEngine | None = None,
        load_full: Callable[[], FullEngine | CheckedEngine] | None = None,
    ) -> None:
        """``load_full`` is called when the full engine is first asked for; without it there is none."""
        self.name = name
        self.fast = fast
        self._load_full = load_full

    @cached_property
    def ppocr(self) -> PpocrEngine:
        """Loaded at the first page that needs it."""
        return PpocrEngine(hub.resolve(PPOCR))

    @cached_property
    def full(self) -> FullEngine | CheckedEngine | None:
        """Loaded at the first page that needs it, where the model has a line reader as well."""
        return None if self._load_full is None else self._load_full()

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

        A line reader runs in ONNX Runtime in float32 on a CPU, and in torch on a GPU or in a ``dtype`` that is asked
        for. The decoder runs in torch, by default in bfloat16 on a GPU and in float32 on a CPU, where its products are
        in bfloat16 if the processor has units for them (AMX, AVX-512 BF16: half the time or less).
        Raises :class:`ModelNotFoundError` or :class:`CheckpointError`.
        """
        folder = hub.resolve(name, revision=revision)
        if not (folder / LINE_READER_FILE).is_file():
            return _whole_network(cls, name, folder, device, dtype)
        if str(device) == "cpu" and dtype is None and (files := weight_files(folder)):
            network = LineNetwork(folder)
            has_decoder = any(tensor.startswith("text_model.") for tensor in files)
            load_full = partial(_checked_engine, folder, device, dtype) if has_decoder else None
            return cls(name, fast=FastEngine(network), load_full=load_full)
        from multiway_document.kosmos2_5 import checkpoint

        load_full = (
            partial(_checked_engine, folder, device, dtype) if checkpoint.has_decoder(folder) else None
        )
        return cls(name, fast=_torch_engine(folder, device, dtype), load_full=load_full)

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines this model has, best default first."""
        if self.fast is None:
            return ("full", "ppocr")
        return ("auto", "fast", "ppocr", *(("full",) if self._load_full else ()))

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
        from multiway_document.full_engine import FullEngine

        if not isinstance(self.full, FullEngine):
            raise InputError(
                f"{self.name} was not trained to answer questions; microsoft/kosmos-2.5-chat was"
            )
        return self.full.ask(image, questions, max_new_tokens=max_new_tokens)


def _whole_network(
    pipeline: type[OcrPipeline],
    name: str,
    folder: Path,
    device: torch.device | str,
    dtype: torch.dtype | None,
) -> OcrPipeline:
    """A published model, which writes the page; loaded at once, since it has no other engine."""
    from multiway_document.full_engine import FullEngine
    from multiway_document.kosmos2_5 import checkpoint
    from multiway_document.kosmos2_5.processor import Processor
    from multiway_document.kosmos2_5.tokenizer import load_tokenizer

    if not checkpoint.has_decoder(folder):
        raise CheckpointError(f"{folder}: holds neither a decoder nor a line reader ({LINE_READER_FILE})")
    model = checkpoint.load(folder, dtype=_precision(device, dtype)[0], device=device)
    engine = FullEngine(model, Processor(model.config, load_tokenizer(folder, model.config.tokens)))
    return pipeline(name, load_full=lambda: engine)


def _torch_engine(folder: Path, device: torch.device | str, dtype: torch.dtype | None) -> FastEngine:
    from multiway_document.kosmos2_5 import checkpoint
    from multiway_document.kosmos2_5.line_reader import TorchLineNetwork

    dtype, mixed_precision = _precision(device, dtype)
    vision = checkpoint.load_vision(folder, dtype=dtype, device=device)
    head = _line_reader(folder / LINE_READER_FILE, dtype, device)
    return FastEngine(TorchLineNetwork(vision, head, mixed_precision=mixed_precision))


def _checked_engine(folder: Path, device: torch.device | str, dtype: torch.dtype | None) -> CheckedEngine:
    from multiway_document.checked_engine import CheckedEngine
    from multiway_document.kosmos2_5 import checkpoint
    from multiway_document.kosmos2_5.line_writer import LineWriter
    from multiway_document.kosmos2_5.tokenizer import load_tokenizer

    dtype, mixed_precision = _precision(device, dtype)
    model = checkpoint.load(folder, dtype=dtype, device=device)
    head = _line_reader(folder / LINE_READER_FILE, dtype, device)
    tokenizer = load_tokenizer(folder, model.config.tokens)
    return CheckedEngine(LineWriter(model, head, tokenizer), mixed_precision=mixed_precision)


def _line_reader(path: Path, dtype: torch.dtype, device: torch.device | str) -> LineReader:
    from multiway_core import checkpoint as tensors
    from multiway_core.checkpoint import on_meta

    from multiway_document.kosmos2_5.line_reader import LineReader

    hidden_size = tensors.read(path)["mix.weight"].shape[0] // 2
    with on_meta():
        head = LineReader(hidden_size)
    tensors.load(head, path, dtype=dtype, device=device)
    return head.to(device).eval()


def _precision(device: torch.device | str, dtype: torch.dtype | None) -> tuple[torch.dtype, bool]:
    """The dtype of the weights, and whether products are in bfloat16 all the same."""
    import torch

    if dtype is not None:
        return dtype, False
    if torch.device(device).type != "cpu":
        return torch.bfloat16, False
    capabilities = torch.cpu.get_capabilities()
    return torch.float32, bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
