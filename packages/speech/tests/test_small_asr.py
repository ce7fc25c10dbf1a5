"""The recipe of asr-tiny: vocabulary, sentences, mixtures, batches, objective, and the folder that comes of it."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core import hub
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainOptions, run
from multiway_speech.audio import SoundArray
from multiway_speech.language_model import LanguageModelConfig
from multiway_speech.speech_tokenizer.config import SpectrumConfig, SpeechTokenizerConfig
from multiway_speech.vibevoice_asr import checkpoint, folder, sentences
from multiway_speech.vibevoice_asr import corpus as corpora
from multiway_speech.vibevoice_asr.batches import ConversationBatches, misrecognized
from multiway_speech.vibevoice_asr.causal_attention import causal_attention
from multiway_speech.vibevoice_asr.config import VibeVoiceAsrConfig
from multiway_speech.vibevoice_asr.corpus import Corpus, Utterance
from multiway_speech.vibevoice_asr.features import Entry, Features, label_columns, write
from multiway_speech.vibevoice_asr.mixtures import GRID, HELD_OUT_VOICES, Pool, make_mixture
from multiway_speech.vibevoice_asr.model import VibeVoiceAsr
from multiway_speech.vibevoice_asr.objective import IGNORED, AsrObjective, AsrTrainingModel
from multiway_speech.vibevoice_asr.output import parse_output
from multiway_speech.vibevoice_asr.pipeline import AsrPipeline, TranscriptionOptions
from multiway_speech.vibevoice_asr.prompt import request
from multiway_speech.vibevoice_asr.pseudo_features import PseudoFeatures, TextSpeakers, read_phones
from multiway_speech.vibevoice_asr.recipe import RECIPES, Recipe
from multiway_speech.vibevoice_asr.speaker_encoder import SpeakerEncoderConfig
from multiway_speech.vibevoice_asr.vocabulary import FIXED, TOKENS, train_tokenizer, write_answer
from multiway_speech.vibevoice_asr.whisper import Whisper
from multiway_speech.vibevoice_asr.whisper_encoder import WhisperConfig

TEXTS = (
    "We met Zambrana at the station.",
    "It is three o'clock.",
    "Nobody expected Draney to win.",
    "I see.",
)
PIECES = 300
SIZE = 64


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer(train_tokenizer(TEXTS * 3, PIECES))


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Four voices, one of them held out, that hum each text for a second."""
    rng = np.random.default_rng(0)
    utterances, samples = [], []
    for voice in ("joe", "bf_emma", "digits-theo", min(HELD_OUT_VOICES)):
        for text in TEXTS if voice != "digits-theo" else ("Three.", "Seven."):
            samples.append((rng.standard_normal(16_000) * 3000).astype(np.int16))
            phones = () if voice.startswith("digits") else ("a", "_", "b")
            utterances.append(
                Utterance(
                    voice,
                    text,
                    16_000 * len(utterances),
                    16_000,
                    False,
                    phones,
                    (0.4, 0.6, 1.0)[: len(phones)],
                )
            )
    return Corpus(tuple(utterances), np.concatenate(samples))


class NoConversations:
    """A source without any."""

    entries: tuple[Entry, ...] = ()


class NoEars(torch.nn.Module):
    """In the place of the acoustic encoder: the loudness of each frame, over and over."""

    def forward(self, waveform_T: np.ndarray) -> torch.Tensor:
        padded = np.pad(waveform_T, (0, -len(waveform_T) % 1280)).reshape(-1, 640)
        return torch.from_numpy(padded.std(axis=1)).float()[:, None].expand(-1, SIZE).contiguous()


@pytest.fixture(scope="module")
def features(corpus, tmp_path_factory) -> Features:
    path = tmp_path_factory.mktemp("features")
    pool = Pool(corpus)
    write(path, (make_mixture(pool, np.random.default_rng(n)) for n in range(12)), NoEars())
    return Features([path])


def small_config() -> VibeVoiceAsrConfig:
    return VibeVoiceAsrConfig(
        acoustic=SpeechTokenizerConfig(
            widths=(8, 8, 8), ratios=(2, 2), depths=(0, 1, 1), sample_rate=16_000, spectrum=SpectrumConfig()
        ),
        text=LanguageModelConfig(
            hidden_size=16,
            num_layers=2,
            num_heads=2,
            num_kv_heads=1,
            inner_size=24,
            vocab_size=PIECES + len(FIXED),
            max_positions=1024,
        ),
        tokens=TOKENS,
        whisper=WhisperConfig(
            hidden_size=8, num_layers=1, num_heads=2, vocab_size=5, alignment_heads=((0, 1),)
        ),
        speaker=SpeakerEncoderConfig(num_mels=5, hidden_size=8, num_layers=2, embedding_size=8),
        stacked=2,
    )


