"""TextTokenizer: the ids of `transformers` and of the libraries, for every kind; folders, batches, sampling, errors.

``MULTIWAY_FUZZ_STRINGS=10000 pytest packages/core/tests/test_tokenization.py`` compares as many strings a kind.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import random
import sys
import types
from collections import Counter
from pathlib import Path

import pytest
import torch
from multiway_core.errors import CheckpointError, InputError
from multiway_core.tokenization import TextTokenizer, byte_bpe
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

pytestmark = pytest.mark.requires("sentencepiece", "transformers")

STRINGS = int(os.environ.get("MULTIWAY_FUZZ_STRINGS", "300"))
CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog doesn't care.",
    "A language model reads text in pieces: unbelievable, tokenization, encoders.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "Voix ambiguë d'un cœur qui, au zéphyr, préfère les jattes de kiwis.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "東京都は日本の首都です。天気がいいですね。",
    "12 345.67 EUR (2024-01-31) = 100% #tag @name e-mail@example.org",
] * 12


def fuzz(count: int = STRINGS, seed: int = 0) -> list[str]:
    """Words of the corpus, odd spaces, accents, controls, emoji, and any character of Unicode's first planes."""
    rng = random.Random(seed)
    words = [word for line in CORPUS[:7] for word in line.split()]
    marks = [
        "\t",
        "\n",
        "  ",
        "\u00a0",
        "\u200d",
        "\u3000",
        "e\u0301",
        "\ufb01",
        "①",
        "😀",
        "'s",
        "n't",
        "--",
        "…",
    ]
    marks += ["👩\u200d👧", "\u0000", "\x7f"]

    def part() -> str:
        kind = rng.random()
        if kind < 0.55:
            return rng.choice(words)
        if kind < 0.75:
            return rng.choice(marks)
        if kind < 0.9:
            return "".join(chr(rng.randint(32, 126)) for _ in range(rng.randint(1, 8)))
        code = rng.choice(
            [rng.randint(0xA0, 0x2FFF), rng.randint(0x3000, 0xD7FF), rng.randint(0x10000, 0x1FFFF)]
        )
        return chr(code)

    return [
        "".join(part() + rng.choice([" ", " ", "", "  "]) for _ in range(rng.randint(0, 9)))
        for _ in range(count)
    ]


@pytest.fixture(scope="module", params=["cased", "uncased"])
def word_piece(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wordpiece")
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=request.param == "uncased")
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[X_SEP]", "[S2S_SOS]"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    )
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in vocab), encoding="utf-8")
    return folder


@pytest.fixture(scope="module", params=["gpt2", "roberta"])
def byte_level(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    special = ["<|endoftext|>"] if request.param == "gpt2" else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.model.save(str(folder))
    return folder


@pytest.fixture(scope="module")
def fast_bpe(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fastbpe")
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = ["<s>", "</s>", "<pad>", "<unk>", *(f"<special{i}>" for i in range(10))]
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=special, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    content = json.loads(tokenizer.to_str())["model"]
    merges = [merge if isinstance(merge, list) else merge.split(" ") for merge in content["merges"]]
    # A published vocabulary lists what the merges leave in a corpus: what only leads to a longer piece is not in it.
    inner = {"".join(pair) for pair in merges[:120:5]}
    vocab = [token for token in content["vocab"] if token not in inner or token in special]
    (folder / "vocab.json").write_text(
        json.dumps({token: i for i, token in enumerate(vocab)}), encoding="utf-8"
    )
    lines = "".join(f"{first} {second} 7\n" for first, second in merges)
    (folder / "merges.txt").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def sentence_piece(request, tmp_path_factory) -> Path:
    import sentencepiece

    folder = tmp_path_factory.mktemp(request.param)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        vocab_size=200,
        hard_vocab_limit=request.param == "bpe",
        model_type=request.param,
        character_coverage=0.98,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    (folder / "sentencepiece.bpe.model").write_bytes(model.getvalue())
    return folder


@pytest.fixture(scope="module")
def unigram(tmp_path_factory) -> Path:
    """XLM-R's layout of ``tokenizer.json``: special tokens stand in the vocabulary, with a score of 0."""
    import transformers

    folder = tmp_path_factory.mktemp("unigram-json")
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(vocab_size=300, special_tokens=[], unk_token="<unk>", show_progress=False),
    )
    pieces = [tuple(entry) for entry in json.loads(trained.to_str())["model"]["vocab"] if entry[0] != "<unk>"]
    vocab = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces, ("<mask>", 0.0)]
    theirs = transformers.XLMRobertaTokenizer(vocab=vocab, add_prefix_space=True)
    theirs.save_pretrained(str(folder))
    return folder


