"""What `bench` measures: one case a kernel and shape, with the best that PyTorch offers beside it.

Bytes and operations are the least that the operation needs: arguments read once, results written once; a backward pass
counts as such where there is one. Weights that a decoding step reads are held in several copies and taken in turn,
because in a model they do not stay in the cache from one step to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from multiway_blocks.block_linear import BlockLinear
from multiway_blocks.dilated import dilated_attend
from multiway_blocks.kernels.adaln_modulate import adaln_modulate
from multiway_blocks.kernels.decode_attention import decode_attention
from multiway_blocks.kernels.gated_retention import gated_retention
from multiway_blocks.kernels.gated_retention.reference import parallel, recurrent
from multiway_blocks.kernels.int8_encoder import int8_encoder
from multiway_blocks.kernels.int8_encoder import layout as encoder_layout
from multiway_blocks.kernels.int8_linear import int8_linear, layout
from multiway_blocks.kernels.linear_cross_entropy import linear_cross_entropy, linear_distillation
from multiway_blocks.kernels.moe_feedforward import moe_feedforward
from multiway_blocks.kernels.relation_distillation import relation_distillation
from multiway_blocks.kernels.rms_norm import rms_norm
from multiway_blocks.kernels.rms_norm_quantize import reference as quantize_reference
from multiway_blocks.kernels.rms_norm_quantize import rms_norm_quantize
from multiway_blocks.kernels.skinny_gemm import skinny_gemm
from multiway_blocks.kernels.ternary_linear import layout as ternary_layout
from multiway_blocks.kernels.ternary_linear import ternary_linear

Call = Callable[[], object]
EPS = 1e-6
_BYTES_IN_TURN = 64_000_000


@dataclass(frozen=True)
class Case:
    """Candidates that compute the same, each in one or more copies that are called in turn."""

    shape: str
    dtype: str
    bytes: int
    operations: int
    kernel: list[Call]
    other_name: str
    other: list[Call]
    """The best that PyTorch offers."""
    peer_name: str | None = None
    peer: list[Call] = field(default_factory=list)
    arithmetic: torch.dtype = torch.float32
    """Whose peak the operations are compared with."""


def rms_norm_cases(quick: bool) -> Iterator[Case]:
    """A training step of the bundled reader, with its residual."""
    rows, width = (640 if quick else 6400), 256
    x, residual = torch.randn(2, rows, width).bfloat16().unbind()
    weight = torch.ones(width)

    def other() -> object:
        total = x + residual
        return functional.rms_norm(total, (width,), weight.bfloat16(), EPS), total

    yield Case(
        f"{rows} x {width}, residual", "bfloat16", 4 * x.numel() * 2, 5 * x.numel(),
        [lambda: rms_norm(x, weight, EPS, residual)], "add, F.rms_norm", [other],
    )  # fmt: skip


def rms_norm_quantize_cases(quick: bool) -> Iterator[Case]:
    """BitNet 2B4T, before the last map of a feed-forward network."""
    rows, width = (16 if quick else 128), 6912
    x, weight = torch.randn(rows, width).bfloat16(), torch.ones(width)
    yield Case(
        f"{rows} x {width}", "bfloat16 -> int8", 3 * x.numel() + 4 * rows, 8 * x.numel(),
        [lambda: rms_norm_quantize(x, weight, EPS)], "definition, eager",
        [lambda: quantize_reference.forward(x, weight, EPS)],
    )  # fmt: skip


def skinny_gemm_cases(quick: bool) -> Iterator[Case]:
    """One token, a large matrix."""
    inputs, outputs = 2048, (1024 if quick else 8192)

    def case(dtype: torch.dtype) -> Case:
        x, size = torch.randn(1, inputs, dtype=dtype), inputs * outputs * dtype.itemsize
        weights = [torch.randn(outputs, inputs, dtype=dtype) for _ in range(_copies(size, quick))]
        return Case(
            f"1 x {inputs} -> {outputs}", _name(dtype), size, 2 * inputs * outputs,
            _each(lambda w: skinny_gemm(x, w), weights), "F.linear",
            _each(lambda w: functional.linear(x, w), weights), arithmetic=dtype,
        )  # fmt: skip

    yield from map(case, (torch.bfloat16, torch.float32))


def decode_attention_cases(quick: bool) -> Iterator[Case]:
    """A query behind a cache, four query heads a key head."""
    heads, keys, length, width = 16, 4, (256 if quick else 2048), 64
    q = torch.randn(1, heads, width)
    copies = _copies(2 * keys * length * width * 4, quick)
    caches = [torch.randn(2, 1, keys, length, width) for _ in range(copies)]

    def other(cache: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q[:, :, None], cache[0], cache[1], enable_gqa=True)

    yield Case(
        f"{heads} heads of {width}, {keys} key heads, {length} keys", "float32", caches[0].numel() * 4,
        4 * heads * length * width, _each(lambda c: decode_attention(q, c[0], c[1]), caches),
        "scaled_dot_product_attention", _each(other, caches),
    )  # fmt: skip


def ternary_linear_cases(quick: bool) -> Iterator[Case]:
    """BitNet 2B4T's gate and up, decoding and reading a prompt."""
    inputs, outputs = 2560, (1024 if quick else 13_824)
    weights = inputs * outputs

    def case(rows: int) -> Case:
        x = torch.randint(-127, 128, (rows, inputs), dtype=torch.int8)
        step, scale, wide = torch.rand(rows, 1), torch.rand(outputs), x.bfloat16()
        count = _copies(weights, quick)
        plain = [torch.randint(-1, 2, (outputs, inputs), dtype=torch.int8) for _ in range(count)]
        packed = [ternary_layout.pack(plain[0]) for _ in range(_copies(weights // 4, quick))]
        return Case(
            f"{rows} x {inputs} -> {outputs}", "2 bits x int8", weights // 4 + rows * (inputs + 2 * outputs),
            2 * rows * weights, _each(lambda w: ternary_linear(x, step, w, scale, torch.bfloat16), packed),
            "_int_mm", _each(lambda w: torch._int_mm(x, w.t()), plain), "F.linear, bfloat16",
            _each(lambda w: functional.linear(wide, w), [w.bfloat16() for w in plain]), torch.int8,
        )  # fmt: skip

    yield from map(case, (1,) if quick else (1, 128))


def int8_linear_cases(quick: bool) -> Iterator[Case]:
    """BitNet 2B4T's output matrix."""
    inputs, outputs = 2560, (4096 if quick else 128_256)
    x = torch.randn(1, inputs).bfloat16()
    weight = torch.randn(outputs, inputs, dtype=torch.bfloat16)
    codes, scale = torch.cat([layout.quantize(part)[0] for part in weight.split(8192)]), torch.rand(outputs)
    signed = (codes ^ 128).view(torch.int8)
    half = scale.bfloat16()
    yield Case(
        f"1 x {inputs} -> {outputs}", "int8", codes.numel(), 4 * codes.numel(),
        [lambda: int8_linear(x, codes, scale)], "_weight_int8pack_mm",
        [lambda: torch.ops.aten._weight_int8pack_mm(x, signed, half)], "F.linear, bfloat16",
        [lambda: functional.linear(x, weight)], torch.int8,
    )  # fmt: skip


def block_linear_cases(quick: bool) -> Iterator[Case]:
    """A LLaMA layer's gate of 4096 numbers in Q4_1, and SmolLM2's output matrix in Q8_0, decoding."""

    def case(inputs: int, outputs: int, packed: bool) -> Case:
        x, weight = torch.randn(1, inputs), torch.randn(outputs, inputs)
        codes = torch.randint(0, 256, (outputs, inputs // 2 if packed else inputs), dtype=torch.uint8)
        scale, offset = torch.rand(2, outputs, inputs // 32).half().float()
        linear = BlockLinear(codes, scale, offset)
        size = codes.numel() + 4 * scale.numel()
        wide = weight.bfloat16()
        return Case(
            f"1 x {inputs} -> {outputs}", "Q4_1" if packed else "Q8_0", size, 2 * weight.numel(),
            [lambda: linear(x)], "F.linear, float32",
            [lambda: functional.linear(x, weight)], "F.linear, bfloat16",
            [lambda: functional.linear(x.bfloat16(), wide)], torch.int8,
        )  # fmt: skip

    yield from (case(4096, 1024 if quick else 11_008, True), case(576, 4096 if quick else 49_152, False))


def int8_encoder_cases(quick: bool) -> Iterator[Case]:
    """A layer of MiniLM over texts of 20 and of 128 tokens."""
    width, inner, vocabulary = 384, 1536, 1000

    def linear(inputs: int, outputs: int) -> encoder_layout.Linear:
        codes, scale = encoder_layout.quantize(torch.randn(outputs, inputs) / inputs**0.5)
        return encoder_layout.Linear(codes, scale, torch.zeros(outputs))

    norm = torch.stack([torch.ones(width), torch.zeros(width)])
    layer = encoder_layout.Layer(
        linear(width, 3 * width), linear(width, width), norm, linear(width, inner), linear(inner, width), norm
    )
    tokens = encoder_layout.quantize(torch.randn(vocabulary, width))
    weights = encoder_layout.pack(encoder_layout.Embedding(*tokens, torch.zeros(512, width), norm), [layer])
    block = torch.nn.TransformerEncoderLayer(width, 12, inner, activation="gelu", batch_first=True).eval()

    @torch.inference_mode()
    def other(x: Tensor) -> Tensor:
        return block(x).flatten(0, 1)

    for length in (20, 128):
        texts = (640 if quick else 5120) // length
        ids = torch.randint(0, vocabulary, (texts * length,))
        starts = torch.arange(texts + 1) * length
        x = torch.randn(texts, length, width)
        products = 4 * width * width + 2 * width * inner
        yield Case(
            f"{texts} texts of {length}, {width}", "int8", products + x.numel() * 4,
            2 * len(ids) * (products + 2 * length * width),
            [lambda ids=ids, starts=starts: int8_encoder(ids, starts, weights, num_heads=12, eps=1e-12)],  # type: ignore[misc]
            "nn.TransformerEncoderLayer", [lambda x=x: other(x)], arithmetic=torch.int8,  # type: ignore[misc]
        )  # fmt: skip


def adaln_modulate_cases(quick: bool) -> Iterator[Case]:
    """The two rows of a diffusion step with guidance, and a training step of the head."""
    width = 1536

    def case(rows: int) -> Case:
        x, residual, shift, scale, gate = torch.randn(5, rows, width).bfloat16().unbind()
        weight = torch.ones(width).bfloat16()

        def other() -> object:
            total = residual + gate * x
            return functional.rms_norm(total, (width,), weight, EPS) * (1 + scale) + shift, total

        return Case(
            f"{rows} x {width}, gated residual", "bfloat16", 7 * x.numel() * 2, 9 * x.numel(),
            [lambda: adaln_modulate(x, shift, scale, weight, EPS, gate, residual)],
            "F.rms_norm and elementwise", [other],
        )  # fmt: skip

    yield from map(case, (2,) if quick else (2, 2048))


def linear_cross_entropy_cases(quick: bool) -> Iterator[Case]:
    """A step of a small language model, alone and beside a teacher: forward and backward."""
    rows, width, vocabulary = (64, 64, 1000) if quick else (256, 576, 16_384)
    x, weight = torch.randn(rows, width), torch.randn(vocabulary, width) * 0.05
    target = torch.randint(0, vocabulary, (rows,))
    products, floats = 2 * rows * width * vocabulary, 4 * (rows * width + vocabulary * width)
    yield Case(
        f"{rows} x {width} -> {vocabulary}, forward and backward", "float32", 2 * floats, 3 * products,
        [_with_gradients(lambda x, w: linear_cross_entropy(x, w, target), [x, weight])],
        "F.cross_entropy(F.linear)",
        [_with_gradients(lambda x, w: functional.cross_entropy(functional.linear(x, w), target), [x, weight])],
    )  # fmt: skip
    taught_x, taught_weight = torch.randn(rows, 2 * width), torch.randn(vocabulary, 2 * width) * 0.05

    def kernel(x: Tensor, w: Tensor) -> Tensor:
        return linear_distillation(x, w, target, taught_x, taught_weight, temperature=5.0).total

    def other(x: Tensor, w: Tensor) -> Tensor:
        logits, taught = functional.linear(x, w), functional.linear(taught_x, taught_weight)
        divergence = functional.kl_div(
            (logits / 5).log_softmax(-1), (taught / 5).log_softmax(-1), reduction="batchmean", log_target=True
        )
        return functional.cross_entropy(logits, target) + 25 * divergence

    yield Case(
        f"{rows} x {width} -> {vocabulary}, teacher {2 * width}, forward and backward", "float32", 4 * floats,
        5 * products, [_with_gradients(kernel, [x, weight])], "F.cross_entropy + F.kl_div",
        [_with_gradients(other, [x, weight])],
    )  # fmt: skip


def relation_distillation_cases(quick: bool) -> Iterator[Case]:
    """BitDistill's setting: 32 relation heads over one sequence, forward and backward."""
    length, width, splits = (64, 64, 4) if quick else (512, 1024, 32)
    student, teacher = torch.randn(2, 1, 8, length, width // 8).unbind()

    def other(x: Tensor) -> Tensor:
        logs = []
        for states in (x, teacher):
            rows = states.transpose(1, 2).flatten(2).unflatten(2, (splits, -1)).transpose(1, 2)
            rows = functional.normalize(rows, dim=-1)
            logs.append((rows @ rows.transpose(-1, -2)).log_softmax(-1).flatten(0, 2))
        return functional.kl_div(logs[0], logs[1], reduction="batchmean", log_target=True)

    yield Case(
        f"{splits} heads of {width // splits}, {length} tokens, forward and backward", "float32",
        5 * length * width * 4, 2 * 5 * length * length * width,
        [_with_gradients(lambda x: relation_distillation(x, teacher, splits), [student])],
        "log_softmax and F.kl_div", [_with_gradients(other, [student])],
    )  # fmt: skip


def gated_retention_cases(quick: bool) -> Iterator[Case]:
    """A prompt, and one token."""
    heads, length, width = (2, 128, 64) if quick else (8, 1024, 128)
    q, k, v = torch.randn(3, 1, heads, length, width).unbind()
    log_decay = functional.logsigmoid(torch.randn(1, heads, length)) / 16
    chunk = 128
    yield Case(
        f"{heads} heads of {width}, {length} tokens", "float32", 4 * 4 * q.numel(),
        heads * length * (2 * chunk * 2 * width + 4 * width * width),
        [lambda: gated_retention(q, k, v, log_decay, chunk=chunk)], "parallel form (as attention)",
        [lambda: parallel(q, k, v, log_decay)],
    )  # fmt: skip
    states = [torch.randn(1, heads, width, width) for _ in range(_copies(heads * width * width * 4, quick))]
    one = q[:, :, :1], k[:, :, :1], v[:, :, :1], log_decay[:, :, :1]

    def kernel(state: Tensor) -> object:
        return gated_retention(one[0], one[1], one[2], one[3], state)

    def other(state: Tensor) -> object:
        return recurrent(q[:, :, 0], k[:, :, 0], v[:, :, 0], log_decay[:, :, 0], state)

    yield Case(
        f"{heads} heads of {width}, one token", "float32", 8 * states[0].numel(), 5 * states[0].numel(),
        _each(kernel, states), "recurrent form, eager", _each(other, states),
    )  # fmt: skip


def moe_feedforward_cases(quick: bool) -> Iterator[Case]:
    """Sub-tokens of MH-MoE, uneven counts."""
    experts, width, inner, rows = (4, 32, 64, 200) if quick else (40, 384, 768, 2048)
    chosen = torch.randn(rows).abs().mul(experts / 3).long().clamp(max=experts - 1)
    counts = torch.bincount(chosen, minlength=experts)

    def case(dtype: torch.dtype) -> Case:
        x = torch.randn(rows, width, dtype=dtype)
        up, down = (
            torch.randn(experts, *shape, dtype=dtype) * 0.05 for shape in ((inner, width), (width, inner))
        )
        ends = counts.cumsum(0).int()

        def other() -> object:
            h = functional.gelu(functional.grouped_mm(x, up.transpose(1, 2), offs=ends))
            return functional.grouped_mm(h, down.transpose(1, 2), offs=ends)

        return Case(
            f"{rows} rows of {width}, {experts} experts of {inner}", _name(dtype),
            (2 * x.numel() + up.numel() + down.numel()) * dtype.itemsize, 4 * rows * width * inner,
            [lambda: moe_feedforward(x, counts, up, down, activation="gelu")], "F.grouped_mm", [other],
            arithmetic=dtype,
        )  # fmt: skip

    yield from map(case, (torch.float32, torch.bfloat16))


def dilated_attention_cases(quick: bool) -> Iterator[Case]:
    """LongNet's branches, scaled to the length."""
    heads, length, width = (4, 256, 16) if quick else (4, 4096, 64)
    branches = [(length // 8, 1), (length // 4, 2), (length // 2, 4)]
    q, k, v = torch.randn(3, 1, heads, length, width).unbind()
    work = sum(w / r**2 for w, r in branches)
    yield Case(
        f"{heads} heads of {width}, {length} tokens, {len(branches)} branches, causal", "float32", 4 * 4 * q.numel(),
        int(2 * length * work * heads * width), [lambda: dilated_attend(q, k, v, branches, causal=True)],
        "scaled_dot_product_attention, dense",
        [lambda: functional.scaled_dot_product_attention(q, k, v, is_causal=True)],
    )  # fmt: skip


CASES: dict[str, Callable[[bool], Iterator[Case]]] = {
    name.removesuffix("_cases"): function for name, function in globals().items() if name.endswith("_cases")
}


def _copies(size: int, quick: bool) -> int:
    return 2 if quick else max(1, -(-_BYTES_IN_TURN // size))


def _each(function: Callable[[Tensor], object], tensors: Iterable[Tensor]) -> list[Call]:
    return [partial(function, tensor) for tensor in tensors]


def _with_gradients(function: Callable[..., Tensor], leaves: list[Tensor]) -> Call:
    """A forward and a backward pass."""
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]

    def run() -> object:
        return torch.autograd.grad(function(*leaves), leaves)

    return run


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