def test_what_is_always_the_same_is_one_token(tokenizer) -> None:
    assert len(tokenizer.encode(FIXED[0])) == 1
    assert len(tokenizer.encode("\n" + request(12.34))) == 4  # two for the seconds
    assert len(tokenizer.encode("\n" + request(3.5, "Zambrana"))) == len(tokenizer.encode("Zambrana")) + 5
    answer = write_answer([(0.0, 2.56, 0, "It is three o'clock."), (12.08, 13.6, None, "[Noise]")])
    tokens = tokenizer.encode(answer)
    assert tokenizer.decode(tokens) == answer
    assert len(tokens) == len(tokenizer.encode("It is three o'clock.")) + 18
    segments, problems = parse_output(answer, 14.0)
    assert [(s.start, s.end, s.speaker, s.text) for s in segments] == [
        (0.0, 2.56, 0, "It is three o'clock."),
        (12.08, 13.6, None, "[Noise]"),
    ]
    assert not problems
    assert json.loads(answer.removeprefix("assistant\n"))[0]["Content"] == "It is three o'clock."


def test_sentences_are_spoken_words() -> None:
    assert [sentences.spoken_number(n) for n in (0, 13, 20, 99)] == [
        "zero",
        "thirteen",
        "twenty",
        "ninety-nine",
    ]
    rng = random.Random(0)
    made = [sentences.made_sentence(rng, ["Abruzzo"]) for _ in range(200)]
    assert all(text[0].isupper() and not any(c.isdigit() for c in text) for text in made)
    assert 50 < sum("Abruzzo" in text for text in made) < 150


def test_texts_are_cleaned_and_phones_spread() -> None:
    assert corpora.clean("``Press 1'' , he said ..") == "Press one, he said."
    phones, ends = corpora.spread(["ˈ", "A", "t", " ", "ʧ", "."], [0.1, 0.3, 0.4, 0.5, 0.7, 0.9])
    assert phones == ("e", "ɪ", "t", "t", "ʃ", "_")
    assert ends == (0.15, 0.3, 0.5, 0.6, 0.7, 0.9)


def test_only_speech_is_kept() -> None:
    wave = np.zeros(16_000, dtype=np.float32)
    wave[4000:8000] = np.sin(np.arange(4000))
    kept = corpora.speech_part(wave)
    assert 4000 <= len(kept) <= 4000 + 3 * 160
    assert len(corpora.speech_part(np.zeros(100, dtype=np.float32))) == 0


def test_mixtures_keep_their_times_and_leave_out_what_is_held_out(corpus) -> None:
    pool = Pool(corpus)
    assert not HELD_OUT_VOICES & set(pool.voices)
    assert "joe" not in pool.voices  # reads only what a held-out voice also says
    assert Pool(corpus, "voices").voices == []
    for seed in range(20):
        mixture = make_mixture(pool, np.random.default_rng(seed), empty_chance=0.2)
        again = make_mixture(pool, np.random.default_rng(seed), empty_chance=0.2)
        assert np.array_equal(mixture.waveform, again.waveform)
        assert mixture.segments == again.segments
        assert mixture.seconds <= 20
        speakers = [speaker for _, _, speaker, _ in mixture.segments if speaker is not None]
        assert list(dict.fromkeys(speakers)) == sorted(set(speakers))
        for start, end, *_ in mixture.segments:
            assert 0 <= start < end <= mixture.seconds + GRID
            assert abs(start / GRID - round(start / GRID)) < 1e-6


