"""Token ids, pixels and prompts against the processor of `transformers`, with a vocabulary trained here."""

from __future__ import annotations

import importlib
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core.errors import CheckpointError, InputError, MultiwayError
from multiway_core.tokenization import TextTokenizer
from multiway_vision_language.kosmos2 import checkpoint
from multiway_vision_language.kosmos2.checkpoint import TOKENIZER_FILE
from multiway_vision_language.kosmos2.config import KOSMOS_2
from multiway_vision_language.kosmos2.model import Kosmos2
from multiway_vision_language.kosmos2.processor import Kosmos2Processor
from PIL import Image

tiny = importlib.import_module("packages.vision-language.tests.tiny_kosmos2")


@pytest.fixture(scope="module")
def pieces(tmp_path_factory) -> TextTokenizer:
    return tiny.train_vocabulary(tmp_path_factory.mktemp("pieces"))


@pytest.fixture(scope="module")
def processor(pieces) -> Kosmos2Processor:
    return Kosmos2Processor(tiny.tiny_config(pieces), pieces)


@pytest.fixture(scope="module")
def theirs(pieces):
    """Their processor over the same pieces, in fairseq's order."""
    transformers = pytest.importorskip("transformers")
    model = pieces.engine.pieces
    known = [(model.IdToPiece(index), model.GetScore(index)) for index in range(3, model.GetPieceSize())]
    control = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    tokenizer = transformers.XLMRobertaTokenizer(vocab=[*control, *known, ("<mask>", 0.0)])
    size = tiny.KOSMOS_2_TINY.vision.image_size
    sizes = {"size": {"height": size, "width": size}, "crop_size": {"height": size, "width": size}}
    images = transformers.CLIPImageProcessorPil(**sizes, do_center_crop=False)
    return transformers.Kosmos2Processor(images, tokenizer, num_patch_index_tokens=16)


TEXTS = [
    ("<grounding> An image of", None),
    ("<grounding>An image of a dog.", None),
    ("plain text, without a tag", None),
    ("<grounding><phrase>It</phrase> is", [(0.1, 0.2, 0.6, 0.95)]),
    ("<grounding> An image of <phrase> two puppies </phrase> sit in  a field.", [[(0, 5), (0.1, 0.1, 0.9, 0.9)]]),
    ("a <phrase>b</phrase><phrase> c</phrase>.", [None, (3, 15)]),
    ("Question: What is it? Answer:", None),
    ("unknown ☃ letters Ж<grounding> ", None),
]  # fmt: skip


@pytest.mark.peer
@pytest.mark.parametrize(("text", "boxes"), TEXTS)
def test_prompts_as_the_peer_makes_them(processor, theirs, text: str, boxes) -> None:
    image = Image.new("RGB", (40, 30))
    wanted = theirs(images=image, text=text, bboxes=boxes, num_image_tokens=processor.config.num_queries)
    prompt = processor.prompt(text, boxes)
    assert prompt == wanted["input_ids"]
    batch = processor.batch([prompt])
    assert batch.image_slots_BT[0].long().tolist() == wanted["image_embeds_position_mask"]
    alone = theirs(text=text, bboxes=boxes)
    assert processor.prompt(text, boxes, picture=False) == alone["input_ids"]


@pytest.mark.peer
def test_decoding_as_the_peer_does(processor, theirs) -> None:
    rng = random.Random(0)
    tokens = processor.tokens
    ids = [*range(tokens.first_text, tokens.mask), *range(tokens.phrase, tokens.vocab_size)] * 2
    for _ in range(300):
        output = rng.choices(ids, k=rng.randrange(1, 30))
        text = theirs.batch_decode([output], skip_special_tokens=True)[0]
        # Their decoder takes a space off the begin of a stretch of text where ours keeps it.
        assert processor.parse(output).text == theirs.post_process_generation(text)[0]


