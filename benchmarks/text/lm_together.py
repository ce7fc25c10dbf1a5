"""Several answers at once: the network's steps one after the other, and all of them as one step.

    python -m benchmarks.text.lm_together [--threads 2] [--rounds 3] [--output DIR]

What the server does for its clients (`LanguageModel.batched_decode`), without the network in between: answers of
`bundled:lm-tiny` to several questions, sampled, each behind a cache of its own; and single steps of a BitNet at the
shapes of 2B4T with random weights. Wall time, medians of interleaved rounds.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import torch
from multiway_core.evaluation.machine import describe_machine
from multiway_text.language_model import LanguageModel
from multiway_text.sampling import SamplingOptions

from benchmarks import harness
from benchmarks.text.bitnet_cpp import build

COUNTS = (1, 2, 4, 8)
QUESTIONS = (
    "Tell me about the sea.", "What is a horse?", "Name a colour.", "Who are you?",
    "What is music?", "Why is the sky blue?", "Tell me a joke.", "What is bread?",
)  # fmt: skip


def tokens_a_second(model: LanguageModel, count: int, together: bool) -> float:
    """Of all answers, from when the prompts have been read to the end of the last answer."""
    options = SamplingOptions(max_tokens=60, seed=1, temperature=1.5)
    asked = [[{"role": "user", "content": question}] for question in QUESTIONS[:count]]
    answers = [model.steps(model.prompt_ids(messages), options) for messages in asked]
    for answer in answers:
        next(answer)
    steps, start = 0, time.perf_counter()
    while answers:
        if together:
            model.batched_decode(answers)
        for answer in list(answers):
            if next(answer, None) is None:
                answers.remove(answer)
            else:
                steps += 1
    return steps / (time.perf_counter() - start)


def rounds(work: Callable[[int, bool], float], count: int) -> dict[int, tuple[float, float]]:
    """Medians (one after the other, together) by number of answers."""
    found = {}
    for number in COUNTS:
        pairs = [(work(number, False), work(number, True)) for _ in range(count)]
        found[number] = tuple(statistics.median(values) for values in zip(*pairs, strict=True))
    return found


def large() -> Callable[[int, bool], float]:
    """Tokens a second of single steps at the shapes of 2B4T."""
    model, token = build("int8"), torch.tensor([[5]])
    caches = [model.new_cache(1, 128) for _ in range(max(COUNTS))]
    for cache in caches:
        model.prefill(torch.tensor([[1, 2, 3, 4]]), cache)

    def work(count: int, together: bool) -> float:
        start = time.perf_counter()
        if together:
            model.decode_each([token] * count, caches[:count])
        else:
            for cache in caches[:count]:
                model.decode(token, cache)
        return count / (time.perf_counter() - start)

    return work


@torch.inference_mode()
def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    small = LanguageModel.from_pretrained("bundled:lm-tiny")
    found = {
        "lm-tiny": rounds(lambda count, together: tokens_a_second(small, count, together), options.rounds),
        "2B4T's shapes": rounds(large(), options.rounds),
    }
    machine = describe_machine()
    lines = [
        "# Several answers at once",
        "",
        f"{machine['cpu']}, {options.threads} thread{'s' * (options.threads > 1)}, a load of {os.getloadavg()[0]:.1f}; "
        f"medians of {options.rounds} interleaved rounds, seeds 0 and 1, {harness.STARTED_AT}; "
        f"`python -m benchmarks.text.lm_together --threads {options.threads}`.",
        "",
        "| model | answers | one after the other, tokens/s | together, tokens/s | faster by |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, counts in found.items():
        for count, (apart, together) in counts.items():
            lines.append(f"| {name} | {count} | {apart:.0f} | {together:.0f} | {together / apart:.2f}x |")
    report = {
        **harness.provenance("lm-together"),
        "threads": options.threads,
        "tokens_a_second": found,
    }
    print("\n".join(lines))
    harness.save(options.output, "lm-together", report, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