def test_batches_hold_prompt_and_answer(features, tokenizer) -> None:
    conversations = ConversationBatches([(features, 1.0)], tokenizer, TOKENS, size=400)
    batch = conversations(0, 0, 1)
    assert torch.equal(batch.tokens_BT, conversations(0, 0, 1).tokens_BT)
    assert int((batch.tokens_BT == TOKENS.frame).sum()) == len(batch.frames_ND) == int(batch.lengths_B.sum())
    assert batch.frames_ND.shape[1] == 2 * SIZE
    assert len(batch.speakers_N) == len(batch.words_NK) == len(batch.frames_ND)
    for tokens_T, answer_T in zip(batch.tokens_BT, batch.answer_BT, strict=True):
        written = answer_T[answer_T != IGNORED]
        assert tokenizer.decode(written.tolist()).startswith('assistant\n[{"Start":')
        assert [int(written[0]), int(written[-1])] == [TOKENS.turn_start, TOKENS.turn_end]
        assert torch.equal(tokens_T[1:][answer_T[:-1] != IGNORED], written)


def test_pieces_lie_where_they_are_said_and_can_be_read_there(corpus, tokenizer) -> None:
    by_voice = [u for u in corpus.utterances if u.voice == "joe"]
    pool = Pool(Corpus(tuple(by_voice), corpus.samples))
    conversations = ConversationBatches([(NoConversations(), 1.0)], tokenizer, TOKENS)
    for seed in range(8):
        mixture = make_mixture(pool, np.random.default_rng(seed), plain=True, empty_chance=0.0, longest=1.9)
        (start, end, _, text), *_ = mixture.segments
        labels = label_columns(mixture, 2 * int(np.ceil(mixture.seconds * 12.5)))
        assert set(np.unique(labels)) == {0, 1, 2}
        entry = Entry(0, len(labels), mixture.seconds, mixture.segments)
        ids_NK, places = conversations.words(entry, labels, np.random.default_rng(seed))
        pieces = tokenizer.encode(text)
        assert len(places) == len(pieces)
        said = np.flatnonzero(ids_NK[:, 0])
        assert said[0] * GRID > start - 0.4
        assert said[-1] * GRID < end + 0.9  # many short pieces in a row run over
        right = [
            ids_NK[place, 0] == piece
            for place, piece in zip(places, pieces, strict=True)
            if place is not None
        ]
        assert sum(right) > len(right) / 2


def test_names_of_the_context_may_be_misheard() -> None:
    rng = np.random.default_rng(0)
    heard = {misrecognized("Zambrana.", ("Zambrana",), rng) for _ in range(50)}
    assert "Zambrana." in heard
    assert len(heard) > 5
    assert all(word.endswith(".") for word in heard)
    assert misrecognized("station", ("Zambrana",), rng) == "station"


