"""The small model that reads along: sequences, choices, training against generation, sections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from multiway_core.errors import ConfigError, InputError
from multiway_core.tokenization import TextTokenizer
from multiway_core.training import TrainOptions, run
from multiway_speech.language_model import LanguageModelConfig
from multiway_speech.script import Turn, parse_script
from multiway_speech.speech_tokenizer.config import TINY_25HZ
from multiway_speech.vibevoice import corpus as corpora
from multiway_speech.vibevoice import folder, generation
from multiway_speech.vibevoice.config import TINY, DiffusionHeadConfig
from multiway_speech.vibevoice.corpus import SpeechCorpus, Utterance
from multiway_speech.vibevoice.generation import SpeechGenerationConfig, SpeechGenerator
from multiway_speech.vibevoice.model import VibeVoice
from multiway_speech.vibevoice.next_token import ScriptedNextToken
from multiway_speech.vibevoice.objective import TtsObjective, read_batch
from multiway_speech.vibevoice.phone_tokenizer import as_text, new_tokenizer
from multiway_speech.vibevoice.pipeline import TtsPipeline
from multiway_speech.vibevoice.prompt import PromptWriter
from multiway_speech.vibevoice.recipe import RECIPES, save_voices
from multiway_speech.vibevoice.sequences import NONE, SequenceConfig, Sequences, collate, make_row

TOKENS = TINY.tokens
CONFIG = replace(
    TINY,
    acoustic=replace(TINY_25HZ, widths=(8, 8, 8), decoder_depths=None, depths=(0, 1, 1), latent_size=6),
    text=LanguageModelConfig(
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        inner_size=48,
        vocab_size=96,
        max_positions=600,
    ),
    head=DiffusionHeadConfig(num_layers=1, inner_size=48, frequency_size=16),
    codec="",
)


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer(new_tokenizer())


@pytest.fixture(scope="module")
def corpus() -> SpeechCorpus:
    rng = np.random.default_rng(0)
    symbols = ["HH", "AH0", "|", "L", "OW1", "."]
    items, start = [], 0
    for number in range(8):
        frames = [1, 2, 1, 0, 3, 2 + number % 3]
        text = f"sentence {number}"
        items.append(Utterance("made", "ab"[number % 2], text, start, sum(frames), symbols, frames))
        start += sum(frames)
    return SpeechCorpus(tuple(items), rng.normal(size=(start, 6)).astype(np.float16))


@pytest.fixture
def model() -> VibeVoice:
    torch.manual_seed(0)
    model = VibeVoice(CONFIG).eval()
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_fixed_pieces_of_the_prompt_are_one_token(tokenizer):
    prompt = PromptWriter(tokenizer, TOKENS).write_voices([2, 1]).tolist()
    voice, speaker0, speaker1, end_of_line, output = (
        tokenizer.encode(text)
        for text in (" Voice input:\n", " Speaker 0:", " Speaker 1:", "\n", " Speech output:\n")
    )
    start, end, frame = TOKENS.start, TOKENS.end, TOKENS.frame
    assert [len(ids) for ids in (voice, speaker0, speaker1, end_of_line, output)] == [1] * 5
    assert prompt == [
        *voice, *speaker0, start, frame, frame, end, *end_of_line, *speaker1, start, frame, end, *end_of_line,
        *output, start,
    ]  # fmt: skip


def test_every_symbol_has_an_embedding_row(tokenizer):
    from multiway_speech.pronunciation.phones import SYMBOLS

    ids = tokenizer.encode(" ".join(SYMBOLS))
    assert len(set(ids)) == len(SYMBOLS)
    assert max(tokenizer.encode(" Speaker 3:")[0], *ids) < TINY.text.vocab_size
    assert not set(ids) & {TOKENS.start, TOKENS.end, TOKENS.frame, TOKENS.eos}


def test_a_row_is_what_is_generated(tokenizer, corpus):
    prompts = PromptWriter(tokenizer, TOKENS)
    utterance = corpus.utterances[0]
    row = make_row(prompts, corpus, [(0, utterance)], [torch.zeros(2, 6)])
    hh, ah, low, ow, stop = tokenizer.encode(as_text(utterance.symbols))
    (speaker,) = tokenizer.encode(" Speaker 0:")
    f = TOKENS.frame
    speech = [speaker, f, hh, f, f, ah, f, low, ow, f, f, f, stop, f, f, TOKENS.end, TOKENS.eos]
    assert row.tokens == [*prompts.write_voices([2]).tolist(), *speech]
    assert row.num_frames == utterance.length == 9

    batch = collate([row], TOKENS)
    following = batch.following_BT[0, row.begin + 1 :].tolist()
    assert following == [
        hh, hh, ah, ah, ah, low, low, ow, stop, stop, stop, stop, TOKENS.end, TOKENS.end, TOKENS.end, NONE, NONE,
    ]  # fmt: skip
    assert int(batch.spoken_BT.sum()) == 9
    assert not batch.spoken_BT[0, : row.begin].any()
    assert batch.written_RT[0].tolist() == [speaker, hh, ah, low, ow, stop]
    assert batch.latents_ND.shape == (11, 6)


def test_batches_are_the_same_for_a_step_and_hold_no_held_out_text(tokenizer, corpus):
    settings = SequenceConfig(frames=60, limits=(1.0,), voice_seconds=(0.1, 0.2), forget=0.3)
    sequences = Sequences(corpus, tokenizer, TOKENS, {"a": 1.0, "*": 1.0}, settings, frame_rate=25.0)
    first, again, other = sequences(3, 0, 1), sequences(3, 0, 1), sequences(4, 0, 1)
    assert torch.equal(first.tokens_BT, again.tokens_BT)
    assert torch.equal(first.latents_ND, again.latents_ND)
    assert first.tokens_BT.shape != other.tokens_BT.shape or not torch.equal(first.tokens_BT, other.tokens_BT)
    assert int(((first.tokens_BT == TOKENS.frame) & first.valid_BT).sum()) == len(first.latents_ND)
    kept = {item.text for items in sequences.voices.values() for item in items}
    assert kept == {item.text for item in corpus.part(held_out=False)}


def test_the_script_is_followed_and_a_phone_ends_at_the_median(model):
    class Hazard:
        """A model whose phones end with a chance of 0.2 after each frame."""

        config = model.config

        class language_model:
            embedding = model.language_model.embedding
            output_matrix_VE = torch.zeros(96, 32)

        embed_phones = staticmethod(model.embed_phones)

    logit = float(np.log(0.2 / 0.8))
    matrix = Hazard.language_model.output_matrix_VE
    matrix[[10, 11, TOKENS.end], 0] = logit
    following = ScriptedNextToken(Hazard, [torch.tensor([9, 10, 11])])
    hidden = torch.zeros(1, 32)
    hidden[0, 0] = 1.0
    chosen = []
    while not chosen or chosen[-1] != TOKENS.eos:
        chosen.append(int(following.choose(hidden)))
    f = TOKENS.frame
    # 0.8 ** 3 > 0.5 > 0.8 ** 4: three frames.
    assert chosen == [9, f, f, f, 10, f, f, f, 11, f, f, f, TOKENS.end, TOKENS.eos]


def test_a_phone_cannot_last_for_ever(model):
    following = ScriptedNextToken(model, [torch.tensor([9, 10])])
    following.max_frames = 5
    matrix_VE = model.language_model.output_matrix_VE
    never = (matrix_VE[TOKENS.frame] - matrix_VE[10])[None] * 1e3
    chosen = [int(following.choose(never)) for _ in range(7)]
    assert chosen == [9, *[TOKENS.frame] * 5, 10]


def test_training_sees_the_states_of_generation(model, tokenizer, monkeypatch):
    """The states before every frame in a training row are those from which the frames were generated."""
    prompts = PromptWriter(tokenizer, TOKENS)
    reading = prompts.write_phone_script([Turn(0, "HH AH0 ."), Turn(1, "L OW1 .")])
    voices = torch.randn(5, 6)
    prompt = prompts.write_voices([3, 2])
    states: list[torch.Tensor] = []
    latents: list[torch.Tensor] = []

    class Keeping(generation.LatentSampler):
        def __call__(self, hidden_RH, draw):
            states.append(hidden_RH)
            latents.append(super().__call__(hidden_RH, draw))
            return latents[-1]

    monkeypatch.setattr(generation, "LatentSampler", Keeping)
    generator = SpeechGenerator(
        model, SpeechGenerationConfig(max_frames=200, guidance=1.0, diffusion_steps=2)
    )
    tokens = [step.tokens[0] for step in generator.stream([prompt], voices, [reading])]
    assert [token for token in tokens if token != TOKENS.frame] == [*reading.tolist(), TOKENS.end, TOKENS.eos]
    assert latents

    whole = torch.cat([prompt, torch.tensor(tokens)])[None]
    is_frame = whole == TOKENS.frame
    heard = torch.cat([model.normalize(voices), *latents])
    with torch.no_grad():
        x = model.language_model.embed(whole, is_frame, model.acoustic_connector(heard))
        places = [len(prompt) + i for i, token in enumerate(tokens) if token in set(reading.tolist())]
        x[0, places] = model.embed_phones(reading[None])[0]
        hidden = model.language_model.decoder(x, torch.ones_like(is_frame))
    before = [len(prompt) + i - 1 for i, token in enumerate(tokens) if token == TOKENS.frame]
    torch.testing.assert_close(hidden[0, before], torch.cat(states), atol=1e-5, rtol=1e-4)


def test_the_objective_learns_durations_and_frames(tokenizer, corpus):
    torch.manual_seed(0)
    model = VibeVoice(CONFIG)
    model.acoustic.requires_grad_(False)
    row = make_row(PromptWriter(tokenizer, TOKENS), corpus, [(0, corpus.utterances[0])], [torch.zeros(2, 6)])
    batch = collate([row], TOKENS)
    objective = TtsObjective(draws=8, history_noise=0.0, history_drop=0.0)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(60):
        loss = objective(model, batch)
        optimizer.zero_grad()
        (loss.total / loss.weight).backward()
        optimizer.step()
        losses.append(float(loss.total.detach() / loss.weight))
    assert loss.weight == 9
    assert loss.metrics["right"] > 0.95
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_frames_of_padding_and_prompts_are_not_learnt(model, tokenizer, corpus):
    row = make_row(PromptWriter(tokenizer, TOKENS), corpus, [(0, corpus.utterances[0])], [torch.zeros(2, 6)])
    longer = make_row(
        PromptWriter(tokenizer, TOKENS), corpus, [(0, corpus.utterances[2])] * 2, [torch.zeros(2, 6)]
    )
    objective = TtsObjective(draws=1, history_noise=0.0)
    alone = objective(model, collate([row], TOKENS))
    both = objective(model, collate([row, longer], TOKENS))
    assert (alone.weight, both.weight) == (9, 9 + 2 * corpus.utterances[2].length)


def test_scheduled_sampling_replaces_the_inputs_but_not_the_targets(model, tokenizer, corpus):
    voice = torch.randn(2, 6)
    row = make_row(PromptWriter(tokenizer, TOKENS), corpus, [(0, corpus.utterances[0])], [voice])
    batch = collate([row], TOKENS)
    objective = TtsObjective(history_noise=0.0, history_drop=0.0)
    own = objective._sample_frames(model, batch, None)
    assert own.shape == (9, 6)
    heard = []
    connector = model.acoustic_connector.register_forward_pre_hook(lambda _, x: heard.append(x[0]))
    hidden, learnt = read_batch(model, batch, 0.0, 0.0)
    others, still_learnt = read_batch(model, batch, 0.0, 0.0, own)
    connector.remove()
    assert torch.equal(learnt, still_learnt)
    assert torch.equal(heard[0], model.normalize(batch.latents_ND))
    assert torch.equal(heard[1], torch.cat([model.normalize(voice), own]))
    first_frame = int(batch.spoken_BT[0].nonzero()[0])
    assert torch.equal(hidden[:, :first_frame], others[:, :first_frame])
    assert not torch.allclose(hidden[:, first_frame:], others[:, first_frame:])
    assert not torch.equal(own, objective._sample_frames(model, batch, own))


def test_temperature_is_the_spread_of_the_first_noise(model):
    def draw(temperature: float) -> torch.Tensor:
        generator = SpeechGenerator(model, SpeechGenerationConfig(max_frames=1, temperature=temperature))
        return generator.draw_noise([torch.Generator().manual_seed(3)])

    assert torch.equal(draw(0.5), 0.5 * draw(1.0))
    with pytest.raises(ConfigError, match="temperature must be from 0 to 2, not 3"):
        SpeechGenerationConfig(max_frames=1, temperature=3)


def test_durations_fill_the_utterance():
    assert corpora.durations([0.08, 0.2, 0.21, 0.5], 13, 25.0) == [2, 3, 0, 8]
    entry = {"start": 0.5, "seconds": 3.0}
    begin, end, ends = corpora.cut(entry, [("HH", 0.6), ("AH0", 0.9), ("|", 0.9), ("L", 1.0), (".", 2.6)])
    assert begin == pytest.approx(0.42)
    assert end == pytest.approx(1.2)
    assert ends == pytest.approx([0.08, 0.18, 0.48, 0.58, 0.78])


@pytest.fixture
def pipeline(model, corpus, tmp_path) -> TtsPipeline:
    folder.save(model, tmp_path / "model")
    save_voices(corpus, {"anna": "a", "bob": "b"}, tmp_path / "model")
    return TtsPipeline.from_pretrained(str(tmp_path / "model"))


def test_a_folder_speaks_with_its_voices(pipeline):
    assert pipeline.voices() == ("anna", "bob")
    speech = pipeline("bob: Hello there.\nSpeaker 1: And hello to you!")
    assert speech.complete
    assert speech.sample_rate == 16_000
    (section,) = speech.sections
    assert len(section.turn_starts) == 2
    assert section.turn_starts[0] == 0.0 < section.turn_starts[1] < section.end
    assert len(speech.samples) == round(section.end * 16_000)
    assert np.array_equal(speech.samples, pipeline("bob: Hello there.\nSpeaker 1: And hello to you!").samples)


def test_the_first_speakers_get_the_voices_that_the_model_names_first(pipeline):
    pipeline.model.config = replace(pipeline.model.config, voices=("bob", "nobody"))
    assert pipeline.voices() == ("bob", "anna")


def test_long_scripts_are_spoken_in_parts(pipeline):
    script = parse_script(
        "\n".join(f"Speaker {1 + i % 2}: This is line number {i} of many." for i in range(12))
    )
    sections = list(pipeline._sections(script))
    assert len(sections) > 1
    assert [turn for section in sections for turn in section] == list(script.turns)
    assert all(sum(len(turn.text) for turn in section) <= 180 for section in sections)


def test_one_long_sentence_is_cut_between_words():
    script = parse_script("word " * 200)
    parts = script.split(100)
    assert all(len(turn.text) <= 100 for turn in parts.turns)
    assert " ".join(turn.text for turn in parts.turns) == script.turns[0].text


def test_a_voice_that_is_not_there(pipeline):
    with pytest.raises(InputError, match="no voice 'carl'; it has: anna, bob"):
        pipeline.voice("carl")


def test_words_that_nobody_can_say(pipeline):
    with pytest.raises(InputError, match="nothing to say"):
        pipeline("你好，世界。")


def test_the_smoke_recipe_runs_offline_and_its_model_speaks(tmp_path):
    recipe = replace(RECIPES["smoke"], dtype="bfloat16")
    report = run(recipe, TrainOptions(tmp_path / "run", steps=2))
    assert report.finished
    assert report.facts["sentences_without_alignment"] == 0
    assert 0 < report.held_out["frame"] < 3
    assert 0 <= report.held_out["right"] <= 1
    pipeline = TtsPipeline.from_pretrained(str(report.folder))
    assert pipeline.voices() == ("low", "high")
    speech = pipeline("high: I see.")
    assert len(speech.samples) > 0
    data = (str(tmp_path / "run" / "data" / "corpus.npz"),)
    again = run(recipe, TrainOptions(tmp_path / "more", data=data, init_from=str(report.folder), steps=1))
    assert again.held_out_before["frame"] == pytest.approx(report.held_out["frame"], rel=0.05)