@pytest.mark.peer
@pytest.mark.parametrize("shape", [(37, 90), (32, 32), (200, 5), (1, 1)])
def test_pixels_as_the_peer_makes_them(processor, theirs, shape: tuple[int, int]) -> None:
    array = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    wanted = theirs.image_processor(Image.fromarray(array), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(processor.pixels([array]), wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(processor.pixels([Image.fromarray(array)]), wanted, atol=1e-6, rtol=0)


def test_pixels_of_other_modes_and_of_none(processor) -> None:
    assert processor.pixels([Image.new("P", (5, 9)), Image.new("L", (9, 5))]).shape == (2, 3, 32, 32)
    assert processor.pixels([]).shape == (0, 3, 32, 32)
    with pytest.raises(InputError, match="expected uint8"):
        processor.pixels([np.zeros((4, 4, 3), dtype=np.float32)])


def test_ids_are_the_pieces_behind_four_control_tokens(pieces) -> None:
    ids = pieces.encode("a fire")
    assert [
        pieces.engine.pieces.IdToPiece(index - 1) for index in ids
    ] == pieces.engine.pieces.EncodeAsPieces("a fire")
    assert pieces.decode(ids) == " a fire"
    assert 3 in pieces.encode("☃")
    assert pieces.decode([0, 1, 2, 3, 5000]) == ""
    assert pieces.encode_with_offsets("a fire", add_special_tokens=False).ids == ids


def test_left_padding(processor) -> None:
    long, short = processor.prompt("a fire by the sea"), processor.prompt("a")
    batch = processor.batch([short, long])
    missing = len(long) - len(short)
    assert batch.tokens_BT[0].tolist() == [1] * missing + short
    assert batch.valid_BT[0].tolist() == [False] * missing + [True] * len(short)
    assert batch.image_slots_BT[0].nonzero()[:, 0].tolist() == [missing + 2 + slot for slot in range(6)]


def test_several_pictures_in_one_prompt(processor) -> None:
    text = "<image></image> a fire <image></image> a dog"
    prompt = processor.prompt(text, picture=False)
    assert [len(place) for place in processor.slots(prompt)] == [6, 6]
    assert processor.decode(prompt) == " a dog"


def test_text_that_spells_control_tokens_stays_text(processor) -> None:
    assert processor.tokens.eos not in processor.encode("</s> <s> <pad>")
    assert all(processor.tokens.is_text(token) or token == 3 for token in processor.encode("<mask> </s>"))


@pytest.mark.parametrize(
    ("text", "boxes", "message"),
    [
        ("<phrase>a</phrase>", [(0, 16)], "location 16 is outside the grid: expected 0 to 15"),
        ("<phrase>a</phrase>", [(0, 1, 2)], "is not a box"),
        ("<phrase>a</phrase>", [(0.5, 0.5)], "is not a box"),
        ("<phrase>a</phrase>", [(0.5, 0.5, 0.4, 0.6)], "no area"),
        ("<phrase>a</phrase>", [None, None], "1 phrases, but boxes are given for 2"),
        ("<object><patch_index_0099></object>", None, "outside the grid"),
    ],
)
def test_wrong_boxes_are_refused(processor, text: str, boxes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        processor.prompt(text, boxes)


def test_model_folder_by_its_name(pieces, processor, tmp_path) -> None:
    torch.manual_seed(0)
    model = Kosmos2(processor.config)
    checkpoint.save(model, tmp_path)
    with pytest.raises(CheckpointError, match=TOKENIZER_FILE):
        checkpoint.load_pretrained(str(tmp_path))
    pieces.engine.save(tmp_path)
    loaded, again = checkpoint.load_pretrained(str(tmp_path), dtype=torch.bfloat16)
    assert again.prompt("a fire") == processor.prompt("a fire")
    assert loaded.text.embedding.weight.dtype == torch.bfloat16
    assert not loaded.training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "blip"}, "expected 'kosmos-2'"),
        ({"vision_config": {"hidden_act": "gelu"}}, "hidden_act is 'gelu'"),
        ({"text_config": [1]}, "text_config is not a JSON object"),
        ({"text_config": {"layers": "two"}}, "text.num_layers: expected an integer"),
        ({"text_config": {"vocab_size": 9}}, "vocabulary has 9 tokens, but the token layout"),
    ],
)
def test_foreign_configurations_are_refused(change: dict, message: str) -> None:
    published = checkpoint.config_to_published(KOSMOS_2) | change
    with pytest.raises(MultiwayError, match=message):
        checkpoint.config_from_published(published, where="config.json")


def test_a_file_that_is_no_vocabulary_is_refused(tmp_path) -> None:
    path = tmp_path / TOKENIZER_FILE
    path.write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match="not a SentencePiece model"):
        TextTokenizer.from_folder(path)
    with pytest.raises(CheckpointError, match="no absent"):
        TextTokenizer.from_folder(tmp_path / "absent")


# --- With the published vocabulary, where it is on this machine -----------------------------------------------------


@pytest.fixture(scope="module")
def official() -> Kosmos2Processor:
    cache = Path("~/.cache/huggingface/hub/models--microsoft--kosmos-2-patch14-224/snapshots").expanduser()
    found = [folder for folder in cache.glob("*") if (folder / TOKENIZER_FILE).is_file()]
    if not found:
        pytest.skip("the published vocabulary is not on this machine")
    return Kosmos2Processor(KOSMOS_2, TextTokenizer.from_folder(found[0] / TOKENIZER_FILE))


def test_golden_ids(official) -> None:
    assert official.encode("<grounding> An image of") == [64012, 712, 1648, 9]
    text = "<grounding><phrase> two puppies</phrase> sit in a field of<phrase> grass</phrase>."
    cells = [[(79, 1016), (135, 1008)], None]
    assert official.encode(text, cells) == [
        64012, 64007, 1264, 17772, 64008, 64009, 64092, 65029, 64011, 64148, 65021, 64010,
        1357, 12, 10, 770, 9, 64007, 4464, 64008, 106, 4,
    ]  # fmt: skip
