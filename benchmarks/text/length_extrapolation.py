"""Which position code lets a language model read on past its trained length: xPos, rotary and learned positions.

    python -m benchmarks.text.length_extrapolation [--steps 400] [--output DIR]

Three decoders of the same shape (`multiway_blocks.decoder.Decoder`, sub-LN), trained on windows of 128 characters of
the text of `character_text.py` with the same batches, predict the same held-out characters in windows of 128 to 1024.
The one with xPos is measured with all tokens seen and with blockwise causal attention (blocks of 64; Sun et al. 2022,
section 2.3), rotary as well. Learned positions have a table of 1024 rows, of which training reaches the first 128.

One thread. Prints one table in Markdown and writes it, and one JSON file.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from datetime import UTC, datetime
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_blocks.decoder import Decoder
from multiway_blocks.position import LearnedPositions, Rotary, XPos
from multiway_core.evaluation.machine import describe_machine, installed_versions
from torch import Tensor, nn

from benchmarks.text.character_text import CharacterText

WIDTH, LAYERS, HEADS, TRAINED, ROWS = 64, 3, 2, 128, 8
LENGTHS = (128, 256, 512, 1024)
HELD_OUT = 8192  # characters
RATE = 2e-3
BLOCK = TRAINED // 2


class Model(nn.Module):
    """Tokens -> logits."""

    def __init__(self, positions: str, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, WIDTH)
        nn.init.normal_(self.embedding.weight, std=WIDTH**-0.5)
        self.places = LearnedPositions(max(LENGTHS), WIDTH) if positions == "learned" else None
        if self.places is not None:
            nn.init.normal_(self.places.weight, std=WIDTH**-0.5)
        head_dim = WIDTH // HEADS
        rotary = {
            "xPos": lambda: XPos(head_dim),
            "rotary": lambda: Rotary(head_dim, interleaved=True),
            "learned": lambda: None,
        }[positions]()
        self.decoder = Decoder(
            hidden_size=WIDTH,
            num_layers=LAYERS,
            num_heads=HEADS,
            inner_size=4 * WIDTH,
            sub_norm=True,
            attention_sub_norm=True,
            rotary=rotary,
        )
        self.head = nn.Linear(WIDTH, vocab_size, bias=False)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """(B, T) -> (B, T, V)."""
        x = self.embedding(tokens_BT)
        if self.places is not None:
            x = x + self.places(torch.arange(tokens_BT.shape[1]))
        return self.head(self.decoder(x, torch.ones_like(tokens_BT, dtype=torch.bool)))


def loss_of(model: Model, windows: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


def train(positions: str, steps: int, seed: int, text: CharacterText) -> Model:
    torch.manual_seed(seed)
    model = Model(positions, text.vocab_size)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    warm_up = steps // 20 + 1
    for step in range(steps):
        done = step / steps
        optimizer.param_groups[0]["lr"] = RATE * min((step + 1) / warm_up, math.cos(done * math.pi / 2))
        loss = loss_of(model, text.batch(ROWS, TRAINED, generator))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


@torch.no_grad()
def perplexity(model: Model, length: int, text: CharacterText) -> float:
    windows = text.windows(length, HELD_OUT)
    losses = [loss_of(model, part).item() * len(part) for part in windows.split(max(1, 2048 // length))]
    return math.exp(sum(losses) / len(windows))


def measured(positions: str, steps: int, seed: int, text: CharacterText) -> list[dict[str, Any]]:
    start = time.process_time()
    model = train(positions, steps, seed, text)
    seconds = time.process_time() - start
    rows = []
    for block in (None, BLOCK) if positions != "learned" else (None,):
        model.decoder.block = block
        name = positions if block is None else f"{positions}, blocks of {block}"
        found = {str(length): perplexity(model, length, text) for length in LENGTHS}
        rows.append({"positions": name, "seed": seed, "perplexity": found, "cpu_seconds": seconds})
        print(rows[-1], flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| positions | " + " | ".join(map(str, LENGTHS)) + " | 1024 / 128 |", "|---|" + "--:|" * 5]
    for name in dict.fromkeys(row["positions"] for row in rows):
        found = [row["perplexity"] for row in rows if row["positions"] == name]
        means = [sum(row[str(length)] for row in found) / len(found) for length in LENGTHS]
        cells = " | ".join(f"{mean:.2f}" for mean in means)
        growth = [row[str(LENGTHS[-1])] / row[str(LENGTHS[0])] for row in found]
        spread = f" ± {statistics.stdev(growth):.2f}" if len(growth) > 1 else ""
        lines.append(f"| {name} | {cells} | {statistics.mean(growth):.2f}{spread} |")
    return "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = CharacterText()
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        for positions in ("xPos", "rotary", "learned"):
            rows += measured(positions, options.steps, seed, text)
            report(rows, text, options)  # after every model: a run may be cut short


def report(rows: list[dict[str, Any]], text: CharacterText, options: argparse.Namespace) -> None:
    result = {
        "rows": rows,
        "steps": options.steps,
        "text": text.digest,
        "machine": describe_machine(),
        "versions": installed_versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    seeds = ", ".join(map(str, options.seeds))
    lines = [
        "# Reading past the trained length",
        "",
        f"Perplexity a character of the same {HELD_OUT:,} held-out characters in windows of 128 to 1024, by models",
        f"trained at {TRAINED} ({LAYERS} layers of {WIDTH}, {options.steps} steps of {ROWS}; seeds {seeds}):",
        "means, and the last column's standard deviation over the seeds.",
        f"Text: Python's `pydoc_data.topics` ({text.digest}). One thread of {result['machine']['cpu']}, "
        f"{result['date']};",
        f"`python -m benchmarks.text.length_extrapolation --steps {options.steps} --seeds {seeds.replace(',', '')}`.",
        "",
        table(rows),
        "",
    ]
    harness.save(options.output, "length-extrapolation", result, "\n".join(lines))
    print(table(rows))


if __name__ == "__main__":
    main()
