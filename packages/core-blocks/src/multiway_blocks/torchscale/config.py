"""TorchScale's configurations: keyword flags, the rules that follow from them, and what cannot be built.

A flag may be given as text, as command lines and JSON files have it (``"True"``, ``"[64, 128]"``); it is read as a
Python literal, never evaluated. Flags that say nothing here (``fsdp``, ``ddp_rank``, and those that RetNet shares with
the other decoders without using them) are accepted so that existing callers run.
"""

from __future__ import annotations

import ast
import difflib
import typing
from collections.abc import Iterator
from typing import Any, ClassVar

from multiway_core.errors import InputError

ACTIVATIONS = ("relu", "gelu", "swish")
SECOND_EXPERT_POLICIES = ("sampling", "random", "all")


class Config:
    """Flags with defaults, as class attributes; an instance has those that were given, and derived ones, of its own.

    Raises InputError for unknown flags, values of a wrong type, and sizes that do not go together.
    """

    _given: dict[str, Any]
    _halves: ClassVar[tuple[str, ...]] = ()
    """Prefixes of the flags of each half: "encoder", "decoder"."""
    _heads: ClassVar[str] = "attention_heads"

    activation_fn: str = "gelu"
    dropout: float = 0.0
    drop_path_rate: float = 0.0
    activation_dropout: float = 0.0
    no_scale_embedding: bool = True
    """False multiplies embeddings by the root of their width."""
    layernorm_embedding: bool = False
    moe_freq: int = 0
    """Every moe_freq-th layer has experts; 0: none has."""
    moe_top1_expert: bool = False
    moe_expert_count: int = 0
    moe_gating_use_fp32: bool = True
    """Gates are computed in float32 either way."""
    moe_eval_capacity_token_fraction: float = 0.25
    """Share of all tokens that an expert takes outside training; -1: as in training."""
    moe_second_expert_policy: str = "random"
    moe_normalize_gate_prob_before_dropping: bool = False
    use_xmoe: bool = False
    rel_pos_buckets: int = 0
    max_rel_pos: int = 0
    deepnorm: bool = False
    subln: bool = True
    """On unless ``deepnorm`` is."""
    multiway: bool = False
    no_output_layer: bool = False
    vocab_size: int = -1
    checkpoint_activations: bool = False
    fsdp: bool = False
    ddp_rank: int = 0
    xpos_rel_pos: bool = False
    xpos_scale_base: int = 512

    def __init__(self, **flags: Any) -> None:
        self._given = {}
        self._set(flags)

    def override(self, args: object) -> None:
        """Take every flag that ``args`` has as an attribute that is not None, and derive the others anew."""
        values = {name: getattr(args, name, None) for name in flag_types(type(self))}
        self._set({name: value for name, value in values.items() if value is not None})

    def _set(self, flags: dict[str, Any]) -> None:
        known = flag_types(type(self))
        for name, value in flags.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise InputError(f"{type(self).__name__} has no flag {name}{hint}")
            self._given[name] = _read(type(self).__name__, name, value, known[name])
        for name in known:
            value = self._given.get(name, getattr(type(self), name))
            setattr(self, name, list(value) if isinstance(value, list) else value)
        self._derive()
        check(self, self._halves, heads=self._heads)

    def _derive(self) -> None:
        if self.deepnorm and not self._given.get("subln", False):
            self.subln = False
        for half in self._halves:
            if self.deepnorm or self.subln:
                setattr(self, f"{half}_normalize_before", self.subln)
        if self.use_xmoe:
            self.moe_normalize_gate_prob_before_dropping = True
            self.moe_second_expert_policy = "random"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self._given.items())})"


class _Attention(Config):
    attention_dropout: float = 0.0
    bert_init: bool = False
    layernorm_eps: float = 1e-5


class _EncoderHalf(_Attention):
    encoder_embed_dim: int = 768
    encoder_attention_heads: int = 12
    encoder_ffn_embed_dim: int = 3072
    encoder_layers: int = 12
    encoder_normalize_before: bool = True
    normalize_output: bool = True
    max_source_positions: int = 1024


class EncoderConfig(_EncoderHalf):
    """Of :class:`Encoder` and :class:`BEiT3`."""

    _halves: ClassVar[tuple[str, ...]] = ("encoder",)

    share_encoder_input_output_embed: bool = False
    img_size: int = 224
    patch_size: int = 16
    in_chans: int = 3


class DecoderConfig(_Attention):
    """Of :class:`Decoder`."""

    _halves: ClassVar[tuple[str, ...]] = ("decoder",)

    decoder_embed_dim: int = 768
    decoder_attention_heads: int = 12
    decoder_ffn_embed_dim: int = 3072
    decoder_layers: int = 12
    decoder_normalize_before: bool = True
    share_decoder_input_output_embed: bool = False
    max_target_positions: int = 1024


class EncoderDecoderConfig(_EncoderHalf, DecoderConfig):
    """Of :class:`EncoderDecoder`."""

    _halves: ClassVar[tuple[str, ...]] = ("encoder", "decoder")

    share_all_embeddings: bool = False


