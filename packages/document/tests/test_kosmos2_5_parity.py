"""KOSMOS-2.5 against the class of `transformers`: random weights, every tensor perturbed, both directions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from multiway_core.generation import GenerationConfig, generate
from multiway_document.kosmos2_5 import checkpoint
from multiway_document.kosmos2_5.config import KOSMOS_2_5, TokenConfig
from multiway_document.kosmos2_5.model import Kosmos25, Patches
from multiway_document.kosmos2_5.processor import batch_pictures, picture_patches

pytestmark = [pytest.mark.peer, pytest.mark.requires("transformers.models.kosmos2_5")]

TOKENS = TokenConfig(num_text_tokens=168, num_locations=10)  # 200 ids in all
SIZES = {
    # heads * head_dim differs from the hidden size; fewer queries than patches
    "narrow": {
        "vision_config": {
            "hidden_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 5,
            "head_dim": 16,
            "intermediate_size": 56,
            "max_num_patches": 64,
        },
        "text_config": {"embed_dim": 48, "layers": 2, "attention_heads": 4, "ffn_dim": 96},
        "latent_query_num": 8,
    },
    # more queries than patches
    "wide": {
        "vision_config": {
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "head_dim": 16,
            "intermediate_size": 96,
            "max_num_patches": 48,
        },
        "text_config": {"embed_dim": 64, "layers": 3, "attention_heads": 2, "ffn_dim": 80},
        "latent_query_num": 60,
    },
}
TEXT = {"vocab_size": 200, "max_position_embeddings": 256, "dropout": 0.1}


@pytest.fixture(scope="module", params=list(SIZES))
def published(request, tmp_path_factory):
    """The peer's model with random weights and its folder, saved the way it is published."""
    from transformers import Kosmos2_5Config, Kosmos2_5ForConditionalGeneration

    sizes = SIZES[request.param]
    torch.manual_seed(0)
    config = Kosmos2_5Config(
        text_config=TEXT | sizes["text_config"],
        vision_config=sizes["vision_config"],
        latent_query_num=sizes["latent_query_num"],
    )
    config._attn_implementation = "eager"
    model = Kosmos2_5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    folder = tmp_path_factory.mktemp(f"published-{request.param}")
    model.save_pretrained(folder)
    add_token_layout(folder)
    return model, folder


def add_token_layout(folder: Path) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    content["token_layout"] = {
        "num_text_tokens": TOKENS.num_text_tokens,
        "num_locations": TOKENS.num_locations,
    }
    path.write_text(json.dumps(content))


def random_picture(seed: int, height: int = 150, width: int = 90) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pictures(model: Kosmos25, *seeds: int, padded: bool = True) -> Patches:
    size = model.config.vision.max_patches
    return batch_pictures(
        [picture_patches(random_picture(s), max_patches=size) for s in seeds], size, padded=padded
    )


def peer_inputs(patches: Patches) -> torch.Tensor:
    ids = torch.stack([patches.rows_BN, patches.columns_BN], dim=-1).float()
    return torch.cat([ids, patches.pixels_BNP], dim=-1)


@pytest.mark.parametrize(("height", "width"), [(150, 90), (40, 300), (500, 60), (33, 33)])
@pytest.mark.parametrize("backend", ["pil", "torchvision"])
def test_patches(height: int, width: int, backend: str) -> None:
    if backend == "pil":
        from transformers.models.kosmos2_5.image_processing_pil_kosmos2_5 import (
            Kosmos2_5ImageProcessorPil as Peer,
        )
    else:
        pytest.importorskip("torchvision")
        from transformers.models.kosmos2_5.image_processing_kosmos2_5 import Kosmos2_5ImageProcessor as Peer
    image = random_picture(1, height, width)
    theirs = Peer(max_patches=256)(image, return_tensors="pt")["flattened_patches"][0]
    unbiased = backend == "torchvision"
    ours = batch_pictures([picture_patches(image, max_patches=256, unbiased=unbiased)], 256, padded=True)
    # The biased form is the authors'; both backends are matched by the right choice of deviation.
    torch.testing.assert_close(peer_inputs(ours)[0], theirs, atol=1e-5, rtol=0)


