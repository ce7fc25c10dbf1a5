"""The rules against slow ones, written from the definitions alone, on made texts; known cases by hand."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_text.redstone.document_rules import RULES, DocumentRules, measure, violations
from multiway_text.redstone.line_rules import LineRules, violation
from multiway_text.redstone.record import Record, stage
from multiway_text.redstone.sentences import MAX_LINE, normalized, split_sentences

WORDS = [
    "the",
    "be",
    "Of",
    "and",
    "have",
    "a",
    "ab",
    "ÄÖÜ",
    "naïve",
    "# 7",
    "...",
    "42",
    "x...",
    "…",
    "•",
    "– one",
    "ﬁne",
    "１２",
]
text_of_words = st.lists(
    st.tuples(st.sampled_from(WORDS), st.sampled_from([" ", "  ", ". ", "\n", "\u00a0", "\u2028", "\n\n"])),
    max_size=60,
).map(lambda parts: "".join(word + gap for word, gap in parts))
texts = text_of_words | st.text(max_size=80)
bullets = "•‣▶◀◦■□▪▫–"


def slow_normal(text):
    out = []
    for c in unicodedata.normalize("NFKC", text).lower().strip():
        kind = unicodedata.category(c)
        c = "\n" if kind in ("Zl", "Zp") else " " if kind == "Zs" else c
        if not (out and out[-1] == c and kind in ("Zs", "Zl", "Zp")):
            out.append(c)
    return "".join(out)


def slow_measure(text, sentences):
    normal = slow_normal(text)
    words = normal.split()
    n_words, n_chars = len(words), len("".join(words))
    norm_sents = [slow_normal(s) for s in sentences]

    def ratio(a, b):
        return a / b if b else 0.0

    values = {
        "words": n_words,
        "mean_word_length": ratio(n_chars, n_words),
        "symbols_to_words": ratio(sum(c == "#" for c in normal) + len(normal.split("...")) - 1, n_words),
        "words_with_letter": ratio(
            len([w for w in words if [c for c in w if unicodedata.category(c).startswith("L")]]), n_words
        ),
        "ellipsis_sentences": ratio(len([s for s in norm_sents if s[-3:] == "..."]), len(norm_sents)),
        "bullet_sentences": ratio(
            len([s for s in norm_sents if s.strip() and s.strip()[0] in bullets]), len(norm_sents)
        ),
        "stop_words": len(
            [w for w in words if w in ["the", "be", "to", "of", "and", "that", "have", "with"]]
        ),
    }
    for n in range(2, 11):
        grams = [words[i : i + n] for i in range(n_words - n + 1)]
        times = [grams.count(g) for g in grams]
        if n <= 4:
            best = times.index(max(times)) if times else None
            many = best is not None and times[best] > 1
            values[f"top_{n}gram"] = ratio(len("".join(grams[best])) * times[best], n_chars) if many else 0.0
        else:
            covered = {i + k for i, t in enumerate(times) if t > 1 for k in range(n)}
            values[f"repeated_{n}grams"] = ratio(sum(len(words[i]) for i in covered), n_chars)
    for name, units in (("sentence", sentences), ("paragraph", text.split("\n"))):
        twice = [u for u in units if units.count(u) > 1]
        chars = len("".join(units))
        values[f"duplicate_{name}s"] = len(twice) / len(units) if chars else 0.0
        values[f"duplicate_{name}_characters"] = ratio(len("".join(twice)), chars)
    return values


@settings(max_examples=300, deadline=None)
@given(texts)
def test_document_values_are_the_slow_ones(text):
    sentences = split_sentences(text)
    found, expected = measure(text, sentences), slow_measure(text, sentences)
    assert list(found) == [rule.name for rule in RULES]
    assert found == pytest.approx(expected, abs=1e-12)
    assert normalized(text) == slow_normal(text)


def test_thresholds_are_those_of_the_paper():
    limits = {rule.name: (rule.minimum, rule.maximum) for rule in RULES}
    inf = float("inf")
    assert limits["words"] == (50, 100_000)
    assert limits["mean_word_length"] == (3, 10)
    assert limits["stop_words"] == (2, inf)
    assert limits["words_with_letter"] == (0.8, inf)
    assert [limits[f"top_{n}gram"][1] for n in (2, 3, 4)] == [0.2, 0.18, 0.16]
    assert [limits[f"repeated_{n}grams"][1] for n in range(5, 11)] == [0.15, 0.14, 0.13, 0.12, 0.11, 0.10]


def test_known_values():
    assert measure("a b c a b d a b", [])["top_2gram"] == 6 / 8
    assert measure("a b c a b d a b", [])["top_3gram"] == 0
    assert measure("a b c a b c a b", [])["top_3gram"] == 6 / 8
    assert measure("x a b c d e y a b c d e", [])["repeated_5grams"] == 10 / 12
    assert measure("abc\nde\nabc", ["abc", "de", "abc"])["duplicate_sentences"] == 2 / 3
    assert measure("abc\nde\nabc", [])["duplicate_paragraph_characters"] == 6 / 8
    assert measure("The the THE the", [])["stop_words"] == 4  # occurrences, not distinct words
    assert violations(measure("", []))[0] == "words"


PAGE = (
    "Rain fell on the hills all night, and by morning the small river had left its bed. The miller opened both gates. "
    "His daughter carried sacks of flour to the upper floor, where they would stay dry. At noon a neighbour came with "
    "a boat to ask whether anyone needed help. They drank tea, watched the water, and spoke of earlier floods that "
    "nobody younger than sixty could have seen."
)


def test_a_document_is_kept_or_dropped_by_name():
    kept, short, repeated = stage(DocumentRules())(
        [Record("1", "", text=text) for text in (PAGE, "Too short.", (PAGE + "\n") * 3)]
    )
    assert not kept.drop_reason
    assert kept.meta["rules"]["words"] == len(PAGE.split())
    assert short.drop_reason == "document: words"
    assert "duplicate_paragraphs" in repeated.meta["violations"]


@pytest.mark.parametrize(
    ("sentence", "rule"),
    [
        ("ASDzxczxc a././.,./", ""),
        ("HELLO THERE you", "upper_case"),
        ("1231    34\t345345 ²", "numeric"),
        ("1,231", "single_word"),  # punctuation is no digit
        ("3 Emails", "counter"),
        ("３ emails", "counter"),  # the normal form's digits
        ("3 emails emails", ""),
        ("Hello", "single_word"),
        ("Sign in to go on", "pattern"),
        ("sign-up here", "pattern"),
        ("You may sign in here", ""),
        ("Read more...", "pattern"),
        ("read more …", ""),  # four characters behind it: blank and three dots
        ("read more abc", ""),
        ("read more/up", "pattern"),
        ("read more....", ""),
        ("There are 3 items in cart now", "pattern"),
    ],
)
def test_sentences_by_hand(sentence, rule):
    assert violation(sentence) == rule


def slow_violates(sentence):
    letters = [c for c in sentence if unicodedata.category(c) in ("Lu", "Ll", "Lt", "Lm", "Lo")]
    if letters and sum(unicodedata.category(c) == "Lu" for c in letters) / len(letters) > 0.6:
        return True
    s = slow_normal(sentence)
    if s and not [c for c in s if unicodedata.category(c)[0] in "LMPS"]:
        return True
    words = s.split()
    if len(words) == 1 or any(s.startswith(f"sign{gap}{way}") for gap in " -" for way in ("in", "up")):
        return True
    if len(words) == 2 and words[0].isdecimal() and words[1].isascii() and words[1].isalpha():
        return True
    tail = s[-12:]
    return "items in cart" in s or (tail.startswith("read more") and len(tail) == 12 and "\n" not in tail[9:])


lines = st.lists(
    st.sampled_from(
        [
            "sign",
            "in",
            "-",
            "up",
            "read",
            "more",
            "...",
            "…",
            "items in cart",
            "3",
            "٣",
            "Ⅷ",
            "ABC",
            "Ab",
            "x",
            " ",
            "\u00a0",
            "é",
        ]
    ),
    max_size=7,
).flatmap(lambda parts: st.sampled_from(["", " "]).map(lambda gap: gap.join(parts)))


@settings(max_examples=400, deadline=None)
@given(lines | st.text(max_size=20))
def test_sentences_against_the_slow_rules(sentence):
    assert bool(violation(sentence)) == slow_violates(sentence)


def test_lines_go_and_a_document_that_loses_much_goes_whole():
    kept, dropped = stage(LineRules())(
        [
            Record("1", "", text=f"{PAGE}\n17 comments\nHome"),
            Record("2", "", text=f"{PAGE}\n" + "SIGN IN NOW\n" * 9),
        ]
    )
    assert kept.text == "\n".join(split_sentences(PAGE))
    assert kept.meta["lines"] == {"counter": 1, "single_word": 1}
    assert dropped.drop_reason == "lines: more than 5% of the words"


def test_dropped_records_pass_a_stage_untouched():
    record = Record("1", "", text="x").drop("language: de")
    assert list(stage(DocumentRules())([record])) == [record]


def test_a_line_without_end_is_not_divided():
    line = "word. " * (MAX_LINE // 6 + 1)
    assert split_sentences(line) == [line.strip()]
    assert split_sentences("One is here. Two is there!\n\n  Three \n") == [
        "One is here.",
        "Two is there!",
        "Three",
    ]
