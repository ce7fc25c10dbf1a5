"""VibeVoice of ours and of `transformers` at the 0.5B shape: speaking with guidance, the codec as a stream, memory.

    python -m benchmarks.speech.speech_speed [--parts codec head speaking memory] [--dtypes float32 bfloat16]
        [--rounds 3]
        [--frames 6] [--output DIR]

The language model has Qwen2.5-0.5B's shape (hidden size 896, 24 layers, 14 query and 2 key-value heads, inner size
4864) with a vocabulary of 4,096 on both sides, the diffusion head has 4 layers, both speech tokenizers have their
published size (344 M parameters for an encoder, as many for the decoder). Weights are random and **shared**: the peer's
tensors are put into our model, so both read the same memory and the machine needs to hold one model only.

* **codec**: one frame (3,200 samples) through the decoder and through the encoder, each behind what its stream
  remembers; a round is some frames of one side and then of the other.
* **head**: a latent, guidance 1.3 and 10 diffusion steps, from given hidden states.
* **speaking**: a frame of `generate` with guidance 1.3 and 10 diffusion steps behind a prompt of 256 tokens; both are
  made to choose the frame token in every step, and both are given the same noise. The peer's processor that guides the
  choice of tokens (a third pass of its language model in every step, which the authors' loop has not) is left out.
* **memory**: each side in a process of its own loads one folder (layout of `transformers`, bfloat16), hears a voice of
  20 s and speaks six frames; the peak of its resident memory.

A run keeps what earlier ones measured of other parts and types. Figures are CPU time of one thread; a round's ratio is
theirs over ours, and the median of the ratios counts. In float32 both must give the same sound, or the run fails. Needs
5 GB of memory; the memory part 3 GB of disk as well.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch
from torch import Tensor, nn

FRAME, START, END, EOS = 3, 4, 5, 0
VOCABULARY, PROMPT, VOICE_SECONDS = 4096, 256, 20
TARGETS = {"speaking": 1.6, "codec": 2.0}
Row = dict[str, Any]


def fill_randomly(model: nn.Module) -> None:
    """Weights that keep activations in bounds: one block of a million numbers again and again, which is quick."""
    block = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).mul_(0.02)
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if name.endswith(("inv_freq", ".freq", "frequencies")):
            continue
        if "norm" in name or name.endswith(("act.weight", "scaling_factor")):
            tensor.data.fill_(1)
        elif name.endswith("bias_factor"):
            tensor.data.zero_()
        else:
            flat = tensor.data.view(-1)
            for start in range(0, len(flat), len(block)):
                part = flat[start : start + len(block)]
                part.copy_(block[: len(part)])
            if name.endswith(("gamma", "_scale")):  # of the branches, which would be all but invisible
                tensor.data.add_(0.1)


def make_peer(dtype: torch.dtype, parts: Sequence[str]) -> nn.Module:
    """The class of `transformers` with random weights; without what none of ``parts`` runs."""
    from transformers import VibeVoiceConfig, VibeVoiceForConditionalGeneration

    layers = 24 if {"speaking", "memory"} & set(parts) else 1
    config = VibeVoiceConfig(
        text_config={
            "model_type": "qwen2", "vocab_size": VOCABULARY, "hidden_size": 896, "num_hidden_layers": layers,
            "num_attention_heads": 14, "num_key_value_heads": 2, "intermediate_size": 4864,
            "max_position_embeddings": 8192, "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
        diffusion_head_config={"intermediate_size": 2688},
        audio_token_id=FRAME, audio_bos_token_id=START, audio_eos_token_id=END, eos_token_id=EOS, pad_token_id=EOS,
    )  # fmt: skip
    with torch.device("meta"):
        model = VibeVoiceForConditionalGeneration(config)
    rotary = type(model.model.language_model.rotary_emb)(config.text_config)
    if "memory" not in parts:
        model.model.audio_tower.encoder = nn.Identity()
    model = model.to(dtype).to_empty(device="cpu").eval()
    model.model.language_model.rotary_emb = rotary
    for module in model.modules():
        if hasattr(module, "compute_default_freq"):
            module.freq = module.compute_default_freq(config.diffusion_head_config)
    fill_randomly(model)
    model.tie_weights()
    return model


def share(theirs: nn.Module) -> nn.Module:
    """Our model on the peer's tensors."""
    from multiway_core import checkpoint as tensors
    from multiway_speech.vibevoice import checkpoint
    from multiway_speech.vibevoice.model import VibeVoice

    own, layout = checkpoint.config_from_published(theirs.config.to_dict(), where="the peer's config")
    rules = checkpoint.rule_table(layout, own)
    named = {rules.to_ours(name): tensor for name, tensor in theirs.state_dict().items()}
    named.pop(None, None)
    with tensors.on_meta():
        ours = VibeVoice(own)
    if isinstance(theirs.model.audio_tower.encoder, nn.Identity):
        ours.acoustic.encoder = nn.Identity()
    ours.load_state_dict(named, assign=True)
    return ours.eval()