def test_encoder_resampler_and_logits(published) -> None:
    theirs, folder = published
    ours = checkpoint.load(folder)
    patches = pictures(ours, 1, 2)
    suffix = torch.randint(4, 172, (2, 9), generator=torch.Generator().manual_seed(0))
    tokens, places, segments = ours.prompt(suffix)
    flattened = peer_inputs(patches)
    with torch.no_grad():
        features = theirs.vision_model(flattened).last_hidden_state
        torch.testing.assert_close(ours.encode(patches), features, atol=1e-4, rtol=1e-4)
        embeddings = ours.embed_images(patches)
        expected, _ = theirs.image_to_text_projection(torch.nn.functional.normalize(features, dim=-1))
        torch.testing.assert_close(embeddings, expected, atol=1e-4, rtol=1e-4)
        mask = torch.where(places, 1, torch.where(segments == 1, -1, 0))
        out = theirs(input_ids=tokens, flattened_patches=flattened, image_embeds_position_mask=mask)
        torch.testing.assert_close(ours(patches, suffix), out.logits, atol=1e-4, rtol=1e-4)


def test_one_padding_row_with_its_count_equals_all_padding_rows(published) -> None:
    ours = checkpoint.load(published[1])
    with torch.no_grad():
        full = ours.embed_images(pictures(ours, 1, 2))
        short = ours.embed_images(pictures(ours, 1, 2, padded=False))
    torch.testing.assert_close(short, full, atol=2e-5, rtol=1e-5)


def test_64_greedy_tokens_with_cache(published) -> None:
    theirs, folder = published
    ours = checkpoint.load(folder)
    patches = pictures(ours, 3)
    suffix = torch.tensor([[TOKENS.ocr, 17]])
    tokens, places, segments = ours.prompt(suffix)
    mask = torch.where(places, 1, torch.where(segments == 1, -1, 0))
    with torch.no_grad():
        expected = theirs.generate(
            input_ids=tokens,
            flattened_patches=peer_inputs(patches),
            image_embeds_position_mask=mask,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=64,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=1,
        )[0, tokens.shape[1] :]
        cache = ours.text.new_cache(1, tokens.shape[1] + 64)
        first = ours.prefill(ours.embed_images(patches), suffix, cache)
        config = GenerationConfig(max_new_tokens=64, eos_token_ids=(), pad_token_id=TOKENS.pad)
        output = generate(ours.text.decode, first, cache, config)
    assert output.tokens[0].tolist() == expected.tolist()


def test_bfloat16_is_as_near_to_the_truth_as_theirs(published) -> None:
    """Both networks in bfloat16 against theirs in float32 with the same rounded weights and pixels.

    Each rounds in its own places (ours normalises in float32, keeps sums of products in float32 for longer), so the two
    agree no better than each agrees with the truth; what can be asked is that our error is not larger than theirs.
    """
    _, folder = published
    peer_class = type(published[0])
    theirs = peer_class.from_pretrained(folder, dtype=torch.bfloat16).eval()
    exact = peer_class.from_pretrained(folder, dtype=torch.bfloat16).eval().float()
    ours = checkpoint.load(folder, dtype=torch.bfloat16)
    errors: dict[str, list[torch.Tensor]] = {"theirs": [], "at once": [], "step by step": [], "between": []}
    for seed in range(4):
        patches = pictures(ours, seed).to("cpu", torch.bfloat16)
        suffix = torch.randint(4, 172, (1, 12), generator=torch.Generator().manual_seed(seed))
        tokens, places, segments = ours.prompt(suffix)
        mask = torch.where(places, 1, torch.where(segments == 1, -1, 0))
        # Ids of rows and columns must stay exact, which their one tensor for ids and pixels allows up to 256.
        flattened = peer_inputs(patches._replace(pixels_BNP=patches.pixels_BNP.float()))

        def logits_of(
            model, dtype: torch.dtype, tokens=tokens, mask=mask, flattened=flattened
        ) -> torch.Tensor:
            flattened = flattened.to(dtype)
            out = model(input_ids=tokens, flattened_patches=flattened, image_embeds_position_mask=mask)
            return out.logits[0, -12:].double()

        with torch.no_grad():
            wanted = logits_of(exact, torch.float32)
            by_theirs = logits_of(theirs, torch.bfloat16)
            at_once = ours(patches, suffix)[0, -12:].double()
            cache = ours.text.new_cache(1, tokens.shape[1])
            steps = [ours.prefill(ours.embed_images(patches), suffix[:, :1], cache)]
            steps += [ours.text.decode(suffix[:, t : t + 1], cache) for t in range(1, 12)]
        errors["theirs"].append(by_theirs - wanted)
        errors["at once"].append(at_once - wanted)
        errors["step by step"].append(torch.cat(steps).double() - wanted)
        errors["between"].append(at_once - by_theirs)
    size = {name: float(torch.stack(parts).square().mean().sqrt()) for name, parts in errors.items()}
    assert size["at once"] <= 1.15 * size["theirs"]  # 15 %: another draw of roundings
    assert size["step by step"] <= 1.15 * size["theirs"]
    assert (
        size["between"] <= 1.5 * size["theirs"]
    )  # two independent errors: the square root of 2, and some room


