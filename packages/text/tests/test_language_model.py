"""The one object: generating, chatting, scoring, choosing, and what it refuses."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from multiway_core.errors import CheckpointError, InputError, MultiwayError
from multiway_core.generation import GenerationConfig, generate
from multiway_text import language_model, scoring
from multiway_text.language_model import LanguageModel
from multiway_text.sampling import SamplingOptions
from safetensors.torch import load_file, save_file

tiny = importlib.import_module("packages.text.tests.tiny_lm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(folder):
    return LanguageModel.from_pretrained(folder)


def greedy(**more) -> SamplingOptions:
    return SamplingOptions(max_tokens=12, **more)


def test_greedy_is_the_decode_loop(model) -> None:
    ids = model.prompt_ids("The quick")
    cache = model.network.new_cache(1, 40)
    config = GenerationConfig(max_new_tokens=12, eos_token_ids=model.tokenizer.end_ids, pad_token_id=0)
    expected = generate(
        model.network.decode, model.network.prefill(torch.tensor([ids]), cache), cache, config
    )
    found = model.generate("The quick", greedy())[0]
    assert [token.id for token in found.tokens] == expected.tokens[0].tolist()
    assert found.text == model.tokenizer.decode(expected.tokens[0].tolist())
    assert found.finish == "length"
    torch.testing.assert_close(
        torch.tensor([token.log_prob for token in found.tokens], dtype=torch.float64), expected.log_probs[0]
    )


def test_a_long_prompt_in_pieces_is_the_same(model, monkeypatch) -> None:
    whole = model.generate("The quick brown fox" * 3, greedy())[0]
    monkeypatch.setattr(language_model, "PREFILL_TOKENS", 5)
    steps = list(model.steps(model.prompt_ids("The quick brown fox" * 3), greedy()))
    assert steps[0] == []
    assert "".join(piece.text for pieces in steps for piece in pieces) == whole.text


@pytest.mark.parametrize("name", ["bundled:lm-tiny", "folder"])
def test_answers_that_step_together_are_the_same(folder, monkeypatch, name) -> None:
    model = LanguageModel.from_pretrained(folder if name == "folder" else name)
    prompts = ["The quick brown fox", "A", "One river and two"]
    options = [greedy(), SamplingOptions(max_tokens=5), greedy(temperature=1.5, seed=3)]
    alone = [model.generate(prompt, one)[0] for prompt, one in zip(prompts, options, strict=True)]
    together = []
    each = model.network.decode_each
    monkeypatch.setattr(
        model.network, "decode_each", lambda *given: together.append(len(given[1])) or each(*given)
    )
    steps = [model.steps(model.prompt_ids(prompt), one) for prompt, one in zip(prompts, options, strict=True)]
    steps.append(model.steps(model.prompt_ids("Two"), greedy()))
    texts, running = ["", "", "", ""], dict(enumerate(steps))
    for turn in range(40):
        model.batched_decode(list(running.values()))
        for number, one in list(running.items()):
            pieces = next(one, None)
            if pieces is None:
                del running[number]
                continue
            texts[number] += "".join(piece.text for piece in pieces)
        if turn == 1:
            running.pop(3).close()  # somebody leaves
    assert texts[:3] == [answer.text for answer in alone]
    assert max(together) == 4
    assert min(together) >= 2
    assert all(one.next_step.cache is None for one in steps)


def test_seeds_and_several_answers(model) -> None:
    options = greedy(temperature=1.5, seed=3)
    three = model.generate("A river", options, answers=3)
    assert len({answer.text for answer in three}) > 1
    assert [a.text for a in three] == [a.text for a in model.generate("A river", options, answers=3)]
    # Row i samples as a lone answer with seed + i.
    assert model.generate("A river", greedy(temperature=1.5, seed=4))[0].text == three[1].text


def test_stop_texts_end_an_answer(model) -> None:
    text = model.generate("The quick", greedy())[0].text
    stop = text[5:8]
    found = model.generate("The quick", greedy(stop=(stop,)))[0]
    assert found.finish == "stop"
    assert found.text == text[: text.index(stop)]
    two = model.generate("The quick", greedy(stop=(stop,)), answers=2)
    assert [answer.text for answer in two] == [found.text] * 2


def test_penalties_and_alternatives(model) -> None:
    plain = model.generate("The quick", SamplingOptions(max_tokens=30))[0]
    fresh = model.generate("The quick", SamplingOptions(max_tokens=30, frequency_penalty=2.0))[0]
    shy = model.generate("The quick", SamplingOptions(max_tokens=30, repetition_penalty=5.0))[0]
    different = [len({token.id for token in answer.tokens}) for answer in (plain, fresh, shy)]
    assert different[1] >= different[0]
    assert different[2] == len(shy.tokens)
    seen = model.generate("The quick", greedy(alternatives=3))[0]
    for token in seen.tokens:
        assert len(token.alternatives) == 3
        assert token.alternatives[0][0] == token.id
        assert token.alternatives[0][2] == pytest.approx(token.log_prob, abs=1e-5)
    # They are the model's own, whatever is sampled.
    warm = model.generate("The quick", greedy(alternatives=3, temperature=2.0, seed=0))[0]
    assert warm.tokens[0].alternatives == seen.tokens[0].alternatives


def test_chat(model) -> None:
    answer = model.generate([{"role": "user", "content": "hello"}], greedy())[0]
    ids = model.prompt_ids([{"role": "user", "content": "hello"}])
    assert answer.prompt_tokens == len(ids)
    assert answer.text == model.generate(ids, greedy())[0].text


def test_closing_frees_the_cache(model) -> None:
    steps = model.steps(model.prompt_ids("The"), SamplingOptions(max_tokens=100))
    next(steps)
    steps.close()
    with pytest.raises(StopIteration):
        next(steps)


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("", {}, "the prompt is empty"),
        ([], {}, "the prompt is empty"),
        ([5, 300], {}, "token 300 is out of the vocabulary: ids are 0 to 299"),
        ([5, -1], {}, "token -1 is out"),
        ([5, True], {}, "token True is out"),
        ("word " * 400, {}, "the prompt has .* tokens, and the model's context is 256"),
        ("The", {"max_tokens": 400}, "do not fit the model's context of 256: lower max_tokens to"),
        ("The", {"max_tokens": 0}, "max_tokens must be at least 1"),
        ("The", {"temperature": -1}, "temperature must be 0 to 10"),
        ("The", {"temperature": math.nan}, "temperature must be 0 to 10"),
        ("The", {"top_p": 0}, "top_p must be above 0"),
        ("The", {"top_k": -3}, "top_k must be at least 0"),
        ("The", {"stop": ("",)}, "stop takes up to 16 texts"),
        ("The", {"repetition_penalty": 0}, "repetition_penalty must be 0.01 to 10"),
        ("The", {"seed": -1}, "seed must be 0 to"),
    ],
)
def test_refused(model, prompt, options, message) -> None:
    with pytest.raises(InputError, match=message):
        model.stream(prompt, SamplingOptions(**options))


def test_scores_are_the_forward_pass(model) -> None:
    text = "The quick brown fox jumps over the lazy dog."
    ids = [model.tokenizer.prefix_id, *model.tokenizer.encode(text)]
    with torch.no_grad():
        log_probs = model.network(torch.tensor([ids]))[0].log_softmax(-1)
    expected = [float(log_probs[i, token]) for i, token in enumerate(ids[1:])]
    found = model.score(text)
    assert [token.log_prob for token in found.tokens] == pytest.approx(expected, abs=1e-4)
    assert "".join(token.text for token in found.tokens) == text
    assert found.perplexity == pytest.approx(math.exp(-sum(expected) / len(expected)), rel=1e-4)
    assert found.bits_per_byte == pytest.approx(-sum(expected) / math.log(2) / len(text), rel=1e-4)
    # A sliding window: every token once, with at least window - stride before it.
    slid = model.score(text, window=16, stride=4)
    assert len(slid.tokens) == len(found.tokens)
    place = 20
    first = next(s for s, begin, end in scoring.windows(len(ids), 16, 4) if begin <= place < end)
    with torch.no_grad():
        window = model.network(torch.tensor([ids[first:place]]))[0, -1].log_softmax(-1)
    assert slid.tokens[place - 1].log_prob == pytest.approx(float(window[ids[place]]), abs=1e-4)


@pytest.mark.parametrize("count", [2, 5, 16, 17, 40, 41])
def test_windows_score_everything_once(count) -> None:
    seen = []
    for start, first, end in scoring.windows(count, 16, 5):
        assert end - start <= 16
        assert start < first
        seen += range(first, end)
    assert seen == list(range(1, count))


def test_choices(model) -> None:
    choice = model.choose("The quick brown", [" fox", " river runs", "x"])
    rows = [scoring.split_pair(model, "The quick brown", c) for c in (" fox", " river runs", "x")]
    for (context, continuation), log_prob in zip(rows, choice.log_probs, strict=True):
        alone = model.log_likelihoods([(context, continuation)])[0]
        assert alone.total == pytest.approx(log_prob, abs=1e-4)
    assert choice.log_probs[choice.best] == max(choice.log_probs)
    assert model.choose("", ["a", "b"]).num_tokens == [1, 1]
    spaced = scoring.split_pair(model, "The quick ", "brown")
    assert spaced == scoring.split_pair(model, "The quick", " brown")
    for bad, message in [(["a"], "2 to 100 choices"), (["a", ""], "a choice is empty")]:
        with pytest.raises(InputError, match=message):
            model.choose("x", bad)
    with pytest.raises(InputError, match="context is 256"):
        model.choose("x " * 400, ["a", "b"])
    with pytest.raises(InputError, match="window must be 2"):
        model.score("abc", window=1000)
    with pytest.raises(InputError, match="the text is empty"):
        model.score("")


def test_packed_ternary_like_the_bundled_model(tmp_path) -> None:
    model = LanguageModel.from_pretrained(tiny.save_bitnet(tmp_path / "ternary"))
    answer = model.generate([{"role": "user", "content": "hello"}], greedy())[0]
    assert answer.tokens
    assert model.score("The quick brown fox").perplexity > 1


def test_damaged_checkpoints_are_one_line(folder, tmp_path) -> None:
    def changed(name, change):
        copy = tmp_path / name
        copy.mkdir()
        for file in folder.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        change(copy)
        with pytest.raises(MultiwayError) as error:
            LanguageModel.from_pretrained(copy)
        assert "\n" not in str(error.value)
        return str(error.value)

    def nan(copy):
        tensors = load_file(copy / "model.safetensors")
        tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = math.nan
        save_file(tensors, copy / "model.safetensors")

    def config(old, new):
        def change(copy):
            text = (copy / "config.json").read_text()
            assert old in text
            (copy / "config.json").write_text(text.replace(old, new))

        return change

    def cut(copy):
        data = (copy / "model.safetensors").read_bytes()
        (copy / "model.safetensors").write_bytes(data[: len(data) // 2])

    assert "not finite numbers in decoder.layers.1.feedforward.up.weight" in changed("nan", nan)
    assert "num_kv_heads" in changed("heads", config('"num_key_value_heads": 2', '"num_key_value_heads": 3'))
    assert "even head_dim" in changed("odd", config('"head_dim": 8', '"head_dim": 7'))
    assert "model_type is 'gpt9'; known are" in changed("type", config('"llama"', '"gpt9"'))
    assert "model.safetensors" in changed("cut", cut)
    assert "tokenizer.json" in changed("words", lambda copy: (copy / "tokenizer.json").unlink())
    assert "its tokenizer has 300 tokens" in changed(
        "vocabulary",
        lambda copy: tiny.llama_checkpoint.save(
            tiny.Llama(tiny.LlamaConfig(32, 1, 4, 2, 8, 48, vocab_size=290)), copy
        ),
    )
    (tmp_path / "file.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + b"\xff" * 40)
    with pytest.raises(CheckpointError, match="damaged: it ends too early"):
        LanguageModel.from_pretrained(tmp_path / "file.gguf")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="neither a config"):
        LanguageModel.from_pretrained(tmp_path / "empty")
