"""LatentLM: network and losses against loops; the head against `transformers`, the schedule against `diffusers`."""

from __future__ import annotations

import importlib

import pytest
import torch
from multiway_blocks.diffusion import CosineSchedule, DiffusionHead
from multiway_core import checkpoint as tensors
from multiway_core.errors import InputError
from multiway_text.decoders.latent_lm import recipe
from multiway_text.decoders.latent_lm.config import PRESETS, LatentLMConfig, TokenizerConfig
from multiway_text.decoders.latent_lm.generation import Generator, SamplingConfig
from multiway_text.decoders.latent_lm.model import LatentLM
from multiway_text.decoders.latent_lm.objective import Batch, hide_prompts, losses
from multiway_text.decoders.latent_lm.processor import LatentLMProcessor
from multiway_text.decoders.latent_lm.tokenizer import PictureTokenizer
from torch import Tensor, nn

tiny = importlib.import_module("packages.text.tests.tiny_latent_lm")
MODEL, PICTURES = tiny.MODEL, tiny.PICTURES
BEGIN, END, LATENT, NULL, EOS = tiny.BEGIN, tiny.END, tiny.LATENT, tiny.NULL, tiny.EOS


@pytest.fixture(scope="module")
def model() -> LatentLM:
    return tiny.perturbed_model()


def random_batch(model: LatentLM) -> Batch:
    """Text before and behind pictures, two pictures in a row, rows of unequal length."""
    generator = torch.Generator().manual_seed(1)
    spans = [torch.randn(count, 3, generator=generator) for count in (4, 2, 3)]
    documents = [[1, 2, spans[0], 5], [spans[1], 7, spans[2]], [3, 4, 5]]
    return LatentLMProcessor(model).batch(documents, end=True)


def test_documents_as_rows(model) -> None:
    batch = random_batch(model)
    assert batch.tokens_BT[0].tolist()[-10:] == [6, 7, BEGIN, *[LATENT] * 4, END, 10, EOS]
    assert batch.valid_BT.sum(1).tolist() == [10, 11, 4]
    assert (batch.tokens_BT[~batch.valid_BT] == NULL).all()
    torch.testing.assert_close(model.denormalize(batch.latents_ND[4:6]), _spans()[1])


def _spans() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(count, 3, generator=generator) for count in (4, 2, 3)]


def test_embedding_puts_latents_in_their_places(model) -> None:
    batch = random_batch(model)
    x = model.embed(batch.tokens_BT, batch.latents_ND)
    used = iter(batch.latents_ND)
    for row, ids in enumerate(batch.tokens_BT.tolist()):
        for place, token in enumerate(ids):
            expected = model.embedding.weight[token]
            if token == LATENT:
                expected = model.latent_input.weight @ next(used)
            torch.testing.assert_close(x[row, place], expected)