def same(folder: Path, theirs, strings: list[str], *, pairs: bool = True) -> TextTokenizer:
    ours = TextTokenizer.from_folder(folder)
    for text in strings:
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], repr(text)
    texts = [text for text in strings if text][:100]  # transformers takes an empty second text for none
    for first, second in zip(texts[:50], texts[50:], strict=False):
        expected = theirs(
            first, second if pairs else None, return_token_type_ids=True, return_special_tokens_mask=True
        )
        found = ours.encode_with_offsets(first, second if pairs else None)
        assert found.ids == expected["input_ids"]
        assert found.special_mask == [bool(flag) for flag in expected["special_tokens_mask"]]
        assert found.type_ids == expected["token_type_ids"]
    return ours


def test_wordpiece_is_berts(word_piece) -> None:
    import transformers

    cased = any(
        line != line.lower() and line[0] != "[" for line in (word_piece / "vocab.txt").read_text().split()
    )
    theirs = transformers.BertTokenizer(str(word_piece / "vocab.txt"), do_lower_case=not cased)
    ours = same(word_piece, theirs, fuzz())
    assert ours.kind == "WordPiece"
    assert ours.special_id("[S2S_SOS]") == 6
    text = "the quick brown Böxkämpfer"
    expected = theirs(text, return_offsets_mapping=True)
    assert ours.encode_with_offsets(text).offsets == [tuple(pair) for pair in expected["offset_mapping"]]
    assert ours.special_id("[MASK]") not in ours.encode("a [MASK] b")
    lowered = TextTokenizer.from_folder(word_piece, lowercase=True)
    assert lowered.encode("THE FOX") == lowered.encode("the fox")


def test_byte_level_bpe_is_gpt2s_and_robertas(byte_level) -> None:
    import transformers

    roberta = "roberta" in byte_level.name
    kind = transformers.RobertaTokenizer if roberta else transformers.GPT2Tokenizer
    theirs = kind(str(byte_level / "vocab.json"), str(byte_level / "merges.txt"))
    if not roberta:
        theirs.pad_token = theirs.eos_token
    ours = same(byte_level, theirs, fuzz(), pairs=roberta)
    assert ours.kind == "byte-level BPE"
    for text in fuzz(100, 1):
        assert ours.decode(ours.encode(text)) == text
    assert ours.decode(ours.encode("half \ud800 pair")) == "half ? pair"
    control = next(iter(ours.special))
    assert ours.special[control] not in ours.encode(f"a{control}b")


def test_fastbpe_is_xlms(fast_bpe, tmp_path, monkeypatch) -> None:
    # The class wants the package that cuts text into words, though it is told not to use it.
    import transformers

    monkeypatch.setitem(sys.modules, "sacremoses", types.ModuleType("sacremoses"))
    theirs = transformers.XLMTokenizer(str(fast_bpe / "vocab.json"), str(fast_bpe / "merges.txt"))
    ours = TextTokenizer.from_folder(fast_bpe)
    pieces = theirs._tokenize  # the public method cuts words again
    check_fast_bpe(
        fast_bpe, tmp_path, lambda text: theirs.convert_tokens_to_ids(pieces(text, bypass_tokenizer=True))
    )
    first, second = ours.encode("the dog"), ours.encode("a fox")
    assert ours.add_special_tokens(first, second)[0] == theirs.build_inputs_with_special_tokens(first, second)


