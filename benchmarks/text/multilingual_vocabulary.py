"""`bundled:multilingual-small` of the teacher: the vocabulary of 12 languages, 8 bits a weight.

    uv run --with wordfreq python -m benchmarks.text.multilingual_vocabulary --teacher FOLDER --texts texts.jsonl \
        --output DIR

FOLDER is what `benchmarks.text.e5_teacher` wrote, ``texts.jsonl`` what `benchmarks.text.multilingual_texts` did. How
often a language uses a piece: 0.6 by its words' frequencies (`wordfreq`, which has them in lower case: a quarter is
counted as capitalized, half in German), 0.4 by the texts. No file of XQuAD or Tatoeba is read.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

from multiway_core.tokenization import TextTokenizer
from multiway_text.encoder.sentence import SentenceModel
from multiway_text.encoder.vocabulary import cut, most_used, shares
from torch import Tensor

from benchmarks.text.multilingual_texts import LANGUAGES

WORDS, TEXTS, SHARE_OF_WORDS = 150_000, 15_000, 0.6
UNCASED = ("ja", "zh")


def word_shares(tokenizer: TextTokenizer, language: str) -> Tensor:
    """Shares of the pieces in a language's words."""
    from wordfreq import get_frequency_dict

    words = list(get_frequency_dict(language, "best").items())[:WORDS]
    found = shares(tokenizer, words)
    if language in UNCASED:
        return found
    capitalized = 0.5 if language == "de" else 0.25
    titles = shares(tokenizer, ((word.capitalize(), often) for word, often in words))
    return found * (1 - capitalized) + titles * capitalized


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64_000)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    model = SentenceModel.load(options.teacher)
    texts = defaultdict(list)
    for line in options.texts.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts[row["language"]].append((row["text"], 1.0))
    languages = {}
    for code in LANGUAGES:
        own = texts[code][:: max(1, len(texts[code]) // TEXTS)]
        of_texts = shares(model.tokenizer, own)
        languages[code] = (
            SHARE_OF_WORDS * word_shares(model.tokenizer, code) + (1 - SHARE_OF_WORDS) * of_texts
        )
    kept = most_used(model.tokenizer, languages, options.size)
    cut(model, kept, LANGUAGES).save(options.output, int8=True)
    for code, share in languages.items():
        print(f"{code}: {100 * float(1 - share[kept].sum()):.2f} % of the pieces of its text are cut")


if __name__ == "__main__":
    main()
