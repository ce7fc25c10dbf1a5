"""The pipeline around a tiny model with random weights: every path runs, and says what is wrong in one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from multiway_core.errors import CheckpointError, InputError, ModelNotFoundError
from multiway_core.generation import GenerationConfig, generate
from multiway_document.alphabet import ALPHABET
from multiway_document.checked_engine import CheckedEngine
from multiway_document.full_engine import FullEngine
from multiway_document.kosmos2_5 import checkpoint
from multiway_document.kosmos2_5.config import Kosmos25Config, TextConfig, TokenConfig, VisionConfig
from multiway_document.kosmos2_5.guard import text_guard
from multiway_document.kosmos2_5.objective import Reader
from multiway_document.kosmos2_5.recipe import export
from multiway_document.kosmos2_5.tokenizer import train_small_tokenizer
from multiway_document.line_reading import LINE_READER_FILE
from multiway_document.pipeline import OcrPipeline
from multiway_document.result import Line, Page
from PIL import Image, ImageDraw

NUM_TEXT_TOKENS = len(ALPHABET) + 1
TOKENS = TokenConfig(num_text_tokens=NUM_TEXT_TOKENS, num_locations=64, location_step=2)
CONFIG = Kosmos25Config(
    vision=VisionConfig(
        hidden_size=32, num_layers=1, num_heads=2, head_dim=16, inner_size=48, max_patches=32
    ),
    text=TextConfig(
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        inner_size=48,
        vocab_size=TOKENS.vocab_size,
        max_positions=90,
        dropout=0.0,
    ),
    tokens=TOKENS,
    num_queries=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder as training writes it."""
    reader = Reader(CONFIG)
    reader.reset_parameters(seed=0)  # one of those with which the decoder does not end at once
    with torch.no_grad():  # so that what is written depends on what was read
        for parameter in reader.kosmos.text.decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
    folder = tmp_path_factory.mktemp("tiny")
    export(reader, folder, tokenizer=train_small_tokenizer(["abc"], NUM_TEXT_TOKENS))
    return folder


@pytest.fixture(scope="module")
def pipeline(folder) -> OcrPipeline:
    return OcrPipeline.from_pretrained(str(folder))


@pytest.fixture(scope="module")
def published_folder(folder, tmp_path_factory):
    """The same without a line reader, as published checkpoints are."""
    published = tmp_path_factory.mktemp("published")
    for path in folder.iterdir():
        if path.name != LINE_READER_FILE:
            (published / path.name).write_bytes(path.read_bytes())
    return published


@pytest.fixture(scope="module")
def published(published_folder) -> OcrPipeline:
    return OcrPipeline.from_pretrained(str(published_folder))


@pytest.fixture(scope="module")
def pipelines(pipeline, published) -> dict[str, tuple[OcrPipeline, str]]:
    """Each way of reading: who reads, with which engine."""
    return {"fast": (pipeline, "fast"), "by line": (pipeline, "full"), "by page": (published, "full")}


@pytest.fixture(scope="module")
def page() -> Image.Image:
    image = Image.new("L", (300, 120), 255)
    draw = ImageDraw.Draw(image)
    for row in range(3):
        draw.text((20, 15 + 30 * row), "Some words in a line", fill=0, font_size=16)
    return image


def test_engines(pipeline, published) -> None:
    assert pipeline.engines == ("auto", "fast", "ppocr", "full")
    assert isinstance(pipeline.full, CheckedEngine)
    assert published.engines == ("full", "ppocr")
    assert isinstance(published.full, FullEngine)
    with pytest.raises(InputError, match="has no 'fast' engine; it has: full, ppocr"):
        published(Image.new("RGB", (32, 32)), engine="fast")
    with pytest.raises(InputError, match="was not trained to answer questions"):
        pipeline.ask(Image.new("RGB", (32, 32)), "Who?")


WAYS = ["fast", "by line", "by page"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("task", ["ocr", "markdown"])
@pytest.mark.parametrize("kind", ["picture", "rgb", "grey"])
def test_a_page_is_read(pipelines, page, way: str, task: str, kind: str) -> None:
    pipeline, engine = pipelines[way]
    image = {"picture": page, "rgb": np.asarray(page.convert("RGB")), "grey": np.asarray(page)}[kind]
    *lines, result = pipeline.stream(image, task=task, engine=engine)
    assert isinstance(result, Page)
    assert (result.width, result.height) == page.size
    assert all(isinstance(line, Line) for line in lines)
    assert (result.markdown is not None) == (task == "markdown")
    if task == "ocr" or way != "by page":
        assert result.lines == tuple(lines)
    for line in result.lines:
        assert 0 <= line.confidence <= 1
        x0, y0, x1, y1 = line.box
        assert -1 <= x0 <= x1 <= page.width + 1
        assert -1 <= y0 <= y1 <= page.height + 1
        assert line.text.strip() == line.text != ""
    assert pipeline(image, task=task, engine=engine) == result


def test_an_untrained_decoder_writes_lines_that_parse(published, page) -> None:
    result = published(page, engine="full")
    assert result.lines
    assert result.truncated  # it knows no end


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (400, 3)])
@pytest.mark.parametrize("way", WAYS)
def test_degenerate_pages(pipelines, size: tuple[int, int], way: str) -> None:
    pipeline, engine = pipelines[way]
    result = pipeline(Image.new("RGB", size, "white"), engine=engine)
    assert (result.width, result.height) == size