def test_loss(published) -> None:
    theirs, folder = published
    ours = checkpoint.load(folder)
    patches = pictures(ours, 4)
    suffix = torch.randint(4, 172, (1, 12), generator=torch.Generator().manual_seed(1))
    tokens, places, segments = ours.prompt(suffix)
    labels = tokens.masked_fill(segments == 1, -100)
    mask = torch.where(places, 1, torch.where(segments == 1, -1, 0))
    with torch.no_grad():
        expected = theirs(
            input_ids=tokens,
            flattened_patches=peer_inputs(patches),
            image_embeds_position_mask=mask,
            labels=labels,
        ).loss
        logits = ours(patches, suffix)
        loss = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:])
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)


def test_ours_saved_loads_in_theirs(published, tmp_path) -> None:
    from transformers import Kosmos2_5ForConditionalGeneration

    theirs, folder = published
    ours = checkpoint.load(folder)
    checkpoint.save(ours, tmp_path)
    again, info = Kosmos2_5ForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    for (name, a), (_, b) in zip(theirs.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_left_padded_batch_equals_single_runs(published) -> None:
    ours = checkpoint.load(published[1]).double()
    patches = pictures(ours, 5, 6, 7)
    patches = Patches(patches.pixels_BNP.double(), *patches[1:])
    pad = TOKENS.pad
    prompts = [[20, 21, 22, 23, 24], [30, 31], [40]]
    padded = torch.tensor([[pad] * (5 - len(p)) + p for p in prompts])
    config = GenerationConfig(max_new_tokens=20, eos_token_ids=(2,), pad_token_id=pad)

    def run(rows: list[int], suffix: torch.Tensor):
        embeddings = ours.embed_images(Patches(*(part[rows] for part in patches)))
        cache = ours.text.new_cache(len(rows), ours.config.num_queries + 3 + suffix.shape[1] + 20)
        first = ours.prefill(embeddings, suffix, cache)
        return first, generate(ours.text.decode, first, cache, config)

    with torch.no_grad():
        first_batch, batch = run([0, 1, 2], padded)
        for row, prompt in enumerate(prompts):
            first, single = run([row], torch.tensor([prompt]))
            torch.testing.assert_close(first_batch[row], first[0], atol=1e-9, rtol=0)
            assert batch.tokens[row].tolist() == single.tokens[0].tolist()


def test_original_fairseq_layout(published, tmp_path) -> None:
    """A synthetic ``ckpt.pt`` with the authors' names gives the same network."""
    theirs, folder = published
    renamed = {"gpt_model.decoder.embed_positions._float_tensor": torch.zeros(1)}
    for name, tensor in theirs.state_dict().items():
        name = name.replace("text_model.lm_head", "gpt_model.decoder.output_projection")
        name = name.replace("text_model.model", "gpt_model.decoder").removeprefix("model.")
        name = name.replace("image_to_text_projection", "img_connector").replace("vision_model", "img_model")
        renamed[name] = tensor
    torch.save({"model": renamed}, tmp_path / "ckpt.pt")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    ours, original = checkpoint.load(folder), checkpoint.load(tmp_path)
    for (name, a), (_, b) in zip(ours.state_dict().items(), original.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_published_size_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = Kosmos25(KOSMOS_2_5)
    names = {
        checkpoint.HUGGING_FACE.to_published(name): tuple(t.shape) for name, t in model.state_dict().items()
    }
    assert len(names) == 614
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_374_646_272
    assert sum(p.numel() for p in model.text.parameters()) == 846_884_352
    assert sum(p.numel() for p in model.vision.parameters()) == 512_812_032
    assert sum(p.numel() for p in model.resampler.parameters()) == 14_949_888

    from transformers import Kosmos2_5Config, Kosmos2_5ForConditionalGeneration

    with torch.device("meta"):
        theirs = Kosmos2_5ForConditionalGeneration(Kosmos2_5Config())
    expected = {name.removeprefix("model."): tuple(t.shape) for name, t in theirs.state_dict().items()}
    expected.pop("text_model.lm_head.weight", None)
    assert {name.removeprefix("model."): shape for name, shape in names.items()} == expected
