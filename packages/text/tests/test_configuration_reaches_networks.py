"""What a configuration says arrives in every module; starts have the spread that the papers ask for.

Found by planted mistakes (`benchmarks/mutations.py`): tests of outputs at the default values let them pass.
"""

from __future__ import annotations

import math

import pytest
import torch
from multiway_text.decoders.latent_lm.config import LatentLMConfig
from multiway_text.decoders.latent_lm.model import LatentLM
from multiway_text.decoders.longnet.config import LongNetConfig
from multiway_text.decoders.longnet.model import LongNet, initialize
from multiway_text.decoders.magneto.config import MagnetoConfig
from multiway_text.decoders.magneto.model import Magneto
from multiway_text.decoders.mh_moe.config import MHMoEConfig
from multiway_text.decoders.mh_moe.model import MHMoE
from multiway_text.decoders.mh_moe.objective import activation_ratio
from multiway_text.decoders.retnet.config import RetNetConfig
from multiway_text.decoders.retnet.model import RetNet
from torch import nn

SIZES = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "inner_size": 48, "vocab_size": 2000}
NARROW = {"hidden_size": 32, "num_layers": 2, "num_heads": 4}
EPS = 0.0078125


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    "build",
    [
        lambda: RetNet(RetNetConfig(**SIZES, value_size=64, norm_eps=EPS)),
        lambda: Magneto(MagnetoConfig(**SIZES, norm_eps=EPS)),
    ],
    ids=["retnet", "magneto"],
)
def test_eps_of_every_norm_is_the_configuration_s(build) -> None:
    found = {name: module.eps for name, module in build().named_modules() if hasattr(module, "eps")}
    assert len(found) >= 5
    assert set(found.values()) == {EPS}, found


@pytest.mark.parametrize(
    ("build", "std"),
    [
        (lambda: RetNet(RetNetConfig(**SIZES, value_size=64)), 32**-0.5),
        (lambda: Magneto(MagnetoConfig(**SIZES)), 32**-0.5),
        (lambda: MHMoE(MHMoEConfig(**SIZES, num_experts=2)), 0.02),
    ],
    ids=["retnet", "magneto", "mh_moe"],
)
def test_embeddings_start_with_the_papers_spread(build, std) -> None:
    model = build()
    assert float(model.embedding.weight.std()) == pytest.approx(std, rel=0.02)
    if isinstance(model.head, nn.Linear) and not isinstance(model, MHMoE):
        assert float(model.head.weight.std()) == pytest.approx(std, rel=0.02)


def test_latents_are_measured() -> None:
    model = LatentLM(LatentLMConfig(vocab_size=20, latent_size=3, **NARROW, head_layers=2))
    latents = torch.randn(4, 100) * 3 + 5
    model.measure_latents(latents)
    assert float(model.latent_scale) == pytest.approx(1 / float(latents.std()))
    normal = model.normalize(latents)
    assert (float(normal.mean()), float(normal.std())) == pytest.approx((0, 1), abs=1e-5)
    torch.testing.assert_close(model.denormalize(normal), latents)


def test_longnet_starts_as_the_paper_says() -> None:
    config = LongNetConfig(**SIZES, max_positions=64, segment_lengths=(4, 8), dilations=(1, 2))
    model = LongNet(config)
    initialize(model)
    assert float(model.embedding.weight.std()) == pytest.approx(32**-0.5, rel=0.02)
    attention = model.decoder.layers[0].attention
    xavier, factor = 32**-0.5, math.log(2 * 2) ** 0.5  # of a square map; of two layers
    for linear, gain in (
        (attention.query, 2**-0.5),
        (attention.key, 2**-0.5),
        (attention.value, 2**-0.5 * factor),
        (attention.output, factor),
    ):
        assert float(linear.weight.std()) == pytest.approx(gain * xavier, rel=0.1)


@pytest.mark.parametrize("head_offset", ["block", "mod"])
def test_longnet_s_heads_start_where_the_configuration_says(head_offset) -> None:
    config = LongNetConfig(
        **SIZES, max_positions=64, segment_lengths=(4, 8), dilations=(1, 2), head_offset=head_offset
    )
    assert {layer.attention.pattern.head_offset for layer in LongNet(config).decoder.layers} == {head_offset}


def test_latent_lm_turns_by_the_configuration_s_theta() -> None:
    models = [
        LatentLM(
            LatentLMConfig(vocab_size=20, latent_size=3, **NARROW, head_layers=2, rope_theta=theta)
        ).eval()
        for theta in (10_000.0, 100.0)
    ]
    models[1].load_state_dict(models[0].state_dict())
    tokens_BT = torch.randint(5, 20, (1, 12))
    one, other = (model.hidden(tokens_BT, torch.ones_like(tokens_BT, dtype=torch.bool)) for model in models)
    torch.testing.assert_close(one[:, 0], other[:, 0])
    assert not torch.allclose(one[:, -1], other[:, -1], atol=1e-3)


def test_a_read_prompt_is_the_whole_network_s_last_word() -> None:
    model = LatentLM(LatentLMConfig(vocab_size=20, latent_size=3, **NARROW, head_layers=2)).eval()
    tokens_BT = torch.randint(5, 20, (2, 7))
    with torch.no_grad():
        read_BV = model.prefill(tokens_BT, model.new_cache(2, 8))
        whole_BTE = model.hidden(tokens_BT, torch.ones_like(tokens_BT, dtype=torch.bool))
        torch.testing.assert_close(read_BV, model.logits(whole_BTE[:, -1]).float(), atol=1e-5, rtol=1e-4)


def test_a_quarter_of_a_fair_share_counts_as_active() -> None:
    loads = torch.tensor([[1 / 16, 15 / 16 - 2e-3, 1e-3, 1e-3]])
    assert activation_ratio(loads) == 0.5
