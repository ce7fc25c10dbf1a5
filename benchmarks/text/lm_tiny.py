"""How well does the bundled ternary model answer, and how fast, beside the teacher it was distilled from?

    python -m benchmarks.text.lm_tiny TEACHER.gguf [--model bundled:lm-tiny] [--output DIR] [--limit 200]

Held-out prompts are those of words that no training prompt has (`multiway_text.bitdistill.prompts`). Their answers are
judged by the teacher with the system message that it answered with: nats a token of what was said. The floor is what
the teacher says itself, the control the student's answers to other prompts. Capitals, opposites, days and sums were
taught with their answers: how many are right says how well they were kept, not how well it generalises; sums are
also asked beyond those taught.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from multiway_blocks.text_decoder import CausalLM
from multiway_core import hub
from multiway_core.evaluation.machine import installed_versions
from multiway_core.generation import GenerationConfig, generate
from multiway_text.bitdistill import evaluate, prompts, recipe
from multiway_text.bitdistill.answers import SYSTEM, Teacher
from multiway_text.bitdistill.examples import chat
from multiway_text.bitdistill.prompts import Prompt
from multiway_text.decoders.bitnet import checkpoint
from tokenizers import Tokenizer


def speed(model: CausalLM, tokenizer: Tokenizer, tokens: int = 64) -> float:
    """Greedy tokens a second behind one prompt."""
    tokenizer.encode_special_tokens = False
    prompt = torch.tensor([tokenizer.encode(chat("Tell me about a lion.")).ids])
    cache = model.new_cache(1, prompt.shape[1] + tokens)
    with torch.inference_mode():
        first = model.prefill(prompt, cache)
        started = time.perf_counter()
        generate(
            model.decode,
            first,
            cache,
            GenerationConfig(max_new_tokens=tokens, eos_token_ids=(), pad_token_id=0),
        )
    return tokens / (time.perf_counter() - started)


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--model", default="bundled:lm-tiny")
    parser.add_argument("--limit", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = hub.resolve(options.model)
    student = checkpoint.load(folder, dtype=torch.float32)
    small = Tokenizer.from_file(str(folder / "tokenizer.json"))
    teacher, tokenizer = recipe.load_teacher(options.teacher)

    asked = [prompt.text for prompt in prompts.draw()[1][: options.limit]]
    said = evaluate.answers(student, small, asked)
    replies = Teacher(teacher, tokenizer).answer(asked)
    floor = [
        (q, tokenizer.decode(a.tokens.tolist())) for q, a in zip(asked, replies, strict=True) if a is not None
    ]
    others = said[len(said) // 2 :] + said[: len(said) // 2]
    judged = {
        "student": evaluate.judge(teacher, tokenizer, asked, said, SYSTEM),
        "the teacher's own": evaluate.judge(
            teacher, tokenizer, [q for q, _ in floor], [a for _, a in floor], SYSTEM
        ),
        "student, to other prompts": evaluate.judge(teacher, tokenizer, asked, others, SYSTEM),
    }

    rng = random.Random(0)
    known = list(prompts.known())
    groups = {
        "capitals": [p for p in known if "apital" in p.text],
        "opposites": [p for p in known if "opposite" in p.text or "antonym" in p.text],
        "days and months": [p for p in known if "comes after" in p.text or "comes before" in p.text],
        "sums, taught": [p for p in known if any(c.isdigit() for c in p.text)],
        "sums, beyond": [
            Prompt(f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}.") for a in (14, 17, 23) for b in range(13, 30)
        ],
    }  # fmt: skip
    facts = {}
    for name, group in groups.items():
        chosen = group if len(group) <= 120 else rng.sample(group, 120)
        facts[name] = (
            evaluate.known_accuracy(evaluate.answers(student, small, [p.text for p in chosen]), chosen), len(chosen)
        )  # fmt: skip

    ours, theirs = [], []
    for _ in range(5):
        ours.append(speed(student, small))
        theirs.append(speed(teacher, tokenizer))
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    machine = harness.machine()
    lines = [
        "# lm-tiny",
        "",
        f"`python -m {__spec__.name} TEACHER.gguf --limit {options.limit}`, one thread of {machine['cpu']} at a "
        f"load of {machine['load_average']:.1f}, {datetime.now(UTC):%Y-%m-%d}. {size / 1e6:.1f} MB. Greedy, without "
        "the penalty against repetition that `generation_config.json` sets.",
        "",
        "| answers to held-out words | nats a token for the teacher | unfinished | repeats |",
        "|---|---|---|---|",
        *(f"| {n} | {j.nll:.2f} | {j.unfinished:.0%} | {j.repeats:.0%} |" for n, j in judged.items()),
        "",
        "| known facts | right | of |",
        "|---|---|---|",
        *(f"| {name} | {share:.0%} | {count} |" for name, (share, count) in facts.items()),
        "",
        f"Decoding: {statistics.median(ours):.0f} tokens/s, the teacher in bfloat16 {statistics.median(theirs):.0f} "
        f"(medians of 5, taken in turn): {statistics.median(a / b for a, b in zip(ours, theirs, strict=True)):.2f}x.",
        "",
        "First answers to held-out words, unchosen:",
        "",
        *(f"* {q} {a}" for q, a in zip(asked[:12], said[:12], strict=True)),
    ]
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "lm-tiny.md").write_text("\n".join(lines) + "\n")
    numbers = {
        "judged": {n: vars(j) for n, j in judged.items()},
        "facts": facts,
        "student": ours,
        "teacher": theirs,
        "machine": machine,
        "versions": installed_versions(),
    }
    (options.output / "lm-tiny.json").write_text(json.dumps(numbers, indent=2) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