def in_turn(
    sides: Sequence[Callable[[], tuple[list[float], Tensor]]], rounds: int
) -> tuple[list[Row], list[Tensor]]:
    """Medians of each side by round, after one round that warms up, and what each computed last."""
    found: list[Row] = []
    for number in range(rounds + 1):
        results = [side() for side in sides]
        if number:
            ours, theirs = (1e3 * statistics.median(times) for times, _ in results)
            found.append({"ours_ms": ours, "theirs_ms": theirs, "ratio": theirs / ours})
    return found, [result for _, result in results]


def timed(step: Callable[[int], Tensor], count: int) -> tuple[list[float], Tensor]:
    """CPU seconds of each step but the first, and all results behind each other."""
    times, results = [], []
    for index in range(count):
        start = time.process_time()
        results.append(step(index))
        times.append(time.process_time() - start)
    return times[1:], torch.cat(results, dim=-1)


def summary(part: str, dtype: torch.dtype, rounds: list[Row], results: list[Tensor]) -> Row:
    """A line of the table. Raises SystemExit if the two differ in float32."""
    ours, theirs = (result.float().flatten() for result in results)
    difference = float((ours - theirs).norm() / theirs.norm())
    if dtype == torch.float32 and not difference < 1e-3:
        raise SystemExit(f"{part}: the two implementations differ by {difference:.1e}")
    line = {
        key: statistics.median(found[key] for found in rounds) for key in ("ours_ms", "theirs_ms", "ratio")
    }
    return {
        "part": part, "dtype": str(dtype).removeprefix("torch."), **line, "rounds": rounds, "difference": difference
    }  # fmt: skip


