"""What s2s-ft costs: predicted target tokens a second in training, and decoding with and without a cache.

    python -m benchmarks.text.s2s_ft_speed [--rounds 5]

Random weights of MiniLM-L6's shape with 8,192 pieces, sources of 96 tokens, targets of 24, one thread, float32.
Training: forward and backward of 16 pairs, pseudo-masked against masked (half of the target). Decoding: five beams of 4
texts for 24 steps; without a cache every step runs the whole sequences of all beams again. Contenders run in turn, the
ratio is that of medians.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import torch
from multiway_blocks.masks import prefix_roles, visible
from multiway_blocks.text_encoder import PRESETS, TextEncoder
from multiway_core.generation import GenerationConfig, beam_search
from multiway_text.data.corruption import Vocabulary
from multiway_text.data.masked_batch import collate
from multiway_text.encoder.heads import MaskedLM
from multiway_text.s2s_ft.config import Seq2SeqConfig
from multiway_text.s2s_ft.objective import Corruption, lay_out, smoothed_loss
from multiway_text.seq2seq.decode import Writer
from multiway_text.seq2seq.rules import LengthPenalty, Seq2SeqRow
from torch import Tensor

SOURCE, TARGET, PAIRS, TEXTS, BEAMS = 96, 24, 16, 4, 5
WORDS = Vocabulary(101, 102, 103, np.arange(200, 8000))


def in_turn(contenders: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Median things a second of each."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            started = time.process_time()
            count = work()
            if number:  # the first warms up
                found[name].append(count / (time.process_time() - started))
    return {name: statistics.median(values) for name, values in found.items()}


class WithoutCache:
    """All that was written, run again at every step, as `beam_search` wants it."""

    def __init__(self, writer: Writer, sources: Tensor) -> None:
        self.writer, self.rows = writer, sources
        self.count = sources.shape[1]

    @property
    def batch_size(self) -> int:
        return len(self.rows)

    def require(self, tokens: int) -> None:
        pass

    def select(self, rows: Tensor) -> None:
        self.rows = self.rows[rows]

    def predict(self) -> Tensor:
        mask_N1 = torch.full((len(self.rows), 1), WORDS.mask_id)
        tokens = torch.cat([self.rows, mask_N1], dim=1)
        lengths = torch.full((len(tokens),), self.count)
        seen = visible(*prefix_roles(lengths, tokens.shape[1]))[:, None]
        types = (torch.arange(tokens.shape[1]) >= self.count).long().expand_as(tokens)
        valid = torch.ones_like(tokens, dtype=torch.bool)
        hidden = self.writer.model.encoder(tokens, valid, mask=seen, types_BT=types).hidden_BTE
        return self.writer.model.logits(hidden[:, -1])


def step(tokens_N1: Tensor, cache: WithoutCache) -> Tensor:
    cache.rows = torch.cat([cache.rows, tokens_N1], dim=1)
    return cache.predict()


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.manual_seed(0)
    from dataclasses import replace

    config = replace(PRESETS["minilm-l6-h384-uncased"], vocab_size=8192, dropout=0.0, attention_dropout=0.0)
    model = MaskedLM(TextEncoder(config))
    draw = np.random.default_rng(0)
    pairs = [
        (draw.integers(200, 8000, SOURCE - 2).tolist(), draw.integers(200, 8000, TARGET - 1).tolist())
        for _ in range(PAIRS)
    ]

    def training(method: str) -> Callable[[], int]:
        settings = Seq2SeqConfig(method, SOURCE, TARGET)  # type: ignore[arg-type]
        batch = collate([lay_out(s, t, settings, Corruption(0.5), WORDS, draw) for s, t in pairs], 0)

        def work() -> int:
            loss = smoothed_loss(model, batch)
            loss.total.backward()
            return int(loss.weight)

        return work

    taught = in_turn({"pseudo-masked": training("pseudo_masked"), "masked": training("masked")}, given.rounds)
    model.eval().requires_grad_(False)
    writer = Writer.__new__(Writer)
    writer.model, writer.config, writer.vocabulary = model, Seq2SeqConfig("masked", SOURCE, TARGET), WORDS
    # No end token, so that all beams write all tokens.
    generation = GenerationConfig(TARGET, (), 0, num_beams=BEAMS)
    sources = [source for source, _ in pairs[:TEXTS]]
    rows = torch.tensor([[WORDS.cls_id, *source, WORDS.sep_id] for source in sources])
    written: dict[str, list[list[int]]] = {}

    def new_row() -> Seq2SeqRow:
        return Seq2SeqRow(BEAMS, TARGET, LengthPenalty())

    @torch.inference_mode()
    def cached() -> int:
        cache = writer.read(sources, TARGET)
        found = beam_search(writer.step, writer._predict(None, cache), cache, generation, new_row=new_row)
        written["cached"] = [tokens.tolist() for tokens in found.tokens]
        return TEXTS * TARGET

    @torch.inference_mode()
    def again() -> int:
        cache = WithoutCache(writer, rows)
        found = beam_search(step, cache.predict(), cache, generation, new_row=new_row)
        written["again"] = [tokens.tolist() for tokens in found.tokens]
        return TEXTS * TARGET

    decoded = in_turn({"key-value cache": cached, "no cache": again}, max(1, given.rounds // 2))
    assert written["cached"] == written["again"], "both must write the same"
    ratios = taught["pseudo-masked"] / taught["masked"], decoded["key-value cache"] / decoded["no cache"]
    lines = [
        ("training: predicted tokens", *(f"{v:.0f}" for v in taught.values()), f"{ratios[0]:.2f}"),
        ("decoding: tokens", *(f"{v:.1f}" for v in decoded.values()), f"{ratios[1]:.1f}"),
    ]
    columns = ("a second of CPU time", "pseudo-masked / key-value cache", "masked / no cache", "ratio")
    page = f"# What s2s-ft costs\n\n{harness.table(columns, lines)}\n"
    report = {**harness.provenance("s2s-ft-speed"), "training": taught, "decoding": decoded}
    harness.save(given.output, "s2s-ft-speed", report, page)


if __name__ == "__main__":
    main()
