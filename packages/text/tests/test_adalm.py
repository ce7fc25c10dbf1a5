"""AdaLM: tokens against `transformers`, P(D) and the growth loop against slow ones, new rows, strategies, bad input."""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from multiway_blocks import text_encoder
from multiway_blocks.text_encoder import TextEncoder
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainOptions, run
from multiway_text.adalm import vocabulary
from multiway_text.adalm.embedding import extend
from multiway_text.adalm.recipe import RECIPES, REPORT_FILE, Recipe
from multiway_text.encoder.heads import MaskedLM
from multiway_text.encoder.sentence import SentenceModel, SentenceSettings

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,-"
RAW = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), "the", "pro", "##ein", "cell", "acid"]


def domain(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    words = [
        "protein",
        "proteins",
        "kinase",
        "binding",
        "acid",
        "the",
        "cell",
        "cellular",
        "Über",
        "mRNA-1",
        "日",
        "x" * 120,
    ]
    return [
        " ".join(draw.choices(words, weights=range(len(words), 0, -1), k=draw.randint(4, 20))) + "."
        for _ in range(count)
    ]


@pytest.fixture
def tokenizer(tmp_path: Path) -> TextTokenizer:
    (tmp_path / "vocab.txt").write_text("\n".join(RAW), encoding="utf-8")
    return TextTokenizer.from_folder(tmp_path / "vocab.txt", lowercase=True)


def test_more_pieces_give_the_tokens_of_transformers(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    from transformers import BertTokenizer

    growth = vocabulary.grow(domain(60), tokenizer, interval=30, delta=0.05)
    after = vocabulary.extended(tokenizer, growth.pieces)
    (tmp_path / "new.txt").write_text("\n".join([*RAW, *growth.pieces]), encoding="utf-8")
    theirs = BertTokenizer(str(tmp_path / "new.txt"), do_lower_case=True)
    for text in domain(40, seed=1):
        assert after.add_special_tokens(after.encode(text))[0] == theirs(text)["input_ids"]
    assert after.vocab_size == len(RAW) + len(growth.pieces)
    after.save(tmp_path / "saved")
    assert TextTokenizer.from_folder(tmp_path / "saved").encode(domain(1)[0]) == after.encode(domain(1)[0])


def test_p_of_d_is_what_documents_say(tokenizer: TextTokenizer) -> None:
    texts = domain(30)
    tokens = [[tokenizer.library.id_to_token(i) for i in tokenizer.encode(text)] for text in texts]
    frequency = Counter(token for text in tokens for token in text)
    total = sum(frequency.values())
    expected = sum(sum(math.log(frequency[t] / total) for t in text) for text in tokens) / len(texts)
    counts, documents = vocabulary.word_counts(texts, tokenizer)
    found = vocabulary.log_probability(counts, documents, frozenset(RAW))
    assert found == pytest.approx(expected, rel=1e-12)


def slow_pieces(counts: Counter, raw: list[str], min_count: int) -> list[str]:
    """The procedure of SubwordTextEncoder, told again with words as tuples of (mark, letters)."""
    pieces = set(raw)
    kept: list[tuple[int, str]] = []
    for _ in range(5):
        table: dict[str, int] = defaultdict(int)
        for word, count in counts.items():
            if len(word) > 100:
                continue
            rest, starts, cut_start = word, [], 0
            while rest:
                mark = "##" if cut_start else ""
                size = next((n for n in range(len(rest), 0, -1) if mark + rest[:n] in pieces), 0)
                if not size:
                    starts = [0]
                    break
                starts.append(cut_start)
                cut_start += size
                rest = word[cut_start:]
            for start in starts:
                for end in range(start + 1, min(len(word), start + 20) + 1):
                    table[("##" if start else "") + word[start:end]] += count
        frequent = [piece for piece, count in table.items() if count >= min_count]
        kept = []
        for piece in sorted(frequent, key=lambda one: -len(one.removeprefix("##"))):
            if table[piece] < min_count:
                continue
            if piece not in raw:
                kept.append((table[piece], piece))
            mark, letters = ("##", piece[2:]) if piece.startswith("##") else ("", piece)
            for size in range(1, len(letters)):
                table[mark + letters[:size]] -= table[piece]
        pieces = {*raw, *(piece for _, piece in kept)}
    return [piece for _, piece in sorted(kept, key=lambda item: (-item[0], item[1]))]


def test_growth_is_the_slow_one(tokenizer: TextTokenizer) -> None:
    texts = domain(200)
    counts, _ = vocabulary.word_counts(texts, tokenizer)
    for min_count in (1, 7, 40):
        assert vocabulary._learn(counts, frozenset(RAW), min_count) == slow_pieces(counts, RAW, min_count)
    growth = vocabulary.grow(texts, tokenizer, interval=20, delta=0.02)
    again = vocabulary.grow(texts, tokenizer, interval=20, delta=0.02)
    assert growth == again
    assert growth.steps[0].size == len(RAW)
    assert growth.steps[-1].gain <= 0.02 < growth.steps[1].gain
    assert len(growth.pieces) == growth.steps[-1].size - len(RAW)
    previous = vocabulary.grow(texts, tokenizer, interval=20, delta=0.02, keep="previous")
    assert len(previous.pieces) == growth.steps[-2].size - len(RAW)
    report = vocabulary.compare(texts, tokenizer, vocabulary.extended(tokenizer, growth.pieces))
    after = vocabulary.extended(tokenizer, growth.pieces)
    assert report.tokens_after == sum(len(after.encode(text)) for text in texts)
    assert report.tokens_before == sum(len(tokenizer.encode(text)) for text in texts)
    assert report.saved > 0.3
    assert 0 < report.words_cut_otherwise < report.words


def tiny(tokenizer: TextTokenizer) -> TextEncoder:
    torch.manual_seed(0)
    shape = replace(
        text_encoder.PRESETS["minilm-l6-h384-uncased"],
        vocab_size=tokenizer.vocab_size,
        num_layers=2,
        hidden_size=24,
        num_heads=4,
        inner_size=48,
        num_positions=48,
        pooler=False,
    )
    return TextEncoder(shape).eval()


def test_new_rows_are_means_and_old_texts_stay(tokenizer: TextTokenizer) -> None:
    model = MaskedLM(tiny(tokenizer)).eval()
    batch = tokenizer.batch(["the acid cell.", "b-c the"])
    before = model(batch.ids_BT, batch.valid_BT)
    old = model.encoder.token_embedding.weight.detach().clone()
    after = vocabulary.extended(tokenizer, ["protein", "##eins", "kinase"])
    extend(model, tokenizer, after)
    assert after.encode("the acid cell.") == tokenizer.encode("the acid cell.")
    found = model(batch.ids_BT, batch.valid_BT)
    assert torch.equal(found[..., : len(old)], before)
    rows, index = model.encoder.token_embedding.weight, RAW.index
    torch.testing.assert_close(rows[len(old)], old[[index("pro"), index("##t"), index("##ein")]].mean(0))
    torch.testing.assert_close(rows[len(old) + 1], old[[index("##ein"), index("##s")]].mean(0))
    assert model.encoder.config.vocab_size == len(rows) == len(model.head.bias) == after.vocab_size
    with pytest.raises(InputError, match="rows and its tokenizer"):
        extend(model, tokenizer, after)


def test_bad_vocabularies_and_numbers_are_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(InputError, match="no text"):
        vocabulary.grow([], tokenizer)
    with pytest.raises(InputError, match="delta 1 between"):
        vocabulary.grow(domain(3), tokenizer, delta=1)
    many = vocabulary.extended(tokenizer, [f"piece{number}" for number in range(400)])
    with pytest.raises(InputError, match="less than the 1 % by which a size may be missed"):
        vocabulary.grow(["an acid"], many, interval=2)
    with pytest.raises(InputError, match="already: 'acid'"):
        vocabulary.extended(tokenizer, ["acid"])
    from multiway_core.tokenization import byte_bpe

    with pytest.raises(InputError, match="WordPiece's rules"):
        vocabulary.grow(domain(3), byte_bpe.bytes_only())


@pytest.mark.parametrize(
    ("strategy", "stages"),
    [
        ("scratch", {"pretrain"}),
        ("distil-then-adapt", {"relations", "adapt-student"}),
        ("adapt-then-distil", {"adapt-teacher", "relations"}),
        ("adapt-and-distil", {"adapt-teacher", "adapt-student", "relations"}),
    ],
)
def test_strategies(tokenizer: TextTokenizer, tmp_path: Path, strategy: str, stages: set[str]) -> None:
    SentenceModel(tiny(tokenizer), tokenizer, SentenceSettings()).save(tmp_path / "teacher")
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in domain(60)))
    smoke: Recipe = RECIPES["adalm-smoke"]
    sizes = {
        "layers": 1,
        "hidden_size": 12,
        "heads": 3,
        "relation_heads": 6,
        "length": 40,
        "batch_tokens": 160,
    }
    recipe = replace(
        smoke,
        teacher=str(tmp_path / "teacher"),
        strategy=strategy,
        interval=20,
        distil=replace(smoke.distil, **sizes),
    )
    report = run(recipe, TrainOptions(tmp_path / "run", data=(str(texts),)))
    assert {path.name for path in (tmp_path / "run").iterdir() if (path / "checkpoints").is_dir()} == stages
    told = json.loads((tmp_path / "run" / REPORT_FILE).read_text())
    found = text_encoder.load(report.folder)
    assert found.config.vocab_size == len(RAW) + len(told["pieces"])
    assert found.config.hidden_size == 12
    assert told["report"]["tokens_after"] < told["report"]["tokens_before"]
    with pytest.raises(InputError, match="unknown strategy 'other'"):
        run(replace(recipe, strategy="other"), TrainOptions(tmp_path / "no", data=(str(texts),)))
    with pytest.raises(InputError, match="needs a teacher"):
        run(replace(recipe, teacher=""), TrainOptions(tmp_path / "no", data=(str(texts),)))
