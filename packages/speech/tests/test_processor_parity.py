"""What goes into the models against the processors of ``transformers``: ids, loudness, padding, numbers of frames.

Their chat templates come with the published checkpoints and not with the package, so the text is the one that our
prompts spell; what is compared is how it becomes ids once voices and durations stand in it.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from multiway_core.tokenization import TextTokenizer
from multiway_speech.audio import SoundArray, measure
from multiway_speech.script import parse_script
from multiway_speech.speech_tokenizer.config import ACOUSTIC
from multiway_speech.speech_tokenizer.model import pad_to_frames
from multiway_speech.vibevoice.config import SpeechTokens
from multiway_speech.vibevoice.prompt import PromptWriter
from multiway_speech.vibevoice_asr.config import AsrTokens
from multiway_speech.vibevoice_asr.prompt import write_prompt

pytestmark = pytest.mark.peer
RATE = ACOUSTIC.sample_rate


@pytest.fixture(scope="module")
def peer(tiny_tokenizer):
    """Their tokenizer and feature extractor."""
    transformers = pytest.importorskip("transformers")
    extractors = pytest.importorskip(
        "transformers.models.vibevoice_acoustic_tokenizer.feature_extraction_vibevoice_acoustic_tokenizer"
    )
    own = type(tiny_tokenizer).from_str(tiny_tokenizer.to_str())
    own.encode_special_tokens = False
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=own, pad_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    return tokenizer, extractors.VibeVoiceAcousticTokenizerFeatureExtractor()


def sounds(*seconds: float, scale: float = 0.02) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(scale * rng.standard_normal(round(RATE * s))).astype(np.float32) for s in seconds]


def ours_normalized(samples: np.ndarray) -> np.ndarray:
    gain = measure(SoundArray(samples, RATE), RATE).gain
    return pad_to_frames(torch.from_numpy(samples * np.float32(gain))[None, None], ACOUSTIC.hop)[0].numpy()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_loudness_and_padding(peer) -> None:
    _, extractor = peer
    loud = sounds(0.4, scale=0.001)[0]
    loud[100] = 1.0  # one peak that the gain would bring beyond full scale
    for samples in (*sounds(0.5), loud):
        theirs = extractor(samples, sampling_rate=RATE)["input_values"][0].numpy()
        np.testing.assert_allclose(ours_normalized(samples), theirs, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("lengths", [(), (1.0,), (1.01, 0.2)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_speaking_prompts(peer, tiny_tokenizer, special_ids, lengths) -> None:
    processors = pytest.importorskip("transformers.models.vibevoice.processing_vibevoice")
    tokenizer, extractor = peer
    theirs = processors.VibeVoiceProcessor(extractor, tokenizer)
    tokens = SpeechTokens(**{role: special_ids[role] for role in ("start", "end", "frame", "eos")})
    script = parse_script(
        'Speaker 1: The voices, of the speakers!\nSpeaker 2:  Žluťoučký "kůň" 42 …\nSpeaker 1: a'
    )
    voices = sounds(*lengths)
    frames = [ACOUSTIC.num_frames(len(voice)) for voice in voices]
    ours = PromptWriter(TextTokenizer(tiny_tokenizer), tokens).write(script.turns, frames)
    once = PromptWriter(TextTokenizer(tiny_tokenizer), tokens).write(script.turns, [1] * len(voices))
    text = tokenizer.decode(once, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    made = theirs(
        text=[text], audio=voices or None, **({"audio_kwargs": {"sampling_rate": RATE}} if voices else {})
    )
    assert torch.as_tensor(made["input_ids"][0]).tolist() == ours.tolist()


@pytest.mark.parametrize("seconds", [0.1, 1.0, 1.237])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_transcription_prompts(peer, tiny_tokenizer, special_ids, seconds) -> None:
    processors = pytest.importorskip("transformers.models.vibevoice_asr.processing_vibevoice_asr")
    tokenizer, extractor = peer
    names = {"audio_token": "frame", "audio_bos_token": "start", "audio_eos_token": "end"}
    spelled = {name: tokenizer.convert_ids_to_tokens(special_ids[role]) for name, role in names.items()}
    theirs = processors.VibeVoiceAsrProcessor(extractor, tokenizer, **spelled)
    (sound,) = sounds(seconds)
    duration = len(sound) / RATE
    written = [
        write_prompt(
            TextTokenizer(tiny_tokenizer), AsrTokens(**special_ids), frames, duration, "Anna Kováč, [x]"
        )
        for frames in (ACOUSTIC.num_frames(len(sound)), 1)
    ]
    text = tokenizer.decode(written[1], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert text.count(f"{duration:.2f} seconds") == 1
    text = text.replace(f"{duration:.2f} seconds", "<|AUDIO_DURATION|> seconds")
    made = theirs(text=[text], audio=[sound], audio_kwargs={"sampling_rate": RATE})
    assert torch.as_tensor(made["input_ids"][0]).tolist() == written[0].tolist()
