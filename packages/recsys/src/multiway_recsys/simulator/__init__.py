"""A news portal with known ground truth: stories that drift through topics, and readers who follow them.

`simulate(PortalConfig(), generated_texts())` gives a :class:`Portal`; `write_portal` puts it on disk in MIND's format
with the truth beside it. Whatever is measured on it is measured on a simulation, and must be called so.
"""

from multiway_recsys.simulator.config import PortalConfig
from multiway_recsys.simulator.portal import Portal, Truth, simulate
from multiway_recsys.simulator.texts import TextBank, generated_texts, real_headlines
from multiway_recsys.simulator.write import write_portal

__all__ = [
    "Portal",
    "PortalConfig",
    "TextBank",
    "Truth",
    "generated_texts",
    "real_headlines",
    "simulate",
    "write_portal",
]
