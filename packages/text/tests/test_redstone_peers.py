"""The rules beside datatrove's: the same verdict wherever the definitions agree. Skips without datatrove.

Where they differ: words are divided at white space here and by a tokenizer there; lines are sentences here; ``#`` and
``...`` count together here; stop words count by occurrence here; bullets are other symbols; repeats count with their
first copy here, and as shares of the words' characters. The made texts avoid these.
"""

import random
import sys

import pytest
from multiway_text.redstone.document_rules import measure, violations

pytestmark = pytest.mark.peer
GOPHER = {
    "gopher_short_doc": {"words"},
    "gopher_long_doc": {"words"},
    "gopher_below_avg_threshold": {"mean_word_length"},
    "gopher_above_avg_threshold": {"mean_word_length"},
    "gopher_too_many_hashes": {"symbols_to_words"},
    "gopher_too_many_ellipsis": {"symbols_to_words"},
    "gopher_too_many_bullets": {"bullet_sentences"},
    "gopher_too_many_end_ellipsis": {"ellipsis_sentences"},
    "gopher_below_alpha_threshold": {"words_with_letter"},
    "gopher_enough_stop_words": {"stop_words"},
}


@pytest.fixture(scope="module")
def filters():
    pytest.importorskip("datatrove")
    from datatrove.pipeline.filters import gopher_quality_filter, gopher_repetition_filter

    patch = pytest.MonkeyPatch()
    for module in (gopher_quality_filter, gopher_repetition_filter):
        patch.setattr(module, "split_into_words", lambda text, language: text.split())
    yield gopher_quality_filter.GopherQualityFilter(), gopher_repetition_filter.GopherRepetitionFilter()
    patch.undo()


def document(text):
    return sys.modules["datatrove.data"].Document(text=text, id="0")


def made_text(rng):
    """Lines of made words; each of the quality rules is near its threshold in some of the texts."""
    longest = rng.choice([3, 4, 9, 13, 20])
    stop = rng.sample(["the", "be", "to", "of", "and", "that", "have", "with"], rng.randint(0, 4))
    share = rng.choice([0, 0, 0.17, 0.2, 0.23])  # of numbers: no words with a letter
    words = [
        "7" * rng.randint(2, longest)
        if rng.random() < share
        else "".join(rng.choices("bcdfgxz", k=rng.randint(2, longest)))
        for _ in range(rng.choice([40, 49, 50, 51, 70, 120]) - len(stop))
    ] + stop
    rng.shuffle(words)
    lines = [words[i : i + 5] for i in range(0, len(words), 5)]
    mark, most = rng.choice([("x#", 0.13), ("", 0), ("", 0)])
    dots, bullets = rng.choice([0, 0, 0.25, 0.3, 0.4]), rng.choice([0, 0, 0, 0.85, 0.97])
    text = []
    for line in lines:
        line = [word + mark if mark and rng.random() < most else word for word in line]
        head = "\u2022" if rng.random() < bullets else ""
        text.append(head + " ".join(line) + ("..." if not mark and rng.random() < dots else ""))
    return "\n".join(text)


def test_gopher_quality_gives_the_same_verdict(filters):
    rng, seen = random.Random(0), set()
    quality = filters[0]
    for _ in range(2000):
        text = made_text(rng)
        verdict = quality.filter(document(text))
        ours = violations(measure(text, text.split("\n")))
        ours = [name for name in ours if name in set().union(*GOPHER.values())]
        assert (verdict is True) == (not ours), (text, verdict, ours)
        if verdict is not True:
            seen.add(verdict[1])
            assert GOPHER[verdict[1]] <= set(ours), (text, verdict, ours)
        else:
            seen.add("")
    assert seen >= GOPHER.keys() - {"gopher_long_doc"} | {""}, GOPHER.keys() - seen


def test_what_repeats_for_datatrove_repeats_here(filters):
    """Here copies count with the first and by the words' characters: never less, so nothing is kept that they drop."""
    rng, dropped = random.Random(1), 0
    rules = {"dup_line": "duplicate_paragraph", "top_": "top_", "duplicated": "repeated_"}
    for _ in range(1500):
        pool = ["".join(rng.choices("bcdfgxz", k=5)) for _ in range(rng.choice([30, 60, 300]))]
        lines = [" ".join(rng.choices(pool, k=7)) for _ in range(20)]
        lines = [rng.choice(lines) if rng.random() < rng.choice([0, 0.2, 0.5]) else line for line in lines]
        verdict = filters[1].filter(document("\n".join(lines)))
        if verdict is True or (verdict[1].startswith("top_")):  # blanks count there, and a single occurrence
            continue
        dropped += 1
        ours = violations(measure("\n".join(lines), lines))
        kind = next(name for start, name in rules.items() if verdict[1].startswith(start))
        assert any(name.startswith(kind) for name in ours), (lines, verdict, ours)
    assert dropped > 200
