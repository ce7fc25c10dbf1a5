"""What the small speech codec keeps: words, speaker and sound of held-out recordings, beside Opus at 6 kbit/s.

    python -m benchmarks.speech.codec_quality --corpus corpus.npz --whisper FOLDER --model bundled:codec-tiny
        [--texts allison=core-sounds-en.txt.gz] [--lj FOLDER] [--clips 8] [--output DIR]
    python -m benchmarks.speech.codec_quality --corpus corpus.npz --model MODEL_FOLDER --plain MODEL_FOLDER
        [--output DIR]

* **words**: word error rate of Whisper (a folder in CTranslate2's format, through faster-whisper, greedy) on the
  original and on what was made of it, pooled over the clips of a voice. Letters only: case, punctuation and hyphens do
  not count.
* **speaker**: cosine of GE2E embeddings (resemblyzer) between both.
* **PESQ** (wide band) and **STOI** against the original, 16 kHz.
* **noise**: the sound after noise of 0, 0.2 and 0.4 times the spread of the latents was added to them, of a sigma-VAE
  (``--model``) and of its plain twin (``--plain``), which was trained alike but without noise.

Needs, beside the workspace, ``pip install faster-whisper jiwer pesq pystoi resemblyzer``. Clips are of texts that the
training left out (`multiway_speech.speech_tokenizer.corpus`), ``--lj`` of a speaker that it never heard.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import harness

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import av
import numpy as np
import torch
from multiway_core.evaluation.machine import describe_machine
from multiway_speech.audio import TARGET_DBFS, SoundFile, read
from multiway_speech.speech_tokenizer import corpus as corpora
from multiway_speech.speech_tokenizer.folder import load
from multiway_speech.speech_tokenizer.model import AcousticTokenizer

RATE = corpora.RATE
OPUS_BITS = 6000
NOISES = (0.0, 0.2, 0.4)
TAUGHT_WORDS = 4
Row = dict[str, Any]


@dataclass(frozen=True)
class Hypothesis:
    voice: str
    text: str
    waveform: np.ndarray


def plain_words(text: str) -> str:
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower().replace("’", "'")).split())


def asterisk_texts(path: Path) -> dict[str, str]:
    """``name: text`` lines; sounds that are no speech, and texts with digits, are left out."""
    lines = gzip.decompress(path.read_bytes()).decode("utf-8", "replace").splitlines()
    found = (line.partition(": ") for line in lines if not line.startswith(";"))
    return {name: text for name, _, text in found if text and not re.search(r"[\[\]()<>\d]", text)}


def held_out(corpus: corpora.Corpus, texts: dict[str, dict[str, str]], clips: int) -> Iterator[Hypothesis]:
    """The first ``clips`` clips of each voice whose text is known, has some words and was left out of training."""
    found: dict[str, list[Hypothesis]] = defaultdict(list)
    for clip in corpus.part(held_out=True):
        known = texts.get(clip.group)
        text = clip.key if known is None else known.get(clip.key, "")
        if len(text.split()) >= TAUGHT_WORDS and len(found[clip.group]) < clips and clip.length < 15 * RATE:
            found[clip.group].append(Hypothesis(clip.group, text, corpus.waveform(clip)))
    for voice in found.values():
        yield from voice


def lj_speech(folder: Path, clips: int) -> Iterator[Hypothesis]:
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(lines, delimiter="|", quoting=csv.QUOTE_NONE))
    for name, _, text in [row for row in rows if (folder / f"{row[0]}.flac").is_file()][:clips]:
        waveform = read(SoundFile(folder / f"{name}.flac"), RATE, max_seconds=30)
        level = 10 ** (TARGET_DBFS / 20) / np.sqrt(np.square(waveform).mean())
        yield Hypothesis("lj (unseen)", text, waveform * level)


def opus(waveform: np.ndarray, bits: int = OPUS_BITS) -> np.ndarray:
    """Coded and decoded by libopus, aligned with the input."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=RATE, layout="mono", options={"application": "voip"})
        stream.bit_rate = bits
        resampler = av.AudioResampler("s16", "mono", RATE, frame_size=stream.codec_context.frame_size or 320)
        frame = av.AudioFrame.from_ndarray(
            (np.clip(waveform, -1, 1) * 32767).astype(np.int16)[None], "s16", "mono"
        )
        frame.sample_rate = RATE
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        back = av.AudioResampler("flt", "mono", RATE)
        frames = [part for frame in container.decode(audio=0) for part in back.resample(frame)]
        decoded = np.concatenate([part.to_ndarray()[0] for part in (*frames, *back.resample(None))])
    return aligned(decoded, waveform)