class RetNetConfig(Config):
    """Of :class:`RetNetDecoder`."""

    _halves: ClassVar[tuple[str, ...]] = ("decoder",)
    _heads = "retention_heads"

    decoder_embed_dim: int = 768
    decoder_value_embed_dim: int = 1280
    decoder_retention_heads: int = 3
    decoder_ffn_embed_dim: int = 1280
    decoder_layers: int = 12
    decoder_normalize_before: bool = True
    share_decoder_input_output_embed: bool = False
    max_target_positions: int = 1024
    layernorm_eps: float = 1e-6
    chunkwise_recurrent: bool = False
    recurrent_chunk_size: int = 512
    retnet_normalizer: str = "abs_sum"
    """How the parallel form divides rows: by |sum| (version 0.3.0) or, "sum_abs", by the sum of |.| (later)."""


def flag_types(cls: type) -> dict[str, type]:
    """Names and types of a configuration's flags."""
    return {name: kind for name, kind in typing.get_type_hints(cls).items() if not name.startswith("_")}


def _read(config: str, name: str, value: Any, kind: type) -> Any:
    if isinstance(value, str) and kind is not str:
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise InputError(f"{config}: {name} is {value[:40]!r}, expected {kind.__name__}") from None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is bool and value in (0, 1):  # argparse and JSON of other programs
        value = bool(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"{config}: {name} is {value!r}, expected {kind.__name__}")
    return value


def check(args: Any, halves: tuple[str, ...], *, heads: str = "attention_heads") -> None:
    """Raise InputError for what cannot be built; models ask as well, since flags may have been set by hand."""
    for holds, message in _rules(args, halves, heads):
        if not holds:
            raise InputError(message)


def _rules(args: Any, halves: tuple[str, ...], heads: str) -> Iterator[tuple[bool, str]]:
    """What must hold and what to say where it does not; each rule relies on those before it."""
    has_retention = heads == "retention_heads"
    for half in halves:
        names = [f"{half}_{part}" for part in ("embed_dim", heads, "ffn_embed_dim", "layers")]
        for name in names:
            yield getattr(args, name) >= 1, f"{name} must be at least 1, not {getattr(args, name)}"
        width, count = getattr(args, names[0]), getattr(args, names[1])
        yield width % count == 0, f"{names[1]} {count} does not divide {names[0]} {width}"
        odd = f"{names[0]} {width} / {names[1]} {count} = {width // count}"
        even = not (has_retention or args.xpos_rel_pos) or width // count % 2 == 0
        yield even, f"rotary positions need heads of even width, not {odd}"
    if len(halves) == 2:
        widths = args.encoder_embed_dim, args.decoder_embed_dim
        both = "encoder_embed_dim {} and decoder_embed_dim {}".format(*widths)
        yield widths[0] == widths[1], f"cross-attention needs one width, not {both}"
    yield not (args.deepnorm and args.subln), "deepnorm and subln exclude each other: set one of them"
    choices: dict[str, tuple[str, ...]] = {"activation_fn": ACTIVATIONS}
    if has_retention:
        choices["retnet_normalizer"] = ("abs_sum", "sum_abs")
    if args.moe_freq > 0:
        choices["moe_second_expert_policy"] = SECOND_EXPERT_POLICIES
    for name, known in choices.items():
        yield getattr(args, name) in known, f"{name} must be one of {known}, not {getattr(args, name)!r}"
    for name in ("dropout", "drop_path_rate", "activation_dropout", "attention_dropout"):
        rate = getattr(args, name, 0.0)
        yield 0.0 <= rate < 1.0, f"{name} must be from 0 to below 1, not {rate}"
    yield args.layernorm_eps > 0, f"layernorm_eps must be above 0, not {args.layernorm_eps}"
    yield args.xpos_scale_base >= 1, f"xpos_scale_base must be at least 1, not {args.xpos_scale_base}"
    buckets, far = args.rel_pos_buckets, args.max_rel_pos
    if has_retention:
        chunk = args.recurrent_chunk_size
        yield chunk >= 1, f"recurrent_chunk_size must be at least 1, not {chunk}"
        yield not args.multiway, "RetNetDecoder has no multiway form"
    elif buckets > 0 and far > 0:
        is_even = buckets % 2 == 0 and buckets >= 4
        yield is_even, f"rel_pos_buckets must be even and at least 4, not {buckets}"
        yield far > buckets // 4, f"max_rel_pos must be above rel_pos_buckets / 4 = {buckets // 4}, not {far}"
    yield args.moe_freq >= 0, f"moe_freq must be at least 0, not {args.moe_freq}"
    yield not args.use_xmoe or args.moe_freq > 0, "use_xmoe needs a moe_freq of at least 1"
    if args.moe_freq > 0:
        count, least = args.moe_expert_count, 1 if args.moe_top1_expert else 2
        yield count >= least, f"moe_expert_count must be at least {least}, not {count}"
        share = args.moe_eval_capacity_token_fraction
        bounds = "moe_eval_capacity_token_fraction must be above 0 and at most 1, or -1"
        yield share == -1 or 0 < share <= 1, f"a capacity of 0 leaves experts no token: {bounds}, not {share}"
        is_one = not (args.multiway and "encoder" in halves)
        yield is_one, "an encoder is either multiway or has experts (moe_freq), not both"
