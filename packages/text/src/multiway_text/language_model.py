"""One object for every language model here: load, continue text, chat, score, choose.

The command, the server, the demo, the evaluation and Python users all call it.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from multiway_blocks.text_decoder import CausalLM
from multiway_core import hub
from multiway_core.errors import CheckpointError, InputError
from multiway_core.generation import stream
from multiway_core.tokenization import TextTokenizer
from torch import Tensor, nn

from multiway_text import scoring, systems
from multiway_text.chat_template import ChatTemplate, Message
from multiway_text.checkpoint_files import non_finite
from multiway_text.generation_sequence import GenerationSequence, NextStep, batched_decode
from multiway_text.json_constraint import JsonConstraint
from multiway_text.sampling import Alternatives, RecommendedSampling, SamplingOptions
from multiway_text.scoring import Choice, TextScore, TokenScores
from multiway_text.text_stream import TextStream

DEFAULT_TOKENS = 512
PREFILL_TOKENS = 512
"""A longer prompt is read in pieces of so many tokens, so that others are served and a visitor can leave between."""
OPEN_END = 8192
"""Context of a system whose configuration sets none, such as RetNet and Magneto (it extrapolates)."""
BUNDLED_MODEL = "bundled:lm-tiny"


@dataclass(frozen=True)
class Token:
    """One generated token.

    ``log_prob`` is the model's own, before penalties and temperature; so are those of the ``alternatives`` (id, text,
    log-probability), likeliest first.
    """

    id: int
    text: str
    log_prob: float
    alternatives: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True)
class Piece:
    """What one step adds to one answer: text that is certain now (perhaps none), and its token.

    ``finish``: "" while it goes on; then "stop" (the model or a stop text ended it) or "length".
    """

    row: int
    text: str
    token: Token | None
    finish: str = ""


@dataclass
class Completion:
    """One whole answer."""

    text: str = ""
    finish: str = ""
    tokens: list[Token] = field(default_factory=list)
    prompt_tokens: int = 0


class LanguageModel:
    """A network with its tokenizer. Calls from several threads take turns (a step at a time where they stream).

    Args:
        network: see :class:`multiway_text.systems.Network`.
        tokenizer: its tokenizer.
        name: what it is called in results.
        max_positions: longest sequence, prompt and answer together.
        cuda_graphs: decoding steps on a GPU are captured as CUDA graphs (not tried on a GPU yet, so off by default).
    """

    def __init__(
        self,
        network: Any,
        tokenizer: TextTokenizer,
        *,
        name: str = "model",
        max_positions: int | None = None,
        pads: bool = True,
        cuda_graphs: bool = False,
    ) -> None:
        self.network, self.tokenizer, self.name, self.pads = network, tokenizer, name, pads
        self.cuda_graphs = cuda_graphs
        sizes = getattr(network, "config", None) or getattr(network, "sizes", None)
        longest: int = getattr(sizes, "max_positions", OPEN_END)
        self.max_positions = max_positions or longest
        self.vocab_size: int = getattr(sizes, "vocab_size", tokenizer.vocab_size)
        if tokenizer.vocab_size > self.vocab_size:
            raise CheckpointError(
                f"{name}: its tokenizer has {tokenizer.vocab_size} tokens, its network {self.vocab_size}"
            )
        self.chat_template = ChatTemplate.of(tokenizer)
        self.recommended_sampling = RecommendedSampling.read(tokenizer.generation)
        self.device = next(network.parameters()).device
        self._turn = threading.Lock()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = BUNDLED_MODEL,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        tokenizer: Path | None = None,
        cuda_graphs: bool = False,
    ) -> LanguageModel:
        """Load ``bundled:NAME``, a folder, a GGUF file or a hub id, of any system of this package.

        ``dtype``: of what is not ternary; None is bfloat16 on a GPU and float32 on a CPU, where the quantised matrices
        of a LLaMA-like GGUF file take a byte a weight. ``tokenizer``: a file or
        folder, where the checkpoint brings none. Raises ModelNotFoundError, CheckpointError, ConfigError.
        """
        system, path, file = systems.find(hub.resolve(str(name)))
        if dtype is None and torch.device(device).type == "cuda":
            dtype = torch.bfloat16
        elif dtype is None and not (system.runs_integers and file is not None):
            dtype = torch.float32
        if tokenizer is not None:
            text_tokenizer = TextTokenizer.from_folder(tokenizer)
        else:
            text_tokenizer = systems.tokenizer_of(path)
        network = system.load(path, dtype=dtype, device=device)
        check_finite(network, str(path))
        return cls(network, text_tokenizer, name=str(name), pads=system.pads, cuda_graphs=cuda_graphs)

    def prompt_ids(
        self, prompt: str | Sequence[int] | Sequence[Message], *, tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """Token ids of a text to be continued, of ids (checked), or of a chat's messages (and functions).

        Raises InputError: nothing in it, ids out of the vocabulary, messages that the model cannot take.
        """
        if isinstance(prompt, str):
            ids = self.tokenizer.encode_prompt(prompt)
            if not prompt:
                raise InputError("the prompt is empty")
        elif prompt and not isinstance(prompt[0], int):
            if self.chat_template is None:
                raise InputError("this model has no chat format; use it to continue text (generate)")
            ids = self.chat_template.encode(self.tokenizer, prompt, tools=tools)  # type: ignore[arg-type]
        else:
            ids = list(prompt)  # type: ignore[arg-type]
            self.tokenizer.check(ids, self.vocab_size)
        if not ids:
            raise InputError("the prompt is empty")
        return ids

    def room(self, prompt: Sequence[int], max_tokens: int | None = None) -> int:
        """How many tokens an answer may have. Raises InputError where prompt and answer do not fit the context."""
        left = self.max_positions - len(prompt)
        if left < 1:
            raise InputError(
                f"the prompt has {len(prompt)} tokens, and the model's context is {self.max_positions}: shorten it"
            )
        if max_tokens is None:
            return min(left, DEFAULT_TOKENS)
        if max_tokens > left:
            raise InputError(
                f"a prompt of {len(prompt)} tokens and max_tokens {max_tokens} do not fit the model's context of "
                f"{self.max_positions}: lower max_tokens to {left} or shorten the prompt"
            )
        return max_tokens

    def steps(
        self, prompt: Sequence[int], options: SamplingOptions | None = None, *, answers: int = 1
    ) -> GenerationSequence[list[Piece]]:
        """Continue ids, yielding what every step adds (an empty list while a long prompt is read).

        Closing the iterator ends it and frees its memory. Checks are made at once: raises InputError here.
        """
        options = options or SamplingOptions()
        if answers < 1:
            raise InputError(f"the number of answers must be at least 1, not {answers}")
        self.tokenizer.check(prompt, self.vocab_size)
        if not prompt:
            raise InputError("the prompt is empty")
        max_tokens = self.room(prompt, options.max_tokens)
        next_step = NextStep(self.network, cuda_graph=self.cuda_graphs and self.device.type == "cuda")
        constraints: list[Any] = []
        if options.json_schema is not None:
            constraints.append(JsonConstraint(self.tokenizer, options.json_schema))
        return GenerationSequence(
            self._steps(list(prompt), options, answers, max_tokens, next_step, constraints), next_step
        )

    def batched_decode(self, answers: Sequence[GenerationSequence[list[Piece]]]) -> None:
        """Compute the next step of several answers at once: each then only chooses its token.

        Worth it where a step of several rows costs little more than one of one row does, as on a BitNet (whose weights
        are read once for all); others take one step after the other.
        """
        if isinstance(self.network, CausalLM):
            with self._turn:
                batched_decode(self.network, answers)

    def _steps(
        self,
        prompt: list[int],
        options: SamplingOptions,
        answers: int,
        max_tokens: int,
        next_step: NextStep,
        constraints: list[Any],
    ) -> Generator[list[Piece], None, None]:
        cache = self.network.new_cache(1, len(prompt) + max_tokens)
        logits = None
        for piece in self._prompt_pieces(prompt):
            if logits is not None:
                yield []
            with self._turn, torch.inference_mode():
                call = self.network.prefill if logits is None else self.network.decode
                logits = call(torch.tensor([piece], device=self.device), cache)
        assert logits is not None
        if answers > 1:
            rows = torch.zeros(answers, dtype=torch.long)
            with torch.inference_mode():
                cache.select(rows)
                logits = logits[rows.to(logits.device)]
        seen = Alternatives(options.alternatives) if options.alternatives else None
        processors: list[Any] = [] if seen is None else [seen]
        if self.vocab_size > self.tokenizer.vocab_size:  # rows that pad the matrix stand for no token
            processors.append(_Below(self.tokenizer.vocab_size))
        processors += [*options.processors(prompt), *constraints]
        texts = [TextStream(self.tokenizer.decode, options.stop) for _ in range(answers)]
        events = stream(
            next_step.decode, logits, cache, options.config(max_tokens, self.tokenizer.end_ids), processors
        )
        del logits
        open_rows = set(range(answers))
        while open_rows:
            with self._turn:
                event = next(events, None)
            if event is None:
                return
            pieces = []
            for row in sorted(open_rows):
                text, token, finish = "", None, ""
                if event.active_B[row]:
                    number = int(event.tokens_B[row])
                    token = self._token(number, float(event.log_probs_B[row]), seen, row)
                    text = texts[row].add(number)
                reason = event.stopped.get(row)
                if texts[row].stopped:
                    finish = "stop"
                elif reason is not None:
                    if reason == "stopped:no_token":
                        raise InputError(f"{self.name}: the network's prediction is not a finite number")
                    text += texts[row].end()
                    finish = "stop" if reason == "eos" or texts[row].stopped else "length"
                if finish:
                    open_rows.discard(row)
                if token is not None or finish:
                    pieces.append(Piece(row, text, token, finish))
            if answers == 1 and open_rows:
                next_step.expect(event.tokens_B[:, None].to(self.device), cache)
            yield pieces

    def _prompt_pieces(self, prompt: list[int]) -> Iterator[list[int]]:
        size = PREFILL_TOKENS if isinstance(self.network, CausalLM) else len(prompt)
        for start in range(0, len(prompt), size):
            yield prompt[start : start + size]

    def _token(self, number: int, log_prob: float, seen: Alternatives | None, row: int) -> Token:
        others: tuple[tuple[int, str, float], ...] = ()
        if seen is not None:
            ids, log_probs = seen.latest[row]
            others = tuple(
                (other, self.tokenizer.decode_token(other), value)
                for other, value in zip(ids, log_probs, strict=True)
            )
        return Token(number, self.tokenizer.decode_token(number), log_prob, others)

    def stream(
        self, prompt: str | Sequence[int] | Sequence[Message], options: SamplingOptions | None = None
    ) -> Iterator[Piece]:
        """Continue a text, ids or a chat, piece by piece. Raises InputError at once."""
        return self._flat(self.steps(self.prompt_ids(prompt), options))

    @staticmethod
    def _flat(steps: Iterator[list[Piece]]) -> Iterator[Piece]:
        for pieces in steps:
            yield from pieces

    def generate(
        self,
        prompt: str | Sequence[int] | Sequence[Message],
        options: SamplingOptions | None = None,
        *,
        answers: int = 1,
    ) -> list[Completion]:
        """Whole answers to a text, ids or a chat's messages."""
        ids = self.prompt_ids(prompt)
        found = [Completion(prompt_tokens=len(ids)) for _ in range(answers)]
        for pieces in self.steps(ids, options, answers=answers):
            for piece in pieces:
                answer = found[piece.row]
                answer.text += piece.text
                answer.finish = piece.finish
                if piece.token is not None:
                    answer.tokens.append(piece.token)
        return found

    def log_likelihoods(
        self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], *, alternatives: int = 0
    ) -> list[TokenScores]:
        """Log-probability of every token of the second ids behind the first; see :mod:`multiway_text.scoring`."""
        for context, continuation in rows:
            self.tokenizer.check([*context, *continuation], self.vocab_size)
        with self._turn:
            return scoring.log_likelihoods(
                self.network, rows, device=self.device, pads=self.pads, alternatives=alternatives
            )

    def embed(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        """A vector of length 1 for each row of ids: the mean of its tokens' last hidden states.

        What a language model has; a model that was trained to embed (`multiway-encoder`) finds texts far better.
        Raises InputError: no ids, ids out of the vocabulary, a row beyond the context.
        """
        for row in rows:
            self.tokenizer.check(row, self.vocab_size)
            if not row or len(row) > self.max_positions:
                raise InputError(f"a text of {len(row)} tokens: 1 to {self.max_positions} can be embedded")
        with self._turn, torch.inference_mode():
            states = (self.network.hidden(torch.tensor([list(row)], device=self.device)) for row in rows)
            means = [nn.functional.normalize(state_1TE[0].float().mean(0), dim=0) for state_1TE in states]
            return [mean.tolist() for mean in means]

    def score(
        self, text: str, *, window: int | None = None, stride: int | None = None, alternatives: int = 0
    ) -> TextScore:
        """How likely a text is: see :func:`multiway_text.scoring.score_text`. Raises InputError."""
        return scoring.score_text(self, text, window=window, stride=stride, alternatives=alternatives)

    def choose(self, context: str, choices: Sequence[str]) -> Choice:
        """Which continuation of a context is the likeliest. Raises InputError."""
        return scoring.choose(self, context, choices)


class _Below:
    """No token at or above a number."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __call__(self, tokens_BT: Tensor, logits_BV: Tensor) -> Tensor:
        forbidden = torch.arange(logits_BV.shape[1], device=logits_BV.device) >= self.limit
        return logits_BV.masked_fill(forbidden, float("-inf"))


def check_finite(network: nn.Module, where: str) -> None:
    """Raise CheckpointError for weights that are NaN or infinite, naming the first."""
    bad = non_finite(network)
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise CheckpointError(f"{where}: damaged: weights that are not finite numbers in {bad[0]}{more}")
