"""What a configuration says arrives in every module; starts have the spread that the papers ask for.

Found by planted mistakes (`benchmarks/mutations.py`): tests of outputs at the default values let them pass.
"""

from __future__ import annotations

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


def test_a_quarter_of_a_fair_share_counts_as_active() -> None:
    loads = torch.tensor([[1 / 16, 15 / 16 - 2e-3, 1e-3, 1e-3]])
    assert activation_ratio(loads) == 0.5