def test_fastbpe_is_merging_by_rank(fast_bpe, tmp_path) -> None:
    vocab = json.loads((fast_bpe / "vocab.json").read_text())
    lines = (fast_bpe / "merges.txt").read_text().splitlines()
    ranks = {tuple(line.split(" ")[:2]): rank for rank, line in enumerate(lines)}

    def merged(word: str) -> list[int]:
        symbols = [*word[:-1], f"{word[-1]}</w>"]
        while len(symbols) > 1:
            best = min(itertools.pairwise(symbols), key=lambda pair: ranks.get(pair, math.inf))
            if best not in ranks:
                break
            out: list[str] = []
            for symbol in symbols:
                if out and (out[-1], symbol) == best and out[-1] is not None:
                    out[-1] = out[-1] + symbol
                    out.append("")  # a symbol just merged is not merged again in this round
                else:
                    out.append(symbol)
            symbols = [symbol for symbol in out if symbol]
        return [vocab.get(symbol, vocab["<unk>"]) for symbol in symbols]

    check_fast_bpe(
        fast_bpe, tmp_path, lambda text: [index for word in text.split() for index in merged(word)]
    )


def check_fast_bpe(folder: Path, scratch: Path, expected) -> None:
    ours = TextTokenizer.from_folder(folder)
    assert ours.kind == "fastBPE"
    strings = [" ".join(text.split()) for text in fuzz()]
    for text in strings:
        assert ours.encode(text) == expected(text), repr(text)
    assert any(ours.special["<unk>"] in ours.encode(text) for text in strings)
    # The same from fastBPE's own files, where "@@" marks a piece that a word goes on behind.
    pieces = list(json.loads((folder / "vocab.json").read_text()))[14:]
    written = (p.removesuffix("</w>") if p.endswith("</w>") else f"{p}@@" for p in pieces)
    (scratch / "vocab_xnli_15").write_text("".join(f"{piece} 5\n" for piece in written), encoding="utf-8")
    (scratch / "codes_xnli_15").write_text(
        (folder / "merges.txt").read_text(encoding="utf-8"), encoding="utf-8"
    )
    again = TextTokenizer.from_folder(scratch)
    assert [again.encode(text) for text in strings] == [ours.encode(text) for text in strings]
    assert again.decode(again.encode("the quick dog")) == "the quick dog"


def test_sentencepiece_is_the_librarys_in_fairseqs_numbering(sentence_piece) -> None:
    import sentencepiece

    library = sentencepiece.SentencePieceProcessor(model_file=str(sentence_piece / "sentencepiece.bpe.model"))
    ours = TextTokenizer.from_folder(sentence_piece)
    plain = TextTokenizer.from_folder(sentence_piece, fairseq=False)
    assert ours.kind == ("Unigram" if "unigram" in sentence_piece.name else "SentencePiece BPE")
    strings = fuzz()
    for text in strings:
        expected = library.EncodeAsIds(text)
        assert plain.encode(text) == expected
        assert ours.encode(text) == [3 if index == 0 else index + 1 for index in expected]
    assert ours.engine.encode_batch(strings) == [ours.encode(text) for text in strings]
    text = "the lazy <s> dog ①"
    found = ours.encode_with_offsets(text)
    assert found.ids == [0, *ours.encode(text), 2]
    assert 0 not in ours.encode(text)
    assert found.offsets[1][0] == 0
    assert found.offsets[-2][1] == len(text)
    assert found.special_mask == [True, *[False] * (len(found.ids) - 2), True]
    assert ours.decode(ours.encode("the lazy dog")) == " the lazy dog"
    assert ours.special_id("<mask>") == ours.vocab_size - 1 == library.GetPieceSize() + 1


