"""Language models of this package in the LM Evaluation Harness (package ``lm-eval``, extra ``harness``).

    from multiway_text.lm_harness import HarnessModel
    lm_eval.simple_evaluate(model=HarnessModel.from_pretrained("bundled:lm-tiny"), tasks=["arc_easy"])

Importing this module registers the name ``multiway`` as well: ``model="multiway", model_args="pretrained=NAME"``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from multiway_core.errors import InputError

from multiway_text import scoring
from multiway_text.language_model import LanguageModel
from multiway_text.sampling import SamplingOptions

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
except ModuleNotFoundError as error:
    raise InputError(
        f"the LM Evaluation Harness needs {error.name}: pip install 'multiway-text[harness]'"
    ) from error

_DEFAULT_TOKENS = 256


@register_model("multiway")
class HarnessModel(LM):
    """What the harness asks for: log-likelihoods of continuations and of whole texts, and generation."""

    def __init__(
        self,
        pretrained: str | LanguageModel = "bundled:lm-tiny",
        device: str | None = None,
        dtype: str | None = None,
        **ignored: Any,
    ) -> None:
        super().__init__()
        if isinstance(pretrained, LanguageModel):
            self.model = pretrained
        else:
            chosen = None if dtype in (None, "auto") else getattr(torch, dtype)
            self.model = LanguageModel.from_pretrained(pretrained, device=device or "cpu", dtype=chosen)

    @classmethod
    def from_pretrained(cls, name: str, **options: Any) -> HarnessModel:
        """Load a model by name."""
        return cls(name, **options)

    @property
    def tokenizer_name(self) -> str:
        """Part of the harness's cache keys."""
        return self.model.name.replace("/", "__")

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A chat as the text of its prompt."""
        template = self.model.chat_template
        if template is None:
            raise InputError(f"{self.model.name} has no chat format")
        return template.render(chat_history, answer=add_generation_prompt)

    def loglikelihood(self, requests: Iterable[Any]) -> list[tuple[float, bool]]:
        """(log-probability, whether greedy decoding gives it) of each continuation behind its context."""
        rows = []
        for request in requests:
            context, continuation = request.args
            first, second = scoring.split_pair(self.model, context, continuation)
            rows.append(self._cut(first, second))
        return [(score.total, all(score.greedy)) for score in self._scores(rows)]

    def loglikelihood_rolling(self, requests: Iterable[Any]) -> list[float]:
        """Log-probability of each whole text: every token once, in windows as long as the context."""
        found = []
        for request in requests:
            (text,) = request.args
            ids = self.model.tokenizer.encode(text)
            prefix = self.model.tokenizer.prefix_id
            whole = ids if prefix is None else [prefix, *ids]
            window = self.model.max_positions
            rows = [
                (whole[start:first], whole[first:end])
                for start, first, end in scoring.windows(len(whole), window, max(1, window // 2))
                if first < end
            ]
            found.append(sum(score.total for score in self._scores(rows)))
        return found

    def generate_until(self, requests: Iterable[Any]) -> list[str]:
        """A continuation of each context up to one of its ``until`` texts."""
        answers = []
        for request in requests:
            context, arguments = request.args
            until = arguments.get("until") or []
            until = [until] if isinstance(until, str) else list(until)
            max_tokens = int(arguments.get("max_gen_toks", _DEFAULT_TOKENS))
            max_tokens = min(max_tokens, self.model.max_positions // 2)
            ids = self.model.prompt_ids(context)[-(self.model.max_positions - max_tokens) :]
            sampled = bool(arguments.get("do_sample", arguments.get("temperature", 0) > 0))
            options = SamplingOptions(
                max_tokens=max_tokens,
                temperature=float(arguments.get("temperature", 1.0)) if sampled else 0.0,
                top_k=int(arguments.get("top_k", 0)),
                top_p=float(arguments.get("top_p", 1.0)),
                stop=tuple(text for text in until if text),
                seed=0,
            )
            answers.append(self.model.generate(ids, options)[0].text)
        return answers

    def _cut(self, context: Sequence[int], continuation: Sequence[int]) -> tuple[list[int], list[int]]:
        """The end of a pair that is longer than the model's context, as the harness does it."""
        longest = self.model.max_positions
        continuation = list(continuation)[-(longest - 1) :]
        return list(context)[-(longest - len(continuation)) :], continuation

    def _scores(self, rows: list[tuple[list[int], list[int]]]) -> list[scoring.TokenScores]:
        return self.model.log_likelihoods(rows)