def codec(ours: nn.Module, theirs: nn.Module, dtype: torch.dtype, rounds: int, frames: int) -> list[Row]:
    from multiway_blocks.causal_conv import StreamState

    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, frames, 64, generator=generator).to(dtype)
    wave = (0.1 * torch.randn(1, 1, 3200 * frames, generator=generator)).to(dtype)

    def our_decoder() -> tuple[list[float], Tensor]:
        state = StreamState(1)
        return timed(lambda i: ours.acoustic.decoder(latents[:, i : i + 1], state), frames)

    def their_decoder() -> tuple[list[float], Tensor]:
        cache = None

        def step(index: int) -> Tensor:
            nonlocal cache
            out = theirs.model.audio_tower.decode(
                latents[:, index : index + 1], padding_cache=cache, use_cache=True
            )
            cache = out.padding_cache
            return out.audio

        return timed(step, frames)

    def our_encoder() -> tuple[list[float], Tensor]:
        state = StreamState(1)
        return timed(lambda i: ours.semantic(wave[..., 3200 * i : 3200 * (i + 1)], state), frames)

    def their_encoder() -> tuple[list[float], Tensor]:
        cache = None

        def step(index: int) -> Tensor:
            nonlocal cache
            piece = wave[..., 3200 * index : 3200 * (index + 1)]
            out = theirs.model.semantic_tokenizer_encoder(piece, padding_cache=cache, use_cache=True)
            cache = out.padding_cache
            return out.latents

        return timed(step, frames)

    lines = [
        summary("decoder, a frame", dtype, *in_turn((our_decoder, their_decoder), rounds)),
        summary("encoder, a frame", dtype, *in_turn((our_encoder, their_encoder), rounds)),
    ]
    both = [
        {side: sum(line["rounds"][i][side] for line in lines) for side in ("ours_ms", "theirs_ms")}
        for i in range(rounds)
    ]
    for found in both:
        found["ratio"] = found["theirs_ms"] / found["ours_ms"]
    total = {
        key: statistics.median(found[key] for found in both) for key in ("ours_ms", "theirs_ms", "ratio")
    }
    difference = max(line["difference"] for line in lines)
    lines.append(
        lines[0]
        | {
            "part": "codec, both",
            **total,
            "rounds": both,
            "difference": difference,
            "target": TARGETS["codec"],
        }
    )
    return lines


def head(ours: nn.Module, theirs: nn.Module, dtype: torch.dtype, rounds: int, frames: int) -> list[Row]:
    from diffusers import DPMSolverMultistepScheduler
    from multiway_blocks.diffusion_solver import DiffusionSolver
    from multiway_blocks.guided_sampling import LatentSampler

    hidden = torch.randn(frames, 2, 896, generator=torch.Generator().manual_seed(4)).to(dtype)
    sample = LatentSampler(ours.head, DiffusionSolver(ours.schedule, 10), 1.3)
    scheduler = DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")

    def we(index: int) -> Tensor:
        torch.manual_seed(index)
        return sample(hidden[index], lambda: torch.randn(2, 64)[:1].to(dtype))

    def they(index: int) -> Tensor:
        torch.manual_seed(index)
        return theirs._sample_audio_latent(hidden[index, :1], hidden[index, 1:], scheduler, 10, 1.3)[0]

    rounds_and_results = in_turn((lambda: timed(we, frames), lambda: timed(they, frames)), rounds)
    return [summary("diffusion head, a frame", dtype, *rounds_and_results)]


def forced(theirs: nn.Module, stamps: list[float]) -> None:
    """Make the peer choose the frame token always, without guidance of tokens, and note when it does."""
    from transformers import LogitsProcessor, LogitsProcessorList

    class Force(LogitsProcessor):
        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            stamps.append(time.process_time())
            chosen = torch.full_like(scores, float("-inf"))
            chosen[:, FRAME] = 0
            return chosen

    theirs._get_logits_processor = lambda *args, **kwargs: LogitsProcessorList([Force()])


def force_ours(ours: nn.Module) -> None:
    plain = ours.language_model.logits_of
    ours.language_model.logits_of = lambda hidden, tokens: (
        plain(hidden, tokens) * 0 + (tokens == FRAME).float()
    )


def prompt(voice_frames: int = 0) -> Tensor:
    tokens = torch.randint(
        6, VOCABULARY, (PROMPT + voice_frames,), generator=torch.Generator().manual_seed(2)
    )
    tokens[2], tokens[3 : 3 + voice_frames], tokens[3 + voice_frames] = START, FRAME, END
    tokens[-1] = START
    return tokens


