"""LatentLM generating: batches with a cache against rows read anew, `diffusers`, and from class to picture."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from multiway_core import checkpoint as tensors
from multiway_core.errors import InputError
from multiway_core.generation import GenerationConfig, generate
from multiway_text.decoders.latent_lm import checkpoint, recipe
from multiway_text.decoders.latent_lm.config import LatentLMConfig, TokenizerConfig
from multiway_text.decoders.latent_lm.generation import Generator, SamplingConfig
from multiway_text.decoders.latent_lm.model import LatentLM
from multiway_text.decoders.latent_lm.processor import LatentLMProcessor
from multiway_text.decoders.latent_lm.tokenizer import PictureTokenizer
from torch import Tensor

tiny = importlib.import_module("packages.text.tests.tiny_latent_lm")
MODEL, PICTURES = tiny.MODEL, tiny.PICTURES
BEGIN, END, LATENT, NULL, EOS = tiny.BEGIN, tiny.END, tiny.LATENT, tiny.NULL, tiny.EOS


@pytest.fixture(scope="module")
def model() -> LatentLM:
    return tiny.perturbed_model()


def naive(model: LatentLM, prompt: Tensor, config: SamplingConfig, seed: int) -> tuple[list[int], Tensor]:
    """A row alone: the whole sequence read anew in every step, both contexts apart."""
    generator, sampler = torch.Generator().manual_seed(seed), Generator(model, config)
    ids, raw = prompt.tolist(), []
    for _ in range(config.max_tokens):
        latents = torch.stack(raw) if raw else None
        contexts = [torch.tensor([ids]), torch.tensor([[NULL if i >= 5 else i for i in ids]])]
        hidden = [model.decoder(model.embed(c, latents))[0, -1:] for c in contexts]
        logits = model.logits(hidden[0])[0]
        inside = next((i == BEGIN for i in reversed(ids) if i in (BEGIN, END)), False)
        if not inside:
            logits[[LATENT, END, NULL]] = float("-inf")
            ids.append(int(logits.argmax()))
            if ids[-1] == EOS:
                break
            continue
        over = logits[END] > logits[LATENT]
        if config.span_length:
            over = ids[-config.span_length :] == [LATENT] * config.span_length
        if over:
            ids.append(END)
            continue

        def velocity(x: Tensor, step: int, hidden=hidden) -> Tensor:
            time = sampler.solver.times_S[step][None]
            known, unknown = (model.diffusion_head(x, time, h) for h in hidden)
            return unknown + config.guidance * (known - unknown)

        noise = torch.randn(3, generator=generator)[None]
        draw = lambda: torch.randn(3, generator=generator)[None]  # noqa: E731
        raw.append(sampler.solver.sample(velocity, noise, draw)[0])
        ids.append(LATENT)
    return ids[len(prompt) :], model.denormalize(torch.stack(raw)) if raw else torch.zeros(0, 3)


@pytest.mark.parametrize("sampler", ["dpm", "ddpm"])
@pytest.mark.parametrize("span_length", [3, None])
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_cached_batch_equals_rows_read_anew(model, sampler, span_length, guidance) -> None:
    prompts = [torch.tensor([9, BEGIN]), torch.tensor([6, 7, 8]), torch.tensor([BEGIN])]
    config = SamplingConfig(
        max_tokens=9, guidance=guidance, steps=4, sampler=sampler, span_length=span_length, seed=3
    )
    found = Generator(model, config).generate(prompts)
    with torch.no_grad():
        for row, (prompt, one) in enumerate(zip(prompts, found, strict=True)):
            ids, latents = naive(model, prompt, config, 3 + row)
            assert one.tokens == ids
            torch.testing.assert_close(one.latents_ND, latents, atol=1e-4, rtol=1e-4)
    assert found[0].tokens[0] == LATENT or span_length is None
    assert any(LATENT in one.tokens for one in found)


def test_prompts_with_pictures_and_text_behind_them(model) -> None:
    """A picture in the prompt; the core's loop continues with text, with the same ids as ours."""
    processor = LatentLMProcessor(model)
    prompt, raw = processor.write([2, torch.randn(4, 3, generator=torch.Generator().manual_seed(1)), 4])
    config = SamplingConfig(max_tokens=1, guidance=1.0, steps=2)
    [ours] = Generator(model, config).generate([prompt], model.normalize(raw))
    with torch.no_grad():
        cache = model.new_cache(1, len(prompt) + 3)
        first = model.prefill(prompt[None], cache, latents_ND=model.normalize(raw))
        first[:, [LATENT, END, NULL]] = float("-inf")
        theirs = generate(model.decode, first, cache, GenerationConfig(1, (), 0))
    assert ours.tokens == theirs.tokens[0].tolist()