def test_unknown_task_and_engine(pipeline, page) -> None:
    with pytest.raises(InputError, match="unknown task 'translate'; there are: ocr, markdown"):
        pipeline(page, task="translate")
    with pytest.raises(InputError, match="'slow' engine; it has: auto, fast, ppocr, full"):
        pipeline(page, engine="slow")


QUESTIONS = ["What is the total?", "Who?", "Which day was it, and where?"]


def test_questions_share_the_page_and_answers_equal_separate_runs(published, page) -> None:
    together = published.ask_all(page, QUESTIONS, max_new_tokens=12)
    assert len(set(together)) > 1
    assert together == [published.ask(page, question, max_new_tokens=12) for question in QUESTIONS]
    assert together == published.ask_all(page, QUESTIONS[::-1], max_new_tokens=12)[::-1]


@torch.inference_mode()
def test_an_answer_is_what_follows_the_whole_prompt_in_one_prefill(published, page) -> None:
    model, processor = published.full.model, published.full.processor
    picture = processor.batch([processor.picture(page)])
    for question in QUESTIONS:
        prompt = processor.left_padded([processor.chat_prompt(question)])
        cache = model.text.new_cache(1, CONFIG.num_queries + 3 + prompt.shape[1] + 12)
        first = model.prefill(model.embed_images(picture), prompt, cache)
        config = GenerationConfig(max_new_tokens=12, eos_token_ids=(TOKENS.eos,), pad_token_id=TOKENS.pad)
        output = generate(model.text.decode, first, cache, config, text_guard(processor))
        expected = processor.tokenizer.decode(output.tokens[0].tolist()).strip()
        assert published.ask(page, question, max_new_tokens=12) == expected


@torch.inference_mode()
def test_prefix_then_prompt_gives_the_logits_of_one_prefill(published, page) -> None:
    model, processor = published.full.model, published.full.processor
    embeddings = model.embed_images(processor.batch([processor.picture(page)]))
    prompt = processor.left_padded([processor.chat_prompt("Who?")])
    length = CONFIG.num_queries + 3 + prompt.shape[1]
    at_once, in_parts = model.text.new_cache(1, length), model.text.new_cache(1, length)
    expected = model.prefill(embeddings, prompt, at_once)
    model.prefill(embeddings, processor.left_padded([[]]), in_parts)
    torch.testing.assert_close(model.text.decode(prompt, in_parts), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("questions", [[], [""], ["Who?", "  "]])
def test_empty_questions(published, page, questions: list[str]) -> None:
    with pytest.raises(InputError, match="a question is empty"):
        published.ask_all(page, questions)


def test_missing_files_are_named(folder, tmp_path) -> None:
    with pytest.raises(ModelNotFoundError):
        OcrPipeline.from_pretrained(str(tmp_path / "nowhere"))
    checkpoint.save(checkpoint.load(folder), tmp_path)
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        OcrPipeline.from_pretrained(str(tmp_path))


def test_bfloat16(folder, published_folder, page) -> None:
    low = OcrPipeline.from_pretrained(str(folder), dtype=torch.bfloat16)
    for engine in low.engines:
        assert low(page, engine=engine).width == page.width
    published = OcrPipeline.from_pretrained(str(published_folder), dtype=torch.bfloat16)
    assert isinstance(published.ask(page, "Who?", max_new_tokens=4), str)


def test_the_line_reader_of_onnx_runtime_is_that_of_torch(folder, pipeline) -> None:
    in_torch = OcrPipeline.from_pretrained(str(folder), dtype=torch.float32)
    assert pipeline.fast is not None
    assert in_torch.fast is not None
    crops = [
        np.random.default_rng(width).integers(0, 256, (32, width), dtype=np.uint8) for width in (9, 64, 100)
    ]
    for light, known in zip(pipeline.fast.read(crops), in_torch.fast.read(crops), strict=True):
        assert light.text == known.text
        assert light.confidence == pytest.approx(known.confidence, abs=1e-5)


def test_a_damaged_line_reader_is_named(folder, tmp_path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / LINE_READER_FILE).write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="line reader cannot be loaded"):
        OcrPipeline.from_pretrained(str(tmp_path))