def speaking(ours: nn.Module, theirs: nn.Module, dtype: torch.dtype, rounds: int, frames: int) -> list[Row]:
    from multiway_speech.vibevoice.generation import SpeechGenerationConfig, SpeechGenerator

    class PeersNoise(SpeechGenerator):
        """The peer draws twice as much in every frame, and in its own type."""

        def draw_noise(self, generators: Sequence[torch.Generator]) -> Tensor:
            return torch.randn(2 * len(generators), 64)[: len(generators)].to(dtype)

    stamps: list[float] = []
    forced(theirs, stamps)
    force_ours(ours)
    tokens = prompt()

    def we() -> tuple[list[float], Tensor]:
        torch.manual_seed(5)
        times, waves = [], []
        config = SpeechGenerationConfig(max_frames=frames + 1, guidance=1.3, diffusion_steps=10)
        for step in PeersNoise(ours, config).stream([tokens]):
            times.append(time.process_time())
            waves.append(step.audio[0])
        return [b - a for a, b in itertools.pairwise(times)], torch.cat(waves)

    def they() -> tuple[list[float], Tensor]:
        torch.manual_seed(5)
        stamps.clear()
        out = theirs.generate(
            input_ids=tokens[None], attention_mask=torch.ones_like(tokens[None]), max_new_tokens=frames + 1,
            guidance_scale=1.3, num_diffusion_steps=10, return_dict_in_generate=True, do_sample=False,
        )  # fmt: skip
        return [b - a for a, b in itertools.pairwise(stamps)], out.audio[0][0]

    line = summary("speaking, a frame", dtype, *in_turn((we, they), rounds))
    return [line | {"target": TARGETS["speaking"]}]


def remember(side: str, folder: Path) -> Row:
    """In a process of its own: load, hear a voice, speak; what memory that took."""
    loaded_at = time.process_time()
    wave = 0.1 * torch.randn(1, 1, 24_000 * VOICE_SECONDS, generator=torch.Generator().manual_seed(3))
    voice_frames = -(-wave.shape[-1] // 3200)
    tokens = prompt(voice_frames)
    if side == "ours":
        from multiway_speech.speech_tokenizer.model import split_waveform
        from multiway_speech.vibevoice import checkpoint
        from multiway_speech.vibevoice.generation import SpeechGenerationConfig, SpeechGenerator

        ours = checkpoint.load(folder, dtype=torch.bfloat16)
        force_ours(ours)
        loaded, loaded_at = _resident(), time.process_time() - loaded_at
        with torch.no_grad():
            pieces = split_waveform(wave.bfloat16(), ours.config.acoustic)
            voice = torch.cat(list(ours.acoustic.encode_stream(pieces)), dim=1)[0]
        config = SpeechGenerationConfig(max_frames=6, guidance=1.3, diffusion_steps=10)
        steps = list(SpeechGenerator(ours, config).stream([tokens], voice))
        samples = sum(len(step.audio[0]) for step in steps)
    else:
        from transformers import VibeVoiceForConditionalGeneration

        theirs = VibeVoiceForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16).eval()
        forced(theirs, [])
        loaded, loaded_at = _resident(), time.process_time() - loaded_at
        out = theirs.generate(
            input_ids=tokens[None], attention_mask=torch.ones_like(tokens[None]), max_new_tokens=6,
            input_values=wave.bfloat16(), padding_mask=torch.ones(1, wave.shape[-1], dtype=torch.bool),
            guidance_scale=1.3, num_diffusion_steps=10, return_dict_in_generate=True, do_sample=False, sample=False,
        )  # fmt: skip
        samples = out.audio[0].shape[-1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"side": side, "loaded_mib": loaded, "load_s": loaded_at, "peak_mib": peak, "samples": samples}