def aligned(decoded: np.ndarray, waveform: np.ndarray) -> np.ndarray:
    """Shifted by the delay (below 50 ms) at which both agree best, and cut to the same length."""
    most = RATE // 20
    padded = np.pad(decoded, (most, most + max(0, len(waveform) - len(decoded))))
    scores = np.correlate(padded[: len(waveform) + 2 * most], waveform, mode="valid")
    start = int(scores.argmax())
    return padded[start : start + len(waveform)].astype(np.float32)


def through(
    tokenizer: AcousticTokenizer, waveform: np.ndarray, noise: float = 0.0, seed: int = 0
) -> np.ndarray:
    """Encoded and decoded, with noise on the latents as a share of their spread over this recording."""
    with torch.inference_mode():
        latents_1FD = tokenizer.encode(torch.from_numpy(waveform)[None, None])
        generator = torch.Generator().manual_seed(seed)
        if noise:
            drawn = torch.randn(latents_1FD.shape, generator=generator)
            latents_1FD = latents_1FD + noise * latents_1FD.std() * drawn
        return tokenizer.decode(latents_1FD)[0, 0, : len(waveform)].numpy()


class Scorers:
    """Whisper, GE2E, PESQ, STOI."""

    def __init__(self, whisper: Path | None) -> None:
        from pesq import pesq
        from pystoi import stoi
        from resemblyzer import VoiceEncoder

        self.whisper = None
        if whisper is not None:
            from faster_whisper import WhisperModel

            self.whisper = WhisperModel(str(whisper), device="cpu", compute_type="int8", cpu_threads=1)
        self.embed = VoiceEncoder("cpu", verbose=False).embed_utterance
        self._pesq, self._stoi = pesq, stoi

    def words(self, waveform: np.ndarray) -> str:
        assert self.whisper is not None
        segments, _ = self.whisper.transcribe(
            waveform.astype(np.float32), language="en", beam_size=1, temperature=0.0, without_timestamps=True
        )
        return plain_words(" ".join(segment.text for segment in segments))

    def sound(self, waveform: np.ndarray, original: np.ndarray) -> Row:
        # GE2E was trained on speech at -30 dBFS.
        level = 10 ** (-30 / 20) / max(1e-6, float(np.sqrt(np.square(original).mean())))
        cosine = float(self.embed(waveform * level) @ self.embed(original * level))
        try:
            pesq = float(self._pesq(RATE, original, waveform, "wb"))
        except Exception:  # its own errors: no speech found
            pesq = float("nan")
        return {"cosine": cosine, "pesq": pesq, "stoi": float(self._stoi(original, waveform, RATE))}


def measure(
    clips: list[Hypothesis],
    systems: dict[str, Callable[[np.ndarray], np.ndarray]],
    scorers: Scorers,
    known: list[Row],
) -> list[Row]:
    """A row for each clip and system, the original among them; ``known`` rows of other systems are not made again."""
    rows = []
    made = {(row["system"], row["voice"], row["text"]): row for row in known if row["system"] != "codec"}
    for number, clip in enumerate(clips):
        for name, system in {"original": lambda waveform: waveform, **systems}.items():
            if (name, clip.voice, plain_words(clip.text)) in made:
                rows.append(made[name, clip.voice, plain_words(clip.text)])
                continue
            heard = system(clip.waveform)
            row: Row = {"system": name, "voice": clip.voice, "clip": number, "text": plain_words(clip.text)}
            if scorers.whisper is not None:
                row["words"] = scorers.words(heard)
            rows.append(row | (scorers.sound(heard, clip.waveform) if name != "original" else {}))
    return rows


def pooled(rows: list[Row]) -> Row:
    import jiwer

    result: Row = {"clips": len(rows)}
    if "words" in rows[0]:
        result["words"] = sum(len(row["text"].split()) for row in rows)
        result["wer"] = 100 * jiwer.wer([row["text"] for row in rows], [row["words"] for row in rows])
    for name in ("cosine", "pesq", "stoi"):
        values = [row[name] for row in rows if name in row]
        if values:
            result[name] = float(np.nanmean(values))
    return result