def test_network_is_the_formula(model) -> None:
    """One row in float64, attention written out, rotary frequencies from 1 to 1 / theta."""
    double = LatentLM(model.config).double()
    double.load_state_dict(model.state_dict())
    ids = torch.tensor([[7, 8, BEGIN]])
    x, width = double.embedding.weight[ids[0]], 8
    frequencies = 10_000.0 ** -torch.linspace(0, 1, width // 2).double()

    def norm(v: Tensor) -> Tensor:
        return v / (v.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def turn(v: Tensor) -> Tensor:
        angles = torch.arange(3)[:, None] * frequencies
        even, odd = v[:, 0::2], v[:, 1::2]
        pairs = [even * angles.cos() - odd * angles.sin(), even * angles.sin() + odd * angles.cos()]
        return torch.stack(pairs, dim=-1).flatten(1)

    for layer in double.decoder.layers:
        attention, y, mixed = layer.attention, norm(x), []
        q, k, v = (y @ m.weight.T for m in (attention.query, attention.key, attention.value))
        for head in range(4):
            part = slice(head * width, (head + 1) * width)
            scores = turn(q[:, part]) @ turn(k[:, part]).T / width**0.5
            scores = scores.masked_fill(torch.ones(3, 3).triu(1).bool(), float("-inf"))
            mixed.append(scores.softmax(-1) @ v[:, part])
        x = x + torch.cat(mixed, dim=1) @ attention.output.weight.T
        network, y = layer.feedforward, norm(x)
        inner = nn.functional.silu(y @ network.gate.weight.T) * (y @ network.up.weight.T)
        x = x + inner @ network.down.weight.T
    torch.testing.assert_close(double.hidden(ids)[0], norm(x), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(double(ids)[0], norm(x) @ double.head.weight.T, atol=1e-6, rtol=1e-5)


def test_losses_equal_a_loop(model) -> None:
    batch = random_batch(model)
    torch.manual_seed(5)
    found = losses(model, batch, draws=2)
    torch.manual_seed(5)
    count = len(batch.latents_ND)
    times, noise = torch.randint(1000, (2 * count,)), torch.randn(2 * count, 3)
    hidden = model.decoder(model.embed(batch.tokens_BT, batch.latents_ND), batch.valid_BT)
    entropy, squares, tokens, seen = 0.0, 0.0, 0, 0
    for row, ids in enumerate(batch.tokens_BT.tolist()):
        first = int((~batch.valid_BT[row]).sum())
        for place in range(first + 1, len(ids)):
            before = hidden[row, place - 1]
            entropy -= model.logits(before).log_softmax(-1)[ids[place]]
            tokens += 1
            if ids[place] != LATENT:
                continue
            for draw in range(2):
                pick = draw * count + seen
                time, e, z = times[pick], noise[pick], batch.latents_ND[seen]
                alpha, sigma = model.schedule.alpha_S[time], model.schedule.sigma_S[time]
                v = model.diffusion_head((alpha * z + sigma * e)[None], time[None], before[None])[0]
                squares += (v - (alpha * e - sigma * z)).square().mean() / 2
            seen += 1
    assert (int(found.num_tokens), found.num_latents) == (tokens, seen)
    torch.testing.assert_close(found.token_total, entropy)
    torch.testing.assert_close(found.latent_total, squares)
    gradients = torch.autograd.grad(found.token_total + found.latent_total, list(model.parameters()))
    assert all(bool(g.abs().sum() > 0) for g in gradients)
    with pytest.raises(InputError, match="draws must be at least 1"):
        losses(model, batch, draws=0)


def test_hidden_prompts_keep_the_delimiters(model) -> None:
    batch = random_batch(model)
    hidden = hide_prompts(batch.tokens_BT, torch.tensor([True, False, False]), model)
    assert hidden[0].tolist()[-10:] == [NULL, NULL, BEGIN, *[LATENT] * 4, END, NULL, EOS]
    assert torch.equal(hidden[1:], batch.tokens_BT[1:])


@pytest.mark.peer
def test_head_equals_transformers() -> None:
    """The class of VibeVoice, whose head is LatentLM's, with random weights."""
    peer = pytest.importorskip("transformers.models.vibevoice.modeling_vibevoice")
    from transformers.models.vibevoice.configuration_vibevoice import VibeVoiceDiffusionHeadConfig

    sizes = {"hidden_size": 24, "latent_size": 5, "num_hidden_layers": 3, "intermediate_size": 40}
    config = VibeVoiceDiffusionHeadConfig(**sizes, frequency_embedding_size=32)
    torch.manual_seed(0)
    theirs = peer.VibeVoiceDiffusionHead(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    ours = DiffusionHead(5, 24, 3, 40, frequency_size=32, eps=config.rms_norm_eps).eval()
    ours.load_state_dict({_own_name(name): value for name, value in theirs.state_dict().items()})
    x, hidden, times = torch.randn(6, 5), torch.randn(6, 24), torch.tensor([0, 1, 17, 400, 998, 999])
    with torch.no_grad():
        expected = theirs(x, times.float(), condition=hidden)
        torch.testing.assert_close(ours(x, times, hidden), expected, atol=1e-5, rtol=1e-5)


def _own_name(published: str) -> str:
    for theirs, own in (
        ("noisy_images_proj", "input"), ("cond_proj", "condition"),
        ("timestep_proj.fc1", "time_in"), ("timestep_proj.fc2", "time_out"),
        ("final_layer.linear_1", "final_modulation"), ("final_layer.linear_2", "output"),
        (".ffn.", ".feedforward."), ("_proj.weight", ".weight"), (".linear.weight", ".modulation.weight"),
    ):  # fmt: skip
        published = published.replace(theirs, own)
    return published


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_noise_and_velocity_equal_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    peer = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    schedule, generator = CosineSchedule(), torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 50, 4, generator=generator)
    times = torch.arange(0, 1000, 20)
    for ours, theirs in (
        (schedule.add_noise(latents, noise, times), peer.add_noise(latents, noise, times)),
        (schedule.velocity(latents, noise, times), peer.get_velocity(latents, noise, times)),
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("variance", ["fixed", "learned"])
def test_tokenizer(variance) -> None:
    torch.manual_seed(0)
    tokenizer = PictureTokenizer(TokenizerConfig(**PICTURES, variance=variance, noise_std=0.5)).eval()
    pixels = torch.rand(400, 2, 8, 8) * 2 - 1
    with torch.no_grad():
        posterior = tokenizer.encode(pixels)
        mean = posterior.mean_BND
        assert mean.shape == (400, 4, 3)
        assert tokenizer.decode(mean).shape == pixels.shape
        offset = tokenizer.sample(posterior, torch.Generator().manual_seed(0)) - mean
        if variance == "fixed":
            assert posterior.log_variance_BND is None
            torch.testing.assert_close(tokenizer.penalty(posterior), mean.square().mean())
            # One level a picture, N(0, 0.25): its spread over pictures, and that of E|level| / std = 0.8.
            levels = offset.flatten(1).std(dim=1)
            assert levels.mean().item() == pytest.approx(0.5 * 0.798, rel=0.1)
            assert levels.std().item() > 0.2
        else:
            deviation = (0.5 * posterior.log_variance_BND).exp()
            assert (offset / deviation).std().item() == pytest.approx(1.0, abs=0.05)
            normal = torch.distributions.Normal
            expected = torch.distributions.kl_divergence(normal(mean, deviation), normal(0.0, 1.0)).mean()
            torch.testing.assert_close(tokenizer.penalty(posterior), expected)
    # Each latent is a patch of the grid, by rows.
    changed = pixels[:1].clone()
    changed[:, :, :4, 4:] += 1
    with torch.no_grad():
        patches = tokenizer.encoder.patch_embedding
        moved = (patches(changed) - patches(pixels[:1])).flatten(2).abs().sum(1)[0] > 0
    assert moved.tolist() == [False, True, False, False]


@pytest.mark.parametrize(("name", "millions"), [("b", 212), ("l", 495), ("h", 1000)])
def test_full_sizes(name: str, millions: float) -> None:
    with tensors.on_meta():
        model = LatentLM(PRESETS[name])
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: LatentLMConfig(**(MODEL | {"num_heads": 5})), "num_heads 5 does not divide hidden_size 32"),
        (lambda: LatentLMConfig(**(MODEL | {"num_layers": 0})), "num_layers must be 1 to"),
        (lambda: LatentLMConfig(**(MODEL | {"vocab_size": 5})), "leaves no text"),
        (lambda: LatentLMConfig(**MODEL, ffn_ratio=float("nan")), "ffn_ratio nan"),
        (lambda: LatentLMConfig(**MODEL, num_training_steps=1), "num_training_steps must be 2"),
        (
            lambda: TokenizerConfig(**(PICTURES | {"patch_size": 3})),
            "patch_size 3 does not divide image_size 8",
        ),
        (lambda: TokenizerConfig(**PICTURES, noise_std=-1.0), "noise_std must be at least 0"),
        (lambda: SamplingConfig(max_tokens=0), "max_tokens must be at least 1, not 0"),
        (lambda: SamplingConfig(max_tokens=4, steps=0), "steps must be at least 1, not 0"),
        (lambda: SamplingConfig(max_tokens=4, guidance=float("nan")), "guidance must be from 0 to 100"),
        (lambda: SamplingConfig(max_tokens=4, span_length=0), "span_length must be at least 1"),
        (lambda: SamplingConfig(max_tokens=4, sampler="euler"), "sampler must be 'dpm' or 'ddpm'"),  # type: ignore[arg-type]
    ],
)
def test_impossible_settings(change, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        change()
    assert "\n" not in str(error.value)


def test_impossible_inputs(model) -> None:
    processor = LatentLMProcessor(model)
    sampling = SamplingConfig(max_tokens=2, steps=2)
    tokenizer = PictureTokenizer(TokenizerConfig(**PICTURES))
    damaged = LatentLM(model.config)
    nn.init.constant_(damaged.embedding.weight, float("nan"))
    for call, message in (
        (lambda: processor.write([99]), "text id 99 of 99: this model has 0 to 14"),
        (lambda: processor.write(["a"]), "text id 97 of 'a'"),
        (lambda: processor.write([torch.zeros(4, 2)]), r"a span of latents is \(N, 3\), not \[4, 2\]"),
        (lambda: processor.write([]), "a document needs a piece"),
        (lambda: processor.pictures([]), "pictures need a tokenizer"),
        (lambda: model.embed(torch.tensor([[LATENT]])), "1 places for latents in the tokens and 0 latents"),
        (lambda: model.measure_latents(torch.ones(5)), "a standard deviation of 0"),
        (lambda: tokenizer.encode(torch.zeros(1, 2, 8, 9)), r"this tokenizer takes \[2, 8, 8\]"),
        (lambda: Generator(model, SamplingConfig(max_tokens=2, steps=1000)), "steps must be below the 1000"),
        (lambda: Generator(model, sampling).generate([]), "there is no prompt"),
        (
            lambda: Generator(model, sampling).generate([torch.tensor([], dtype=torch.long)]),
            "prompt 0 is empty",
        ),
        (lambda: Generator(model, sampling).generate([torch.tensor([20])]), "outside 0 to 19"),
        (
            lambda: Generator(damaged, sampling).generate([torch.tensor([0])]),
            "not finite; its weights are damaged",
        ),
        (lambda: recipe.pick(0, 4, 0), "cannot be drawn"),
    ):
        with pytest.raises(InputError, match=message):
            call()
