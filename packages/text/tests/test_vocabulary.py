"""A cut vocabulary: what it keeps it reads as before, what it lost in smaller pieces; a matrix in parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from multiway_blocks.text_encoder import TextEncoder
from multiway_blocks.text_encoder.checkpoint import joined, split
from multiway_core.errors import CheckpointError, InputError
from multiway_core.tokenization import TextTokenizer
from multiway_text.encoder import quantized
from multiway_text.encoder.pipeline import EncoderPipeline
from multiway_text.encoder.sentence import SentenceModel, SentenceSettings
from multiway_text.encoder.vocabulary import cut, most_used, shares
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

from packages.text.tests.tiny_encoder import CONFIG, sentence_model

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
PIECES = {
    "\u2581": -3.0, "\u2581the": -2.0, "\u2581cat": -4.0, "cat": -4.5, "\u2581katze": -5.0, "\u2581die": -3.5,
    "\u2581sat": -4.2, "kat": -6.0, "ze": -6.1, "猫": -5.5, "ж": -5.6, **dict.fromkeys("acdehikstz", -7.0),
}  # fmt: skip
SETTINGS = SentenceSettings(normalize=True, prompts={"query": "the "}, default_prompt="query")
ENGLISH, GERMAN = ["the cat sat", "the cat"], ["die katze"]


@pytest.fixture(scope="module")
def model() -> SentenceModel:
    torch.manual_seed(0)
    vocab = [(name, 0.0) for name in SPECIAL] + list(PIECES.items()) + [("<mask>", 0.0)]
    library = Tokenizer(models.Unigram(vocab, unk_id=3))
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    library.add_special_tokens([AddedToken(name, special=True) for name in (*SPECIAL, "<mask>")])
    library.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    encoder = TextEncoder(replace(CONFIG, vocab_size=len(vocab) + 1))  # a row more than pieces, as E5 has
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return SentenceModel(encoder.eval(), TextTokenizer(library), SETTINGS)


def of_english(model: SentenceModel, size: int = 18) -> tuple[SentenceModel, list[int]]:
    kept = most_used(model.tokenizer, {"en": shares(model.tokenizer, ((t, 1.0) for t in ENGLISH))}, size)
    return cut(model, kept, ["en"]), kept


def test_kept_pieces_mean_what_they_meant(model: SentenceModel) -> None:
    smaller, kept = of_english(model)
    before, after = EncoderPipeline(model), EncoderPipeline(smaller)
    assert len(kept) < model.tokenizer.vocab_size
    assert smaller.encoder.config.vocab_size == smaller.tokenizer.vocab_size == len(kept)
    assert smaller.settings.languages == ("en",)
    for old, new in zip(before.encode(ENGLISH), after.encode(ENGLISH), strict=True):
        assert [kept[index] for index in new] == old
    assert torch.equal(
        torch.from_numpy(before.embed(ENGLISH).vectors), torch.from_numpy(after.embed(ENGLISH).vectors)
    )
    assert smaller.tokenizer.special == {
        name: kept.index(old) for name, old in model.tokenizer.special.items()
    }


def test_lost_words_fall_into_smaller_pieces_and_lost_characters_are_unreadable(model: SentenceModel) -> None:
    weights = {"en": ENGLISH, "letters": [" ".join("acdehikstz")]}
    languages = {code: shares(model.tokenizer, ((t, 1.0) for t in texts)) for code, texts in weights.items()}
    kept = most_used(model.tokenizer, languages, 20)
    smaller = cut(model, kept)
    engine = smaller.tokenizer.engine
    assert [engine.id_to_token(i) for i in smaller.tokenizer.encode("katze")] == ["\u2581", *"katze"]
    pipeline = EncoderPipeline(smaller)
    assert pipeline.unreadable("die katze") == 0
    assert pipeline.unreadable("猫 猫") == 1
    assert pipeline.unreadable("cat 猫") == pytest.approx(0.25)
    assert EncoderPipeline(model).unreadable("cat 猫") == 0


def test_languages_weigh_the_same_and_rows_have_weights(model: SentenceModel) -> None:
    often = shares(model.tokenizer, ((text, 1.0) for text in ENGLISH * 50))
    once = shares(model.tokenizer, ((text, 1.0) for text in ENGLISH))
    assert torch.allclose(often, once)
    weighted = shares(model.tokenizer, [("the", 3.0), ("die", 1.0)])
    the, die = (model.tokenizer.engine.token_to_id(piece) for piece in ("\u2581the", "\u2581die"))
    assert weighted[[the, die]].tolist() == [0.75, 0.25]
    german = shares(model.tokenizer, ((text, 1.0) for text in GERMAN))
    kept = most_used(model.tokenizer, {"en": often, "de": german}, 7)
    katze = model.tokenizer.engine.token_to_id("\u2581katze")
    assert set(kept) - set(model.tokenizer.special.values()) == {die, katze}


def test_a_script_that_is_only_cited_is_left_out(model: SentenceModel) -> None:
    name = model.tokenizer.engine.token_to_id
    often = {"en": shares(model.tokenizer, [("the cat", 1.0), ("ж", 1.0)])}
    seldom = {"en": shares(model.tokenizer, [("the cat", 1.0), ("ж", 1e-5)])}
    assert name("ж") in most_used(model.tokenizer, often, 20)
    assert name("ж") not in most_used(model.tokenizer, seldom, 20)


def test_a_saved_model_keeps_its_languages_and_8_bits_are_near(model: SentenceModel, tmp_path: Path) -> None:
    smaller, _ = of_english(model)
    smaller.save(tmp_path / "float")
    smaller.save(tmp_path / "int8", int8=True)
    exact, rounded = (EncoderPipeline.from_pretrained(str(tmp_path / name)) for name in ("float", "int8"))
    assert exact.sentence.settings == rounded.sentence.settings == smaller.settings
    cosines = (exact.embed(ENGLISH).vectors * rounded.embed(ENGLISH).vectors).sum(1)
    assert cosines.min() > 0.99


def test_a_table_larger_than_a_file_is_kept_in_parts(
    model: SentenceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save(tmp_path / "one", int8=True)
    monkeypatch.setattr(quantized, "_FILE_BYTES", 600)  # the table has 32 bytes a row
    model.save(tmp_path / "parts", int8=True)
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    one, parts = (EncoderPipeline.from_pretrained(str(tmp_path / name)) for name in ("one", "parts"))
    assert (one.embed(GERMAN).vectors == parts.embed(GERMAN).vectors).all()
    for name, tensor in one.sentence.encoder.state_dict().items():
        assert torch.equal(tensor, parts.sentence.encoder.state_dict()[name])


def test_parts() -> None:
    tensors = {"a": torch.arange(12.0).view(6, 2), "b": torch.ones(3)}
    found = split(tensors, 16)
    assert sorted(found) == ["a.part0", "a.part1", "a.part2", "b"]
    assert torch.equal(joined(found)["a"], tensors["a"])
    assert joined(tensors) is tensors
    del found["a.part1"]
    with pytest.raises(CheckpointError, match="a is in 2 parts"):
        joined(found)


def test_bad_input(model: SentenceModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no text"):
        shares(model.tokenizer, [])
    languages = {"de": shares(model.tokenizer, [("a c d e", 1.0)])}
    with pytest.raises(InputError, match=r"does not hold the \d+ special tokens and characters"):
        most_used(model.tokenizer, languages, 6)
    with pytest.raises(InputError, match="special token <mask> cannot be left out"):
        cut(model, [0, 1, 2, 3, 5])
    with pytest.raises(InputError, match="this one is WordPiece"):
        cut(sentence_model(tmp_path), [0])