def test_rows_end(model) -> None:
    """eos ends a row and leaves the others as they were; sampling of text follows the seed."""
    ending = LatentLM(model.config).eval()
    ending.load_state_dict(model.state_dict())
    with torch.no_grad():
        ending.head.weight[EOS] *= 4
    prompts = [torch.tensor([number]) for number in range(5, 17)]
    config = SamplingConfig(max_tokens=12, steps=2, temperature=1.0, seed=11, span_length=2)
    found = Generator(ending, config).generate(prompts)
    reasons = {one.ended for one in found}
    assert reasons == {"eos", "length"}
    for row, one in enumerate(found):
        assert (one.tokens[-1] == EOS) == (one.ended == "eos")
        assert one.tokens.count(LATENT) == len(one.latents_ND)
        shifted = SamplingConfig(max_tokens=12, steps=2, temperature=1.0, seed=11 + row, span_length=2)
        assert Generator(ending, shifted).generate([prompts[row]])[0].tokens == one.tokens


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("steps", [5, 20])
def test_a_latent_equals_the_sampler_of_diffusers(model, steps: int) -> None:
    """The first latent of a prompt, guided, by diffusers' solver around our head."""
    diffusers = pytest.importorskip("diffusers")
    peer = diffusers.DPMSolverMultistepScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", solver_order=2
    )
    peer.set_timesteps(steps)
    config = SamplingConfig(max_tokens=1, guidance=3.0, steps=steps, span_length=4, seed=2)
    [found] = Generator(model, config).generate([torch.tensor([8, BEGIN])])
    with torch.no_grad():
        hidden = model.hidden(torch.tensor([[8, BEGIN], [NULL, BEGIN]]))[:, -1]
        x = torch.randn(3, generator=torch.Generator().manual_seed(2))[None]
        for time in peer.timesteps:
            known, unknown = model.diffusion_head(x.repeat(2, 1), time.expand(2), hidden).chunk(2)
            x = peer.step(unknown + 3.0 * (known - unknown), time, x).prev_sample
    torch.testing.assert_close(found.latents_ND, model.denormalize(x), atol=1e-4, rtol=1e-4)


def test_learns_two_classes_and_comes_back_from_a_folder(tmp_path: Path) -> None:
    """Dark and light pictures: the class that is asked for is drawn. Saved, loaded, drawn again."""
    torch.manual_seed(0)
    labels = torch.arange(64) % 2
    pixels = (labels * 1.2 - 0.6)[:, None, None, None] + 0.1 * torch.randn(64, 2, 8, 8)
    tokenizer = PictureTokenizer(TokenizerConfig(**PICTURES, noise_std=0.1))
    model = LatentLM(LatentLMConfig(**MODEL))
    recipe.tokenizer_job(tokenizer, pixels, recipe.train_config(60, 1e-2), batch_size=16).fit(tmp_path / "t")
    config = recipe.train_config(200, 5e-3, ema_decay=0.9)
    recipe.class_conditional_job(
        model, tokenizer, pixels, labels, config, batch_size=16, token_weight=1.0
    ).fit(tmp_path / "m")
    checkpoint.save(model, tokenizer, tmp_path / "saved")
    again = checkpoint.load(tmp_path / "saved")
    drawn = []
    for one, other in ((model, tokenizer), again):
        processor = LatentLMProcessor(one, other)
        prompts = [processor.write([c], open_span=True)[0] for c in (0, 1) * 8]
        settings = SamplingConfig(max_tokens=7, guidance=2.0, steps=10, temperature=0.0)
        found = Generator(one, settings).generate(prompts)
        assert all(
            row.tokens == [*[LATENT] * 4, END, EOS] for row in found
        )  # it says itself where a picture ends
        drawn.append(processor.pictures(found))
    assert torch.equal(drawn[0], drawn[1])
    means = drawn[0].mean(dim=(1, 2, 3))
    assert ((means[1::2] > 0.2) & (means[0::2] < -0.2)).float().mean() > 0.8
    weights = model.state_dict()
    weights["latent_input.weight"][0, 0] = float("inf")
    tensors.save(weights, tmp_path / "saved")
    with pytest.raises(InputError, match=r"latent_input\.weight has values that are not finite"):
        checkpoint.load(tmp_path / "saved")
