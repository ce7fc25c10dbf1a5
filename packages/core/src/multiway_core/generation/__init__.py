"""One decode loop for every decoder here: greedy, sampling, beam search, constraints, streaming."""

from multiway_core.generation.beam import BeamRow, beam_search
from multiway_core.generation.cache import DecodeStep, StaticKVCache
from multiway_core.generation.config import GenerationConfig
from multiway_core.generation.constraints import FiniteStateConstraint, StopOnRepetition
from multiway_core.generation.graph import FixedSlots, GraphedDecode
from multiway_core.generation.loop import generate, stream
from multiway_core.generation.output import GenerationOutput, StepEvent, StopReason
from multiway_core.generation.processors import (
    LogitsProcessor,
    MinLength,
    NoRepeatNGram,
    StatefulConstraint,
    Temperature,
    TopK,
    TopP,
)
from multiway_core.generation.speculative import Draft, LookupDraft, VerifyStep, generate_with_drafts

__all__ = [
    "BeamRow",
    "DecodeStep",
    "Draft",
    "FiniteStateConstraint",
    "FixedSlots",
    "GenerationConfig",
    "GenerationOutput",
    "GraphedDecode",
    "LogitsProcessor",
    "LookupDraft",
    "MinLength",
    "NoRepeatNGram",
    "StatefulConstraint",
    "StaticKVCache",
    "StepEvent",
    "StopOnRepetition",
    "StopReason",
    "Temperature",
    "TopK",
    "TopP",
    "VerifyStep",
    "beam_search",
    "generate",
    "generate_with_drafts",
    "stream",
]
