"""One decode loop for every decoder here."""

from multiway_core.generation.cache import DecodeStep, StaticKVCache

__all__ = ["DecodeStep", "StaticKVCache"]