def table(rows: list[Row]) -> tuple[list[Row], str]:
    """Pooled rows for each voice and for all taught voices together, and the same in Markdown."""
    voices = list(dict.fromkeys(row["voice"] for row in rows))
    systems = list(dict.fromkeys(row["system"] for row in rows))
    taught = [voice for voice in voices if "unseen" not in voice]
    lines = [
        "| voices | system | clips | WER % | cosine | PESQ | STOI |",
        "| --- | --- | --: | --: | --: | --: | --: |",
    ]
    results = []
    for label, group in [("all taught", taught), *((voice, [voice]) for voice in voices)]:
        for system in systems:
            chosen = [row for row in rows if row["voice"] in group and row["system"] == system]
            if not chosen:
                continue
            result = {"voices": label, "system": system, **pooled(chosen)}
            results.append(result)
            numbers = [f"{result['wer']:.1f}" if "wer" in result else ""]
            numbers += [
                f"{result[name]:.3f}" if name in result else "" for name in ("cosine", "pesq", "stoi")
            ]
            lines.append(f"| {label} | {system} | {result['clips']} | " + " | ".join(numbers) + " |")
    return results, "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--whisper", type=Path, help="folder of Whisper's model; not needed with --plain")
    parser.add_argument("--model", default="bundled:codec-tiny")
    parser.add_argument("--plain", type=Path, help="only noise on the latents: --model and this twin of it")
    parser.add_argument("--texts", nargs="*", default=[], metavar="GROUP=FILE")
    parser.add_argument("--groups", nargs="*", help="only these voices")
    parser.add_argument("--lj", type=Path)
    parser.add_argument("--clips", type=int, default=8, help="of each voice")
    parser.add_argument("--systems", nargs="*", choices=("codec", "opus"), default=("codec", "opus"))
    parser.add_argument("--reuse", type=Path, help="an earlier report: originals and Opus are taken from it")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started, cpu = time.monotonic(), time.process_time()
    texts = {
        name: asterisk_texts(Path(file)) for name, _, file in (item.partition("=") for item in options.texts)
    }
    clips = list(held_out(corpora.load(options.corpus), texts, options.clips))
    clips = [clip for clip in clips if not options.groups or clip.voice in options.groups]
    if options.lj:
        clips += lj_speech(options.lj, options.clips)
    tokenizer = load(options.model)
    if options.plain:
        name = "codec-noise"
        twins = {"sigma-VAE": tokenizer, "plain": load(options.plain)}
        sweep = noise_sweep(clips, twins, Scorers(None))
        report: Row = {"clips": len(clips), "noise": sweep}
        text = noise_table(sweep, list(twins))
    else:
        if options.whisper is None:
            parser.error("--whisper is needed")
        name = "codec-quality"
        systems: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
        if "codec" in options.systems:
            systems["codec"] = lambda wave: through(tokenizer, wave)
        if "opus" in options.systems:
            systems["opus 6 kbit/s"] = opus
        known = json.loads(options.reuse.read_text("utf-8"))["rows"] if options.reuse else []
        rows = measure(clips, systems, Scorers(options.whisper), known)
        results, text = table(rows)
        report = {"table": results, "rows": rows}
    print(text)
    report |= {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": describe_machine(),
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - cpu,
    }
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        written = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
        (options.output / f"{name}.json").write_text(written, encoding="utf-8")
        (options.output / f"{name}.md").write_text(text + "\n", encoding="utf-8")


def noise_table(sweep: list[Row], names: list[str]) -> str:
    """PESQ and STOI at each noise, a pair of columns for each twin."""
    lines = [
        "| noise / spread | " + " | ".join(f"{name}: PESQ | STOI | cosine" for name in names) + " |",
        "| --: |" + " --: | --: | --: |" * len(names),
    ]
    for row in sweep:
        numbers = [f"{row[name][key]:.3f}" for name in names for key in ("pesq", "stoi", "cosine")]
        lines.append(f"| {row['noise']} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def noise_sweep(clips: list[Hypothesis], twins: dict[str, AcousticTokenizer], scorers: Scorers) -> list[Row]:
    """PESQ and STOI after noise on the latents, mean over the clips."""
    sweep = []
    for noise in NOISES:
        row: Row = {"noise": noise}
        for name, tokenizer in twins.items():
            sounds = [
                scorers.sound(through(tokenizer, clip.waveform, noise), clip.waveform) for clip in clips
            ]
            row[name] = {
                key: float(np.nanmean([sound[key] for sound in sounds])) for key in ("pesq", "stoi", "cosine")
            }
        sweep.append(row)
    return sweep


if __name__ == "__main__":
    main()
