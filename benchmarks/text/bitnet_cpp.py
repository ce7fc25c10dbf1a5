"""Decoding with BitNet b1.58 at the shapes of 2B4T: ours and bitnet.cpp's, in turn, on the same random weights' sizes.

    python -m benchmarks.text.bitnet_cpp --llama-bench BIN --work DIR [--threads 1 2] [--rounds 3] [--output
    benchmarks/results]

BIN is `llama-bench` of a build of github.com/microsoft/BitNet, DIR a folder for the GGUF files that are made for it
(2.3 GB): I2_S layers and the embedding, which is also the output matrix, in Q6_K (which bitnet.cpp recommends) or
float16; and one with a single layer, to tell the output matrix's share. Ours runs with the output matrix in int8 or
bfloat16.

Ours are two processes that stay; `llama-bench` is started for few and for more tokens, and the difference counts, so
that loading does not. Times with one thread are CPU seconds in user mode of whole processes, because other work may
share the machine; with more threads they are wall time, because waiting threads spin, and the machine should be idle.
Peak memory is the largest resident set, files mapped into memory included. Ours is given with Python and PyTorch, and
what these take before there is any model beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from multiway_blocks.bitlinear import TernaryLinear
from multiway_blocks.int8 import Int8Linear
from multiway_blocks.kernels.int8_linear import layout
from multiway_core import checkpoint
from multiway_core.evaluation.machine import describe_machine
from multiway_text import gguf
from multiway_text.decoders.bitnet.config import BITNET_2B_4T
from multiway_text.decoders.bitnet.model import BitNet
from torch import Tensor, nn

from benchmarks import harness

Q6_K, Q6_K_BLOCK = 14, (256, 210)  # GGML's number, weights and bytes of a block
FILES = {"Q6_K": ("q6_k.gguf", 30), "float16": ("f16.gguf", 30), "Q6_K, one layer": ("q6_k-1.gguf", 1)}
FEW, TOKENS = 2, 24  # of `llama-bench`: what the second run takes longer than the first is what counts
OWN_TOKENS = 16


def random_codes(count: int, block: int = 1 << 22) -> Tensor:
    """Bytes of four ternary codes 0 to 2 each; a random block, repeated."""
    parts = [torch.randint(0, 3, (block,), dtype=torch.uint8) for _ in range(4)]
    one = parts[0] | parts[1] << 2 | parts[2] << 4 | parts[3] << 6
    return one.repeat(-(-count // block))[:count].clone()


def write_file(path: Path, embedding: str, num_layers: int) -> None:
    """A GGUF file of the architecture that every release of bitnet.cpp knows."""
    c = dataclasses.replace(BITNET_2B_4T, num_layers=num_layers)
    keys = c.num_kv_heads * c.head_dim

    def ternary(outputs: int, inputs: int) -> gguf.GGUFTensor:
        tail = torch.zeros(32, dtype=torch.uint8)
        tail[:4] = torch.tensor([0.02]).view(torch.uint8)
        data = torch.cat([random_codes(outputs * inputs // 4), tail])
        return gguf.GGUFTensor(gguf.I2_S, (outputs, inputs), data)

    shape = (c.vocab_size, c.hidden_size)
    if embedding == "float16":
        tensors = {"token_embd.weight": gguf.floating((torch.randn(shape) * 0.02).half())}
    else:
        weights, size = Q6_K_BLOCK
        blocks = torch.randint(0, 256, (shape[0] * shape[1] // weights, size), dtype=torch.uint8)
        blocks[:, -2:] = torch.tensor([2e-5]).half().view(torch.uint8)
        tensors = {"token_embd.weight": gguf.GGUFTensor(Q6_K, shape, blocks.flatten())}
    tensors["output_norm.weight"] = gguf.floating(torch.ones(c.hidden_size))
    for layer in range(num_layers):
        for name, size in (
            ("attn_norm", c.hidden_size),
            ("attn_sub_norm", c.hidden_size),
            ("ffn_norm", c.hidden_size),
            ("ffn_sub_norm", c.inner_size),
        ):
            tensors[f"blk.{layer}.{name}.weight"] = gguf.floating(torch.ones(size))
        for name, outputs, inputs in (
            ("attn_q", c.hidden_size, c.hidden_size),
            ("attn_k", keys, c.hidden_size),
            ("attn_v", keys, c.hidden_size),
            ("attn_output", c.hidden_size, c.hidden_size),
            ("ffn_gate", c.inner_size, c.hidden_size),
            ("ffn_up", c.inner_size, c.hidden_size),
            ("ffn_down", c.hidden_size, c.inner_size),
        ):
            tensors[f"blk.{layer}.{name}.weight"] = ternary(outputs, inputs)
    metadata = {
        "general.architecture": "bitnet",
        "bitnet.vocab_size": c.vocab_size,
        "bitnet.embedding_length": c.hidden_size,
        "bitnet.block_count": num_layers,
        "bitnet.attention.head_count": c.num_heads,
        "bitnet.attention.head_count_kv": c.num_kv_heads,
        "bitnet.feed_forward_length": c.inner_size,
        "bitnet.context_length": c.max_positions,
        "bitnet.attention.layer_norm_rms_epsilon": c.norm_eps,
        "bitnet.rope.freq_base": c.rope_theta,
        "bitnet.rope.dimension_count": c.head_dim,
        "tokenizer.ggml.model": "no_vocab",
    }
    gguf.write(path, metadata, tensors)


def write(folder: Path) -> None:
    """The files that are not there yet."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, (file, num_layers) in FILES.items():
        if not (folder / file).exists():
            write_file(folder / file, name.split(",")[0], num_layers)


