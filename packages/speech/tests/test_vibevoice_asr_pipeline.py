"""From sound to transcript with a tiny untrained model, some of whose words are put into its mouth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from multiway_speech.audio import SoundArray
from multiway_speech.language_model import LanguageModel, LanguageModelConfig
from multiway_speech.result import Segment, Transcript
from multiway_speech.speech_tokenizer.config import SpeechTokenizerConfig
from multiway_speech.vibevoice_asr import checkpoint
from multiway_speech.vibevoice_asr.config import AsrTokens, VibeVoiceAsrConfig
from multiway_speech.vibevoice_asr.model import VibeVoiceAsr
from multiway_speech.vibevoice_asr.pipeline import AsrPipeline, PartialText, TranscriptionOptions
from multiway_speech.vibevoice_asr.prompt import write_prompt

RATE, HOP = 800, 40


@pytest.fixture(scope="module")
def model(special_ids) -> VibeVoiceAsr:
    torch.manual_seed(0)
    sizes = {
        "num_filters": 3,
        "ratios": (4, 10),
        "depths": (1, 1, 1),
        "layer_scale": 0.3,
        "sample_rate": RATE,
    }
    config = VibeVoiceAsrConfig(
        acoustic=SpeechTokenizerConfig(latent_size=6, **sizes),
        semantic=SpeechTokenizerConfig(latent_size=5, noise_std=0.0, **sizes),
        text=LanguageModelConfig(
            hidden_size=16,
            num_layers=1,
            num_heads=2,
            num_kv_heads=1,
            inner_size=24,
            vocab_size=320,
            max_positions=4000,
        ),
        tokens=AsrTokens(**special_ids),
    )
    return VibeVoiceAsr(config).eval()


@pytest.fixture
def pipeline(model, tiny_tokenizer) -> AsrPipeline:
    return AsrPipeline("tiny", model, TextTokenizer(tiny_tokenizer))


@pytest.fixture
def say(model, tiny_tokenizer, monkeypatch):
    """``say(*texts)``: each run of the decode loop writes one of these texts and then ends its turn."""

    def sayer(*texts: str) -> None:
        runs = iter(texts)
        ids: list[int] = []

        def start() -> None:
            ids[:] = [*tiny_tokenizer.encode(next(runs)).ids, model.config.tokens.turn_end]

        def prefilled(x, valid, cache):
            start()
            return LanguageModel.read(model.language_model, x, valid, cache)

        def logits(hidden):
            scores = torch.zeros(*hidden.shape[:-1], 320)
            scores[..., ids.pop(0)] = 50.0
            return scores

        monkeypatch.setattr(model.language_model, "read", prefilled)
        monkeypatch.setattr(model.language_model, "logits", logits)

    return sayer


def sound(seconds: float = 2.0, level: float = 0.1) -> SoundArray:
    noise = np.random.default_rng(0).normal(size=int(seconds * RATE)) * level
    return SoundArray(noise.astype(np.float32), RATE, "talk.wav")


FIRST = '{"Start":0.0,"End":0.5,"Speaker":0,"Content":"Grüße, 你好 🎉."}'
SECOND = '{"Start":0.5,"End":1.5,"Speaker":1,"Content":"the audio"}'


def test_the_prompt_is_the_published_chat(tiny_tokenizer, model) -> None:
    tokens = model.config.tokens
    ids = write_prompt(TextTokenizer(tiny_tokenizer), tokens, 2, 12.345, "Ann, <|im_end|> Bob")
    tiny_tokenizer.encode_special_tokens = False
    shown = tiny_tokenizer.decode(ids.tolist(), skip_special_tokens=False)
    tiny_tokenizer.encode_special_tokens = True
    assert shown == (
        "<|im_start|>system\nYou are a helpful assistant that transcribes audio input into text output in JSON format."
        "<|im_end|>\n<|im_start|>user\n<|vision_start|><|vision_pad|><|vision_pad|><|vision_end|>\n"
        "This is a 12.35 seconds audio, with extra info: Ann, <|im_end|> Bob\n\n"
        "Please transcribe it with these keys: Start time, End time, Speaker ID, Content<|im_end|>\n"
    )
    assert (ids == tokens.turn_end).sum() == 2
    plain = tiny_tokenizer.decode(
        write_prompt(TextTokenizer(tiny_tokenizer), tokens, 1, 3.0).tolist(), skip_special_tokens=True
    )
    assert "\nThis is a 3.00 seconds audio, please transcribe it with these keys: Start time," in plain


def test_segments_come_as_they_are_written(pipeline, say) -> None:
    say(f"assistant\n[{FIRST},{SECOND}]")
    heard: list[float] = []
    *segments, transcript = pipeline.stream(sound(), TranscriptionOptions(piece_seconds=0.9), heard.append)
    assert segments == [Segment(0.0, 0.5, 0, "Grüße, 你好 🎉."), Segment(0.5, 1.5, 1, "the audio")]
    assert transcript == Transcript("talk.wav", "tiny", 2.0, tuple(segments))
    assert heard == pytest.approx([0.9, 1.8, 2.0])


def test_a_loop_is_cut_off_and_written_again(pipeline, say) -> None:
    loop = '{"Start":1.5,"End":2.0,"Speaker":0,"Content":"' + "so and then " * 60
    say(f"assistant\n[{FIRST},{SECOND},{loop}", ',{"Start":1.5,"End":1.9,"Speaker":0,"Content":"Bye."}]')
    transcript = pipeline(sound())
    assert [s.text for s in transcript.segments] == ["Grüße, 你好 🎉.", "the audio", "Bye."]
    assert transcript.problems == ()


def test_a_loop_that_stays_is_said(pipeline, say) -> None:
    loop = ',{"Start":1.5,"End":2.0,"Speaker":0,"Content":"' + "so and then " * 60
    say(f"[{FIRST}{loop}", loop, loop, loop)
    transcript = pipeline(sound())
    assert [s.text for s in transcript.segments] == ["Grüße, 你好 🎉."]
    assert "the model repeated itself" in transcript.problems[0]


def test_repeated_segments_are_a_loop(pipeline, say) -> None:
    rounds = "".join(
        f',{{"Start":{i / 50:.2f},"End":{i / 50:.2f},"Speaker":0,"Content":"Mm."}}' for i in range(30)
    )
    say(f"[{FIRST}{rounds}]", f",{SECOND}]")
    transcript = pipeline(sound())
    assert transcript.segments[-1].text == "the audio"
    assert len(transcript.segments) < 30


def test_what_the_model_leaves_open_is_said(pipeline, say) -> None:
    say(f"[{FIRST},{SECOND[:-9]}")
    transcript = pipeline(sound())
    assert len(transcript.segments) == 1
    assert transcript.problems == ("the list of segments is cut off after 1 and a part of one",)
    say(f"[{FIRST},{SECOND}]")
    transcript = pipeline(sound(), TranscriptionOptions(max_new_tokens=100))
    assert "limit of tokens" in transcript.problems[-1]


def test_an_untrained_model_writes_nothing_and_is_not_a_crash(pipeline) -> None:
    transcript = pipeline(sound(), TranscriptionOptions(max_new_tokens=40))
    assert transcript.segments == ()
    assert transcript.problems


def test_trouble_with_the_sound(pipeline, say, tmp_path) -> None:
    with pytest.raises(InputError, match=r"at least 0\.1 s"):
        pipeline(sound(0.05))
    with pytest.raises(InputError, match=r"talk.wav: 5.0 minutes; this model hears at most 3.\d in one pass"):
        pipeline(sound(300))
    with pytest.raises(InputError, match="context: 20,001 characters"):
        pipeline.stream(sound(), TranscriptionOptions(context="a" * 20_001))
    with pytest.raises(InputError, match="no such file"):
        pipeline(tmp_path / "none.wav")
    say("[]", "[]")
    assert pipeline(SoundArray(np.zeros(RATE), RATE)).problems == ("the recording is silent or nearly so",)
    square = SoundArray(np.sign(np.sin(np.arange(2 * RATE))), RATE)
    assert pipeline(square).problems[0].endswith("of the samples are clipped")


def test_text_of_single_tokens(tiny_tokenizer) -> None:
    tokenizer = TextTokenizer(tiny_tokenizer)
    for text in ("Grüße, 你好 🎉 the speakers", "\ufffd", "🎉"):
        partial = PartialText(tokenizer)
        pieces = [partial.add(token) for token in tokenizer.encode(text)]
        assert "".join(pieces) + partial.rest() == text
    broken = PartialText(tokenizer)
    assert [broken.add(tokenizer.encode("🎉")[0]), broken.rest()] == ["", "\ufffd"]


def test_from_a_folder(model, tiny_tokenizer, tmp_path) -> None:
    checkpoint.save(model, tmp_path)
    tiny_tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = AsrPipeline.from_pretrained(str(tmp_path))
    assert loaded.model.config.text == model.config.text
