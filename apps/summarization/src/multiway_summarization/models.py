"""The kinds of models that write titles, behind one loader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from multiway_core import hub
from multiway_core.errors import InputError
from multiway_text.s2s_ft.pipeline import SummarizationPipeline
from multiway_text.s2s_ft.result import Title
from multiway_text.xnlg.checkpoint import is_xnlg
from multiway_text.xnlg.pipeline import XnlgPipeline

if TYPE_CHECKING:
    from multiway_summarization.options import DecodingOptions

Pipeline = SummarizationPipeline | XnlgPipeline


def load(name: str, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Pipeline:
    """The pipeline of a folder, ``bundled:NAME`` or hub id: XNLG's where the model is one, else that of s2s-ft.

    Raises ModelNotFoundError, ConfigError, CheckpointError.
    """
    kind: type[Pipeline] = XnlgPipeline if is_xnlg(hub.resolve(name)) else SummarizationPipeline
    return kind.from_pretrained(name, device=device, dtype=dtype)


def title_writer(
    pipeline: Pipeline, decoding: DecodingOptions, language: str | None, source_language: str | None = None
) -> Callable[[Sequence[str]], list[Title]]:
    """What makes titles of texts, in ``language`` where the model has a choice.

    Raises InputError: a language for a model without the choice, or none for one with it.
    """
    if isinstance(pipeline, XnlgPipeline):
        return partial(
            pipeline.titles, search=decoding.search(), language=language, source_language=source_language
        )
    if language or source_language:
        raise InputError(
            "--language: this model has no choice of languages; an XNLG model has (train --preset xnlg)"
        )
    return partial(pipeline.titles, decoding=decoding.decoding())