def _resident() -> float:
    """Mebibytes now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(theirs: nn.Module) -> list[Row]:
    """Both sides, one process behind the other, on a folder that ``theirs`` is written to."""
    with tempfile.TemporaryDirectory() as scratch:
        theirs.save_pretrained(scratch)
        found = []
        for side in ("ours", "theirs"):
            command = [sys.executable, "-m", __spec__.name, "--remember", side, "--folder", scratch]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
    return found


def table(report: Row) -> str:
    rows = [
        "| | type | ours, ms | theirs, ms | ratio | rounds from - to | target | |",
        "|---|---|--:|--:|--:|---|--:|---|",
    ]
    for line in report["lines"]:
        ratios = [found["ratio"] for found in line["rounds"]]
        target = line.get("target")
        verdict = (
            ["", ""]
            if target is None
            else [f">= {target}", "met" if line["ratio"] >= target else "**missed**"]
        )
        rows.append(
            f"| {line['part']} | {line['dtype']} | {line['ours_ms']:.0f} | {line['theirs_ms']:.0f} "
            f"| {line['ratio']:.2f} | {min(ratios):.2f} - {max(ratios):.2f} | {verdict[0]} | {verdict[1]} |"
        )
    if report["memory"]:
        rows += ["", "| memory, bfloat16 | ours | theirs |", "|---|--:|--:|"]
        ours, theirs = report["memory"]
        for key, name in (
            ("loaded_mib", "loaded, MiB"),
            ("peak_mib", "peak, MiB"),
            ("load_s", "loading, CPU s"),
        ):
            rows.append(f"| {name} | {ours[key]:.0f} | {theirs[key]:.0f} |")
    return "\n".join(rows)


def write(report: Row, folder: Path) -> None:
    """Both files, with what earlier runs measured."""
    runs = sorted({(line["started_at"], line["command"]) for line in report["lines"] + report["memory"]})
    rounds = sorted({len(line["rounds"]) for line in report["lines"]})
    page = (
        "# VibeVoice at the 0.5B shape: ours and the class of `transformers`\n\n"
        f"Random weights, shared; one thread of {report['machine']['cpu']}, CPU time, medians of"
        f" {' or '.join(map(str, rounds)) or 'no'} rounds in turn, torch {torch.__version__}, transformers"
        f" {report['versions']['transformers']}. Runs: "
        + ", ".join(f"`{command}` ({started_at})" for started_at, command in runs)
        + f".\n\n{table(report)}\n"
    )
    harness.save(folder, "speech-speed", report, page)


def main() -> None:
    parser = harness.parser(__doc__, "speech")
    parser.add_argument("--parts", nargs="+", default=["codec", "head", "speaking", "memory"])
    parser.add_argument(
        "--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--remember", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.remember:
        print(json.dumps(remember(options.remember, options.folder)))
        return

    now = datetime.now(UTC).isoformat(timespec="seconds")
    command = "python -m " + " ".join([__spec__.name, *sys.argv[1:]])
    report: Row = {
        **harness.provenance("speech-speed"),
        "clock": "CPU seconds of one thread",
        "lines": [],
        "memory": [],
    }
    kept = options.output / "speech-speed.json"
    if kept.is_file():
        report |= {
            key: value for key, value in json.loads(kept.read_text()).items() if key in ("lines", "memory")
        }
    with torch.no_grad():
        for name in options.dtypes:
            dtype = getattr(torch, name)
            parts = [part for part in options.parts if part != "memory" or name == "bfloat16"]
            theirs = make_peer(dtype, parts)
            if set(parts) - {"memory"}:
                ours = share(theirs)
                for part, compare in (("codec", codec), ("head", head), ("speaking", speaking)):
                    if part in parts:
                        about = {"command": command, "started_at": now, "load_average": os.getloadavg()[0]}
                        found = compare(ours, theirs, dtype, options.rounds, options.frames)
                        new = {(line["part"], line["dtype"]) for line in found}
                        old = [line for line in report["lines"] if (line["part"], line["dtype"]) not in new]
                        report["lines"] = old + [line | about for line in found]
                        write(report, options.output)
                del ours
            if "memory" in parts:
                theirs.__dict__.pop("_get_logits_processor", None)
                report["memory"] = [line | {"command": command, "started_at": now} for line in memory(theirs)]
                write(report, options.output)
            del theirs
    print(table(report))


if __name__ == "__main__":
    main()
