"""The full engine: KOSMOS-2.5 as published. The whole page is encoded and the decoder writes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from multiway_core.errors import InputError
from multiway_core.generation import GenerationConfig, StaticKVCache, generate, stream
from PIL import Image

from multiway_document.kosmos2_5.guard import ocr_guard, text_guard
from multiway_document.kosmos2_5.model import Kosmos25, Patches
from multiway_document.kosmos2_5.processor import Picture, Processor
from multiway_document.result import Line, Page


class FullEngine:
    """``<ocr>`` writes lines with boxes, ``<md>`` markdown, and a question its answer (CHAT weights)."""

    def __init__(self, model: Kosmos25, processor: Processor) -> None:
        self.model = model
        self.processor = processor

    @torch.inference_mode()
    def stream(self, image: np.ndarray, *, markdown: bool) -> Iterator[Line | Page]:
        """Lines of a page (H, W, 3) uint8 as the decoder ends them, and the page last.

        With ``markdown`` the page has markdown and no lines, since the published model writes one or the other.
        A line's confidence is the mean probability of its text tokens.
        """
        processor, tokens = self.processor, self.processor.tokens
        picture = processor.picture(image)
        prompt = processor.markdown_prompt() if markdown else processor.ocr_prompt()
        room = self.model.config.text.max_positions - self._prefix_length - len(prompt)
        cache = self._cache(len(prompt), room)
        first = self.model.prefill(
            self.model.embed_images(self._patches(picture)), self._tokens(prompt), cache
        )
        guard = text_guard(processor) if markdown else ocr_guard(processor)
        steps = stream(self.model.text.decode, first, cache, self._config(room), guard)

        lines: list[Line] = []
        written: list[int] = []
        log_probs: list[float] = []
        while True:
            try:
                event = next(steps)
            except StopIteration as end:
                reason = end.value.stop_reasons[0]
                break
            if not event.active_B[0]:
                continue
            token = int(event.tokens_B[0])
            if token == tokens.box and not markdown:  # a new line begins, so the last one is complete
                yield from self._lines(written, log_probs, picture, lines)
                written, log_probs = [], []
            written.append(token)
            log_probs.append(float(event.log_probs_B[0]))
        if not markdown:
            yield from self._lines(written, log_probs, picture, lines)
        yield Page(
            index=0,
            width=picture.source_width,
            height=picture.source_height,
            lines=tuple(lines),
            markdown=processor.markdown(written) if markdown else None,
            truncated=reason == "length",
            looped=reason.startswith("stopped"),
        )

    @torch.inference_mode()
    def ask(
        self, image: Image.Image | np.ndarray, questions: Sequence[str], *, max_new_tokens: int = 256
    ) -> list[str]:
        """Answers to questions about one page, which is encoded and read into the cache once (section 2.4)."""
        if not questions or not all(question.strip() for question in questions):
            raise InputError("a question is empty; ask something about the page")
        prompts = [self.processor.chat_prompt(question) for question in questions]
        cache = self._cache(max(len(prompt) for prompt in prompts), max_new_tokens)
        embeddings = self.model.embed_images(self._patches(self.processor.picture(image)))
        # The prefix without a prompt: `</image>` is its last token, and every question goes on from there.
        self.model.prefill(embeddings, self._tokens([]), cache)
        prefix = cache.length
        answers = []
        for prompt in prompts:
            cache.truncate(prefix)
            first = self.model.text.decode(self._tokens(prompt), cache)
            guard = text_guard(self.processor)
            output = generate(self.model.text.decode, first, cache, self._config(max_new_tokens), guard)
            answers.append(self.processor.tokenizer.decode(output.tokens[0].tolist()).strip())
        return answers

    def _lines(
        self, written: list[int], log_probs: list[float], picture: Picture, lines: list[Line]
    ) -> Iterator[Line]:
        for parsed, (start, end) in self.processor.parse_lines_with_spans(written):
            confidence = float(np.mean(np.exp(log_probs[start:end])))
            lines.append(self.processor.to_source(parsed, picture, confidence))
            yield lines[-1]

    @property
    def _prefix_length(self) -> int:
        return self.model.config.num_queries + 3

    def _cache(self, prompt: int, new_tokens: int) -> StaticKVCache:
        return self.model.text.new_cache(1, self._prefix_length + prompt + new_tokens)

    def _patches(self, picture: Picture) -> Patches:
        weight = self.model.text.embedding.weight
        return self.processor.batch([picture]).to(weight.device, weight.dtype)

    def _tokens(self, prompt: Sequence[int]) -> torch.Tensor:
        return self.processor.left_padded([prompt]).to(self.model.text.embedding.weight.device)

    def _config(self, max_new_tokens: int) -> GenerationConfig:
        tokens = self.processor.tokens
        return GenerationConfig(
            max_new_tokens=max_new_tokens, eos_token_ids=(tokens.eos,), pad_token_id=tokens.pad
        )
