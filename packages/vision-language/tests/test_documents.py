"""Kosmos-1 and MetaLM from their folders: words as the models' own, classes by likelihood, and what is refused."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from multiway_core.errors import CheckpointError, ConfigError, InputError
from multiway_vision_language.kosmos1 import processor as formats
from multiway_vision_language.kosmos1.config import KOSMOS_1_TINY
from multiway_vision_language.kosmos1.inference import Kosmos1Generator
from multiway_vision_language.kosmos1.model import Kosmos1
from multiway_vision_language.kosmos1.processor import Kosmos1Processor
from multiway_vision_language.metalm import processor as metalm_formats
from multiway_vision_language.metalm.config import DecoderConfig, EncoderConfig, MetaLMConfig
from multiway_vision_language.metalm.model import MetaLM
from multiway_vision_language.metalm.processor import MetaLMProcessor
from multiway_vision_language.tasks import documents
from multiway_vision_language.tasks.documents import DocumentPipeline, Kosmos1Writer, MetaLMWriter
from multiway_vision_language.tasks.pipeline import open_pipeline
from PIL import Image

tiny = importlib.import_module("packages.vision-language.tests.tiny_kosmos2")
PICTURE = Image.effect_noise((40, 30), 90).convert("RGB")
EOS = 2


def random_weights(model: torch.nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.eval()


@pytest.fixture(scope="module")
def kosmos1(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kosmos1")
    words = tiny.train_vocabulary(folder)
    tokens = replace(KOSMOS_1_TINY.tokens, num_text_tokens=words.vocab_size - len(words.special))
    sizes = replace(
        KOSMOS_1_TINY, tokens=tokens, text=replace(KOSMOS_1_TINY.text, vocab_size=tokens.vocab_size)
    )
    model = Kosmos1(sizes)
    random_weights(model)
    documents.save(Kosmos1Writer(Kosmos1Generator(model, Kosmos1Processor(sizes, words))), folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def metalm(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("metalm")
    words = tiny.train_vocabulary(folder)
    sizes = MetaLMConfig(
        vocab_size=words.vocab_size,
        decoder=DecoderConfig(hidden_size=24, num_layers=2, num_heads=3, inner_size=40, max_positions=128),
        encoder=EncoderConfig(
            hidden_size=16, num_layers=3, num_heads=2, inner_size=20, image_size=8, patch_size=4
        ),
    )
    model = MetaLM(sizes)
    random_weights(model)
    documents.save(
        MetaLMWriter(model, MetaLMProcessor(sizes, words, bos=1, pad=0), eos=EOS), folder / "model"
    )
    return folder / "model"


def test_kosmos1_says_what_its_generator_says(kosmos1):
    pipeline = open_pipeline(str(kosmos1))
    assert isinstance(pipeline, DocumentPipeline)
    writer = pipeline.writer
    assert isinstance(writer, Kosmos1Writer)
    own = writer.generator.answer(formats.question(PICTURE, "what is it?"))
    assert own.startswith(pipeline.ask(PICTURE, "what is it?").text)
    assert pipeline.caption(PICTURE).text.startswith("An image of")
    names = ["a dog", "a small tree", "a bus"]
    chosen = writer.generator.choose([PICTURE, formats.IMAGENET_PROMPT], names)
    best = max(chosen, key=lambda score: score.log_prob).text
    found = pipeline.classify(PICTURE, names)
    assert found[0].label == best
    assert sum(one.probability for one in found) == pytest.approx(1)
    assert len(pipeline.classify(PICTURE, names, top=2)) == 2


@torch.inference_mode()
def test_metalm_writes_and_judges_as_without_a_cache(metalm):
    pipeline = open_pipeline(str(metalm))
    assert isinstance(pipeline, DocumentPipeline)
    writer = pipeline.writer
    assert isinstance(writer, MetaLMWriter)
    asked = metalm_formats.question(PICTURE, "what is it?")

    def after(ids: list[int]) -> torch.Tensor:
        """Log-probabilities behind the question and ``ids``, in one pass."""
        batch = writer.processor.batch([asked])
        tokens_BT = torch.cat([batch.tokens_BT, torch.tensor([ids], dtype=torch.long)], 1)
        logits = writer.model(
            tokens_BT, None, batch.spans, pixels_PCHW=batch.pixels_PCHW, picture_spans=batch.picture_spans
        )
        return logits[0, -1].log_softmax(-1)

    first = int(after([]).argmax())
    second = int(after([first]).argmax())
    written = writer.tokenizer.decode([first, second]).strip()
    assert EOS not in (first, second)
    assert pipeline.ask(PICTURE, "what is it?").text.startswith(written)
    for name, found in zip(["a dog", "a bus"], writer.log_probs(PICTURE, ["a dog", "a bus"]), strict=True):
        ids = writer.tokenizer.encode(name)
        assert found == pytest.approx(
            sum(float(after(ids[:at])[ids[at]]) for at in range(len(ids))), abs=1e-4
        )
    assert pipeline.caption(PICTURE).entities == ()


def test_what_is_refused(kosmos1, metalm, tmp_path):
    for folder in (kosmos1, metalm):
        pipeline = open_pipeline(str(folder))
        with pytest.raises(InputError, match="no classes of its own"):
            pipeline.classify(PICTURE)
        with pytest.raises(InputError, match="no classes of its own"):
            pipeline.classify(PICTURE, ["a dog", " "])
        with pytest.raises(InputError, match="no words"):
            pipeline.ask(PICTURE, " ")
        with pytest.raises(InputError, match="finds no places"):
            pipeline.locate(PICTURE, ["a dog"])
    broken = tmp_path / "config.json"
    content = json.loads((metalm / "config.json").read_text())
    for change, message in (
        ({"tokens": {"bos": 1}}, "tokens"),
        ({"sizes": {"vocab_size": "many"}}, "vocab_size"),
        ({"model_type": "vlmo"}, "model_type"),
    ):
        broken.write_text(json.dumps(content | change))
        for path in metalm.iterdir():
            if path.name != "config.json":
                (tmp_path / path.name).write_bytes(path.read_bytes())
        with pytest.raises((ConfigError, CheckpointError), match=message):
            documents.load(tmp_path)