def build(head: str) -> BitNet:
    """Ours with random weights, packed."""
    c = BITNET_2B_4T
    with checkpoint.on_meta():
        model = BitNet(c)
    for module in model.modules():
        if isinstance(module, TernaryLinear):
            module.packed = random_codes(module.packed.numel()).view(module.packed.shape)
            module.scale = torch.full(module.scale.shape, 0.02)
        elif isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.ndim == 1:
            module.weight = nn.Parameter(torch.ones(module.weight.shape, dtype=torch.bfloat16))
    size = c.vocab_size * c.hidden_size
    if head == "bfloat16":
        block = torch.randn(1 << 20).mul_(0.02).bfloat16()
        weight = block.repeat(-(-size // len(block)))[:size].view(c.vocab_size, -1).clone()
        model.embedding.weight = nn.Parameter(weight)
    else:
        codes = torch.randint(1, 256, (1 << 20,), dtype=torch.uint8)
        model.embedding = Int8Linear(1, 1)
        model.embedding.codes = codes.repeat(-(-size // len(codes)))[:size].view(c.vocab_size, -1).clone()
        model.embedding.scale = torch.full((c.vocab_size,), 0.08 / (layout.OFFSET - 1))
    return model.eval()


def seconds_of(threads: int) -> float:
    """The clock of this process."""
    return time.perf_counter() if threads > 1 else resource.getrusage(resource.RUSAGE_SELF).ru_utime


def work(head: str, threads: int) -> None:
    """Decode for every line read, and tell the CPU seconds a token, of all and of the output matrix."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    base = peak_bytes()
    model = build(head)
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    Path("/proc/self/clear_refs").write_text(
        "5"
    )  # what making random weights took at its peak is not the model's
    print("ready", flush=True)
    hidden = torch.randn(1, BITNET_2B_4T.hidden_size).bfloat16()
    with torch.inference_mode():
        for _ in sys.stdin:
            cache = model.new_cache(1, OWN_TOKENS + 8)
            logits = model.prefill(torch.tensor([[1, 2, 3, 4]]), cache)
            start = seconds_of(threads)
            for _ in range(OWN_TOKENS):
                logits = model.decode(logits.argmax(-1)[:, None], cache)
            between = seconds_of(threads)
            for _ in range(3):
                model.logits(hidden)
            end = seconds_of(threads)
            seconds = {"token": (between - start) / OWN_TOKENS, "head": (end - between) / 3}
            seconds |= {"peak_bytes": peak_bytes(), "before_bytes": base, "weights": weights}
            print(json.dumps(seconds), flush=True)


def peak_bytes() -> int:
    """Largest resident set since it was reset."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def theirs(binary: Path, file: Path, threads: int) -> dict[str, float]:
    """Seconds a token of `llama-bench`, and its peak memory."""
    taken = []
    for count in (FEW, FEW + TOKENS):
        command = [str(binary), "-m", str(file), "-p", "0", "-n", str(count), "-t", str(threads), "-r", "1"]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)} ended with status {status}")
        taken.append(time.perf_counter() - start if threads > 1 else usage.ru_utime)
    return {"token": (taken[1] - taken[0]) / TOKENS, "peak_bytes": usage.ru_maxrss * 1024}


def measured(options: argparse.Namespace, threads: int) -> list[dict[str, dict[str, float]]]:
    """Rounds of all contestants in turn."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    workers = {}
    for head in ("int8", "bfloat16"):
        command = [sys.executable, "-m", __spec__.name, "--worker", head, "--threads", str(threads)]
        workers[head] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        workers[head].stdout.readline()
    rounds = []
    for number in range(options.rounds):
        found = {}
        for (head, worker), file in zip(workers.items(), ("Q6_K", "float16"), strict=True):
            worker.stdin.write("\n")
            worker.stdin.flush()
            found[f"ours, {head}"] = json.loads(worker.stdout.readline())
            name = f"bitnet.cpp, {file}"
            found[name] = theirs(options.llama_bench, options.work / FILES[file][0], threads)
        one = "Q6_K, one layer"
        found[f"bitnet.cpp, {one}"] = theirs(options.llama_bench, options.work / FILES[one][0], threads)
        rounds.append(found)
        print(
            threads,
            number,
            {name: round(1e3 * value["token"], 1) for name, value in found.items()},
            flush=True,
        )
    for worker in workers.values():
        worker.stdin.close()
    return rounds


def summary(rounds: list[dict[str, dict[str, float]]], threads: int) -> tuple[list[dict[str, Any]], str]:
    """Medians, and the table of them."""
    lines = []
    for name in rounds[0]:
        line: dict[str, Any] = {"name": name}
        for key in ("token", "head"):
            values = [one[name][key] for one in rounds if key in one[name]]
            line[key] = statistics.median(values) if values else None
        line["peak_bytes"] = max(one[name]["peak_bytes"] for one in rounds)
        line["before_bytes"] = rounds[0][name].get("before_bytes", 0)
        lines.append(line)
    found = {line["name"]: line for line in lines}
    single, whole = found["bitnet.cpp, Q6_K, one layer"], found["bitnet.cpp, Q6_K"]
    layer = (whole["token"] - single["token"]) / 29
    whole["head"] = single["token"] - layer
    kind = "CPU ms" if threads == 1 else "ms"
    rows = [
        f"## {threads} thread{'s' * (threads > 1)}",
        "",
        f"| engine, output matrix | {kind} a token | of it the output matrix | peak memory MB | before the model |",
        "|---|--:|--:|--:|--:|",
    ]
    for line in lines:
        head = (
            "" if line["head"] is None else f"{1e3 * line['head']:.1f} ({line['head'] / line['token']:.0%})"
        )
        if line is not single:
            before = f"{line['before_bytes'] / 1e6:.0f}" if line["before_bytes"] else ""
            rows.append(
                f"| {line['name']} | {1e3 * line['token']:.1f} | {head} | {line['peak_bytes'] / 1e6:.0f} | {before} |"
            )
    for ours, other in (("ours, int8", "bitnet.cpp, Q6_K"), ("ours, bfloat16", "bitnet.cpp, float16")):
        a, b = found[ours], found[other]
        own = (a["peak_bytes"] - a["before_bytes"]) / b["peak_bytes"]
        rows.append(
            f"\n{ours} against {other}: **{b['token'] / a['token']:.2f}x** the tokens a second (target 1.0x), "
            f"**{a['peak_bytes'] / b['peak_bytes']:.2f}x** the peak memory (target at most 1.2x), {own:.2f}x without "
            "what Python and PyTorch take before there is a model."
        )
    return lines, "\n".join(rows)


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--llama-bench", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return write(options.work) if options.worker == "files" else work(options.worker, options.threads[0])
    if options.llama_bench is None or options.work is None:
        parser.error("--llama-bench and --work are needed")
    # Elsewhere, because the largest resident set of a process counts for those that it starts.
    subprocess.run(
        [sys.executable, "-m", __spec__.name, "--worker", "files", "--work", str(options.work)], check=True
    )
    rounds = {threads: measured(options, threads) for threads in options.threads}
    found = {threads: summary(rounds[threads], threads) for threads in options.threads}
    machine = describe_machine()
    report = {
        **harness.provenance("bitnet-cpp", 2),
        "rounds": rounds,
        "medians": {threads: lines for threads, (lines, _) in found.items()},
    }
    page = (
        f"# BitNet 2B4T beside bitnet.cpp\n\n{machine['cpu']}, {machine['cores']} cores, a load of "
        f"{os.getloadavg()[0]:.1f}; medians of {options.rounds} interleaved rounds ({OWN_TOKENS} and {TOKENS} tokens), "
        f"random weights, seed 0, {harness.STARTED_AT}. One thread in CPU time, more in wall time.\n\n"
        + "\n\n".join(table for _, table in found.values())
        + "\n"
    )
    harness.save(options.output, "bitnet-cpp", report, page)
    return None


if __name__ == "__main__":
    main()