def test_unigram_is_xlm_robertas(unigram) -> None:
    import transformers

    theirs = transformers.AutoTokenizer.from_pretrained(str(unigram))
    ours = same(unigram, theirs, fuzz())
    assert ours.kind == "Unigram"
    for text in ("<s>", "a <mask> b</s>", "x<pad>"):
        assert not {ours.special[name] for name in ("<s>", "</s>", "<pad>", "<mask>")} & set(
            ours.encode(text)
        )
        assert ours.encode_with_offsets(text).offsets[-2][1] == len(text)


def test_batches_are_cut_and_padded_as_transformers_does(word_piece, unigram) -> None:
    import transformers

    strings = [text or "x" for text in fuzz(60, 2)]
    for folder in (word_piece, unigram):
        theirs = transformers.PreTrainedTokenizerFast(
            tokenizer_object=TextTokenizer.from_folder(folder).engine.tokenizer,
            pad_token="[PAD]" if folder is word_piece else "<pad>",
        )
        ours = TextTokenizer.from_folder(folder)
        for limit in (None, 5, 12, 13, 30):
            for pairs in (None, strings[::-1]):
                if limit == 5 and pairs:
                    continue
                expected = theirs(
                    strings,
                    pairs,
                    padding=True,
                    truncation=limit is not None,
                    max_length=limit,
                    return_token_type_ids=True,
                    return_tensors="pt",
                    split_special_tokens=True,
                )
                found = ours.batch(strings, pairs, max_length=limit)
                assert torch.equal(found.ids_BT, expected["input_ids"])
                assert torch.equal(found.valid_BT, expected["attention_mask"].bool())
                if folder is word_piece:
                    assert torch.equal(found.types_BT, expected["token_type_ids"])
    left = ours.batch(["the fox", "a"], padding_side="left", add_special_tokens=False)
    assert left.ids_BT[1, -1] == ours.encode("a")[-1]
    assert not left.valid_BT[1, 0]
    assert left.ids_BT[1, 0] == ours.pad_id == 1
    with pytest.raises(InputError, match="no room"):
        ours.batch(["a"], max_length=2)
    with pytest.raises(InputError, match="cannot be made"):
        ours.batch([])


@pytest.mark.parametrize("layout", ["file", "json"])
def test_samples_are_drawn_in_proportion_to_their_probability(layout, sentence_piece, unigram) -> None:
    if layout == "file" and "bpe" in sentence_piece.name:
        with pytest.raises(InputError, match="needs a Unigram vocabulary"):
            TextTokenizer.from_folder(sentence_piece).sample("a", 0.1)
        return
    ours = TextTokenizer.from_folder(sentence_piece if layout == "file" else unigram)
    generator = torch.Generator().manual_seed(0)
    text, alpha, draws = "the dog", 0.4, 4000
    counts = Counter(tuple(ours.sample(text, alpha, generator)) for _ in range(draws))
    lattice = ours.engine.lattice()
    scores = dict(lattice.pieces.values())

    def ways(rest: str) -> list[tuple[int, ...]]:
        if not rest:
            return [()]
        heads = [(piece, index) for piece, (index, _) in lattice.pieces.items() if rest.startswith(piece)]
        return [(index, *tail) for piece, index in heads for tail in ways(rest[len(piece) :])]

    whole = [sum(found, ()) for found in _products([ways(word) for word in lattice.words(text)])]
    weights = {ids: math.exp(alpha * sum(scores[index] for index in ids)) for ids in whole}
    total = sum(weights.values())
    assert set(counts) <= set(weights)
    for ids, weight in weights.items():
        expected = weight / total
        assert abs(counts[ids] / draws - expected) < 5 * math.sqrt(expected * (1 - expected) / draws) + 1e-3
    for sentence in CORPUS[:7]:  # the likeliest segmentation is what encode gives
        assert ours.sample(sentence, 200.0, generator) == ours.encode(sentence)
    again = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    assert ours.sample(CORPUS[0], 0.1, again[0]) == ours.sample(CORPUS[0], 0.1, again[1])
    assert ours.decode(ours.sample(CORPUS[0], 0.1)).strip() == ours.decode(ours.encode(CORPUS[0])).strip()
    assert ours.sample("", 0.1) == []
    with pytest.raises(InputError, match="alpha"):
        ours.sample("a", -1.0)