def test_stripes_are_causal_attention() -> None:
    torch.manual_seed(0)
    parts = [torch.randn(2, 3, 300, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    expected = torch.nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
    gradient = torch.randn_like(expected)
    expected_gradients = torch.autograd.grad(expected, parts, gradient)
    mixed = causal_attention(*parts)
    torch.testing.assert_close(mixed, expected)
    for ours, theirs in zip(torch.autograd.grad(mixed, parts, gradient), expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_training_states_are_the_decoder_s_own(features, tokenizer) -> None:
    torch.manual_seed(0)
    model = AsrTrainingModel(small_config())
    batch = ConversationBatches([(features, 1.0)], tokenizer, TOKENS, size=600)(1, 0, 1)
    frames_NE = model.hear(batch.frames_ND.float(), batch.words_NK)
    _, top_BTE, _ = model.states(batch, frames_NE)
    x_BTE = model.language_model.embed(batch.tokens_BT, batch.tokens_BT == TOKENS.frame, frames_NE)
    expected_BTE = model.language_model.decoder(x_BTE, batch.valid_BT)
    torch.testing.assert_close(top_BTE[batch.valid_BT], expected_BTE[batch.valid_BT], atol=1e-5, rtol=1e-4)


def test_the_objective_can_be_learnt(features, tokenizer) -> None:
    torch.manual_seed(0)
    model = AsrTrainingModel(small_config())
    batch = ConversationBatches([(features, 1.0)], tokenizer, TOKENS, size=600)(2, 0, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    objective, losses = AsrObjective(), []
    for _ in range(30):
        loss = objective(model, batch)
        optimizer.zero_grad()
        (loss.total / loss.weight).backward()
        optimizer.step()
        losses.append(float(loss.total.detach()) / loss.weight)
    assert losses[-1] < 0.6 * losses[0]
    assert {"answer", "speaker", "time", "look", "right"} == loss.metrics.keys()


def test_text_is_heard_as_frames(corpus, tokenizer, tmp_path) -> None:
    known = Corpus(tuple(u for u in corpus.utterances if u.voice in ("joe", "bf_emma")) * 8, corpus.samples)
    real = tmp_path / "real"
    write(real, (make_mixture(Pool(known), np.random.default_rng(n)) for n in range(6)), NoEars())
    phones = [{"text": text, "phones": ["a", "_", "b", "ə"]} for text in TEXTS]
    (tmp_path / "phones.jsonl").write_text("\n".join(json.dumps(line) for line in phones))
    corpus_with_schwa = Corpus(
        tuple(
            Utterance(u.voice, u.text, u.start, u.length, False, ("a", "b", "ə"), (0.3, 0.6, 1.0))
            for u in known.utterances
        ),
        corpus.samples,
    )
    speakers = TextSpeakers(read_phones(tmp_path / "phones.jsonl"), corpus_with_schwa)
    made_up = PseudoFeatures(speakers, Features([real]), count=5, seed=0)
    for place, entry in enumerate(made_up.entries):
        frames = made_up.frames(place)
        assert frames.shape == (entry.frames, SIZE)
        assert entry.frames % 2 == 0
        assert np.isfinite(frames).all()
        assert np.array_equal(frames, made_up.frames(place))
    batch = ConversationBatches([(made_up, 1.0)], tokenizer, TOKENS, size=300)(0, 0, 1)
    assert int((batch.words_NK[:, 0] > 0).sum()) > 5


def test_a_model_of_ours_comes_back_from_its_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = VibeVoiceAsr(small_config()).eval()
    assert isinstance(model.semantic, Whisper)
    model.semantic.pieces = (b"", b"", b"", b" a", b"\xc3")
    folder.save(model, tmp_path, dtype=torch.bfloat16)
    loaded = checkpoint.load(tmp_path)
    assert loaded.config == model.config
    assert loaded.semantic.pieces == model.semantic.pieces
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor.bfloat16().float())
    assert loaded.speaker is not None
    assert torch.isfinite(loaded.speaker.embed(torch.randn(9_000))).all()


def test_missing_parts_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no index\.jsonl"):
        Features([tmp_path])
    with pytest.raises(InputError, match="no such file"):
        corpora.load(tmp_path / "corpus.npz")
    with pytest.raises(InputError, match="no utterances"):
        corpora.collect([])


def test_the_bundled_model_brings_the_notices_of_those_whose_weights_it_has() -> None:
    folder = hub.resolve("bundled:asr-tiny")
    assert "Copyright (c) 2022 OpenAI" in (folder / "whisper.LICENSE").read_text()
    assert "Apache License" in (folder / "speaker-encoder.LICENSE").read_text()


def test_the_smoke_recipe_runs_offline_in_two_stages_and_its_model_transcribes(tmp_path: Path) -> None:
    recipe = replace(RECIPES["smoke"], conversations=12, held_out=3, pseudo_conversations=12)
    report = run(recipe, TrainOptions(tmp_path / "run", steps=2))
    assert report.finished
    assert (tmp_path / "run" / "text" / "checkpoints").is_dir()  # the stages
    assert (tmp_path / "run" / "speech" / "checkpoints").is_dir()
    assert report.facts["conversations"] == 12
    assert 0 < report.held_out["answer"] < 10
    bundled, ours = checkpoint.load(hub.resolve("bundled:asr-tiny")), checkpoint.load(report.folder)
    assert ours.semantic.pieces == bundled.semantic.pieces
    assert ours.speaker.linear.weight.equal(bundled.speaker.linear.weight)
    pipeline = AsrPipeline.from_pretrained(str(report.folder))
    pipeline(
        SoundArray(np.random.default_rng(0).normal(size=16_000) * 0.1, 16_000),
        TranscriptionOptions(max_new_tokens=8),
    )
    data = (str(tmp_path / "run" / "data" / "corpus.npz"),)
    again = run(recipe, TrainOptions(tmp_path / "more", data=data, init_from=str(report.folder), steps=1))
    assert not (tmp_path / "more" / "text").exists()
    assert again.held_out_before["answer"] == pytest.approx(report.held_out["answer"], rel=0.1)


def test_training_data_that_is_missing_is_told(tmp_path: Path) -> None:
    for data, message in (
        ((), "nothing to train on"),
        ((str(tmp_path / "x"),), "no such folder"),
        ((f"asterisk={tmp_path}",), "no list of the prompts' texts"),
    ):
        with pytest.raises(InputError, match=message):
            run(Recipe(), TrainOptions(tmp_path / "run", data=data))
