"""Training a small model on files: it learns, resumes, and its folder runs."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from multiway_core import training
from multiway_core.errors import CheckpointError, InputError
from multiway_core.training import TrainOptions, TrainReport
from multiway_text import recipe, systems
from multiway_text.language_model import LanguageModel
from multiway_text.sampling import SamplingOptions
from torch import nn

NUMBERS = ["one", "two", "three", "four", "five"]


@pytest.fixture
def texts(tmp_path):
    rows = [" ".join(NUMBERS[(i + j) % 5] for j in range(30)) for i in range(60)]
    path = tmp_path / "count.jsonl"
    path.write_text("\n".join(json.dumps({"text": row}) for row in rows))
    return path


def train(output, texts, steps=60, *, init_from=None, **changes) -> TrainReport:
    numbers = dataclasses.replace(recipe.Recipe().train, learning_rate=3e-3)
    chosen = recipe.Recipe(vocab_size=300, length=24, batch_size=8, train=numbers, **changes)
    start = None if init_from is None else str(init_from)
    data = tuple(str(path) for path in texts)
    return training.run(chosen, TrainOptions(output, data, start, steps=steps, checkpoint_every=0))


@pytest.mark.parametrize("system", ["llama", "bitnet"])
def test_it_learns_to_count(texts, tmp_path, system) -> None:
    report = train(tmp_path / "run", [texts], arch=system)
    assert report.finished
    assert report.held_out["loss"] < 0.5 * report.held_out_before["loss"]
    # The folder runs, for bitnet with packed weights, and gives what was measured.
    model = LanguageModel.from_pretrained(tmp_path / "run" / "model")
    ids = model.tokenizer.encode("one two three four five one two")
    score = model.log_likelihoods([(ids[:-3], ids[-3:])])[0]
    assert score.total / 3 > -2
    assert model.generate("one two three", SamplingOptions(max_tokens=4))[0].text
    again = train(tmp_path / "run", [texts], arch=system)  # nothing is left to do
    assert again.held_out["loss"] == pytest.approx(report.held_out["loss"], abs=1e-4)


def test_it_continues_from_a_checkpoint(texts, tmp_path) -> None:
    first = train(tmp_path / "one", [texts], 30)
    second = train(tmp_path / "two", [texts], 5, init_from=first.folder)
    assert second.held_out_before["loss"] == pytest.approx(first.held_out["loss"], abs=1e-3)
    packed = train(tmp_path / "ternary", [texts], 10, arch="bitnet")
    again = train(tmp_path / "on", [texts], 30, init_from=packed.folder)
    assert (packed.facts["system"], again.facts["system"]) == ("bitnet", "bitnet")
    assert again.held_out_before["loss"] == pytest.approx(packed.held_out["loss"], abs=1e-2)
    assert again.held_out["loss"] < again.held_out_before["loss"]


def test_the_loss_is_that_of_the_logits_and_holds_none(monkeypatch) -> None:
    torch.manual_seed(0)
    tokens = torch.randint(0, 300, (3, 17))
    for name in ("llama", "bitnet", "magneto"):
        model = systems.named(name).new("tiny", 300, 64)
        expected = torch.nn.functional.cross_entropy(
            model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum"
        )
        expected.backward()
        gradients = [parameter.grad.clone() for parameter in model.parameters()]
        model.zero_grad()
        with monkeypatch.context() as patch:
            patch.setattr(type(model), "logits", None)
            found = recipe.next_token_loss(model, tokens).total
        found.backward()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-4)


def test_every_system_is_built_and_read_again(tmp_path) -> None:
    for name, system in systems.registered().items():
        torch.manual_seed(0)
        model = system.new("tiny", 300, 64).eval()
        folder = tmp_path / name
        folder.mkdir()
        system.save_trained(model, folder)
        again = system.load(folder, dtype=torch.float32, device="cpu")
        tokens = torch.arange(20)[None]
        with torch.no_grad():
            error = (again(tokens) - model(tokens)).norm() / model(tokens).norm()
        assert error < 2e-2, name
        found, path, _ = systems.find(folder)
        assert (found.model_type, path) == (name, folder)
    (folder / systems.MARKER_FILE).write_text('{"model_type": "gpt"}')
    with pytest.raises(CheckpointError, match="model_type is 'gpt'; known are bitnet"):
        systems.find(folder)
    with pytest.raises(InputError, match="arch 'gpt' is unknown; known are"):
        systems.named("gpt")
    with pytest.raises(InputError, match="size 'huge' is unknown"):
        systems.named("llama").new("huge", 300, 64)


@pytest.mark.parametrize("preset", ["mh-moe-smoke", "latent-lm-smoke"])
def test_smoke_presets_repeat_themselves(preset, tmp_path) -> None:
    reports = [
        training.run(recipe.RECIPES[preset], TrainOptions(tmp_path / name, steps=3)) for name in ("a", "b")
    ]
    assert reports[0].held_out == reports[1].held_out
    assert set(reports[0].held_out) <= {"nats", "latent_loss"}
    files = [sorted(report.folder.rglob("*.safetensors")) for report in reports]
    assert files[0]
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(*files, strict=True))


def test_little_text_is_refused(tmp_path) -> None:
    (tmp_path / "x.txt").write_text("too short")
    with pytest.raises(InputError, match=r"give more text|held|hold"):
        train(tmp_path / "run", [tmp_path / "x.txt"])


@pytest.mark.parametrize("size", ["tiny", "small"])
@pytest.mark.parametrize("system", sorted(systems.registered()))
def test_a_new_network_knows_nothing(system, size) -> None:
    torch.manual_seed(0)
    model = systems.named(system).new(size, 512, 64).eval()
    tokens = torch.randint(512, (4, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = model(tokens)[:, :-1].flatten(0, 1)
    loss = nn.functional.cross_entropy(logits.float(), tokens[:, 1:].flatten())
    assert abs(float(loss) - math.log(512)) < 0.75  # logits of deviation 1 cost 0.5