def _products(lists: list[list[tuple[int, ...]]]) -> list[tuple[tuple[int, ...], ...]]:
    return list(itertools.product(*lists))


def test_byte_vocabularies_made_here(tmp_path) -> None:
    ours = TextTokenizer(byte_bpe.train(CORPUS, 300), end_ids=(0,))
    ours.save(tmp_path)
    again = TextTokenizer.from_folder(tmp_path)
    for text in fuzz(100, 3):
        assert again.encode(text) == ours.encode(text)
        assert byte_bpe.bytes_only().encode(text) == list(text.encode())
    assert again.end_ids == ours.end_ids
    assert again.prefix_id == 0
    assert again.decode_token(0) == byte_bpe.END
    assert again.decode([0, *again.encode("a")]) == "a"
    assert again.decode([0], skip_special_tokens=False) == byte_bpe.END
    with pytest.raises(CheckpointError, match="no token <none>"):
        again.special_id("<none>")
    with pytest.raises(InputError, match="out of the vocabulary"):
        again.check([300], 300)


BROKEN = {
    "nothing": ({}, "no tokenizer.json, and neither"),
    "json": ({"tokenizer.json": "{"}, "tokenizer.json: not a tokenizer"),
    "model": ({"tokenizer.model": "no model"}, "not a SentencePiece model"),
    "models": ({"a.model": "", "b.model": ""}, r"several SentencePiece models \(a.model, b.model\)"),
    "no pieces": ({"vocab.txt": "a\nb\n"}, r"no \[UNK\], \[CLS\], \[SEP\]"),
    "bytes": ({"vocab.txt": b"\xff\xfe"}, "vocab.txt: not UTF-8 text"),
    "ids": ({"vocab.json": '{"a": "x"}', "merges.txt": "a b"}, "expected an id for every token"),
    "vocabulary": ({"vocab.json": "[", "merges.txt": "a b"}, "vocab.json"),
    "merge": ({"vocab.json": '{"a": 0}', "merges.txt": "#version: 0.2\na"}, "not a merge of two pieces: 'a'"),
    "unknown merge": ({"vocab.json": '{"a": 0}', "merges.txt": "a b\n"}, "do not fit the vocabulary"),
    "no unk": ({"vocab.json": '{"a": 0}', "merges.txt": "a b</w>\n"}, "has no <unk>"),
    "clip": ({"vocab.json": '{"<|startoftext|>": 0}', "merges.txt": "a b</w>\n"}, "CLIP"),
    "counts": ({"vocab_x": "a\n", "codes_x": "a b\n"}, "line 1: expected a piece and its count"),
    "settings": ({"tokenizer.json": "{}", "tokenizer_config.json": "["}, "tokenizer_config.json"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_say_what_is_wrong_in_one_line(case, tmp_path) -> None:
    written, message = BROKEN[case]
    for name, content in written.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Exception, match=message) as caught:
        TextTokenizer.from_folder(tmp_path)
    assert isinstance(caught.value, CheckpointError) or case == "settings"
    assert "\n" not in str(caught.value)


def test_a_path_that_is_not_there(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        TextTokenizer.from_folder(tmp_path / "none" / "here")
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        TextTokenizer.from_folder(tmp_path / "tokenizer.json")


def test_padding_and_truncation_of_a_file_are_left_out(word_piece, tmp_path) -> None:
    """Sentence-transformers' files keep those that the encoder was trained with."""
    plain = TextTokenizer.from_folder(word_piece)
    library = Tokenizer.from_str(plain.engine.tokenizer.to_str())
    library.enable_padding(length=128)
    library.enable_truncation(5)
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = TextTokenizer.from_folder(tmp_path)
    text = "the quick brown fox jumps over the lazy dog"
    assert tokenizer.encode(text) == plain.encode(text)
    assert tokenizer.batch([text], max_length=6).ids_BT.shape == (1, 6)
