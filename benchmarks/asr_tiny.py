"""Who said what and when: ``bundled:asr-tiny`` on conversations of held-out texts and voices, names, real recordings.

    python benchmarks/asr_tiny.py make --corpus corpus.npz --out clips [--cmudict FILE --brown DIR] [--real DIR]
        [--librivox DIR] [--digits DIR]
    python benchmarks/asr_tiny.py hear --clips clips --system bundled:asr-tiny --out asr-tiny.json
    python benchmarks/asr_tiny.py score --clips clips asr-tiny.json [CASCADE ...] [--output DIR]

* **make** mixes conversations (`multiway_speech.vibevoice_asr.mixtures`): 35 of texts that the training left out in
  voices that it had (``texts``), 15 of voices that it never had (``voices``); 100 sentences with a name that it never
  had (``names-``), read by Piper; and copies of real recordings: LJSpeech, LibriVox, spoken digits, AMI.
* **score** also takes the folder of transcripts of another system, one folder a part (`asr_cascade.py` writes such).
* **DER** (pyannote.metrics) pools all clips, 0.25 s around each boundary of the reference left out; **cpWER** and
  **tcpWER** with a collar of 5 s (meeteval) pool all words. Letters only: case, punctuation and hyphens do not count,
  numbers in figures are spelt out.
* **Names**: how many are found, each clip heard without a context and with the name in a list of three; and how often a
  name that nobody said is written when it is in the list.

Needs, beside the workspace, ``pip install meeteval pyannote.metrics``, and for ``make`` with names what
`multiway_speech.speech_tokenizer.teachers` says.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import soundfile
from multiway_core.evaluation.machine import describe_machine

RATE = 16_000
TEXTS, VOICES, NAMES = 35, 15, 100
COLLAR, WORD_COLLAR = 0.25, 5.0
Row = dict[str, Any]


def words(text: str) -> str:
    """What is compared: lower-case words, figures spelt out."""
    from multiway_speech.vibevoice_asr.sentences import DIGITS, spoken_number

    def spelt(found: re.Match[str]) -> str:
        figures = found[0]
        if len(figures) <= 2 and not (len(figures) == 2 and figures[0] == "0"):
            return f" {spoken_number(int(figures))} "
        return " " + " ".join(DIGITS[int(figure)] for figure in figures) + " "

    text = re.sub(r"\d+", spelt, text.lower().replace("\u2019", "'"))
    return " ".join(re.findall(r"[a-z']+", text.replace("-", " ")))


def make(options: argparse.Namespace) -> None:
    """Write FLAC files and ``clips.json``."""
    from multiway_speech.vibevoice_asr import corpus as corpora
    from multiway_speech.vibevoice_asr.mixtures import Pool, make_mixture

    corpus = corpora.load(options.corpus)
    options.out.mkdir(parents=True, exist_ok=True)
    clips: list[Row] = []
    for part, count, seed in (("texts", TEXTS, 1000), ("voices", VOICES, 2000)):
        pool = Pool(corpus, part)
        for number in range(count):
            rng = np.random.default_rng((seed, number))
            mixture = make_mixture(pool, rng, empty_chance=0.0, context_chance=0.0)
            name = f"{part}-{number:03}.flac"
            soundfile.write(options.out / name, mixture.waveform, RATE, subtype="PCM_16")
            clips.append({"file": name, "part": part, "segments": mixture.segments, "voices": mixture.voices})
    if options.cmudict:
        clips += make_names(options)
    if options.real:
        clips += find_real(options)
    (options.out / "clips.json").write_text(json.dumps(clips, indent=1))
    for part in dict.fromkeys(clip["part"] for clip in clips):
        chosen = [clip for clip in clips if clip["part"] == part]
        seconds = sum(soundfile.info(options.out / clip["file"]).duration for clip in chosen)
        print(f"{part}: {len(chosen)} clips, {seconds / 60:.1f} min")


def make_names(options: argparse.Namespace) -> list[Row]:
    """Sentences with a name that no training had, read by Piper, each with contexts that have it and have not."""
    from multiway_speech.audio import SoundArray, read
    from multiway_speech.speech_tokenizer.synthesize import brown_sentences
    from multiway_speech.speech_tokenizer.teachers import Piper
    from multiway_speech.vibevoice_asr import sentences

    names = [
        name
        for name in sentences.rare_names(options.cmudict, brown_sentences(options.brown))
        if sentences.is_held_out(name)
    ]
    rng, speaker = random.Random(3000), Piper()
    templates = [template for template in sentences.WITH_NAME if template.count("{}") == 1]
    clips: list[Row] = []
    for number in range(NAMES):
        name, *others = rng.sample(names, 6)
        text = rng.choice(templates).format(name)
        reading = speaker(text)
        waveform = read(SoundArray(reading.waveform, speaker.rate), RATE, max_seconds=60)
        file = f"names-{number:03}.flac"
        soundfile.write(options.out / file, waveform, RATE, subtype="PCM_16")
        said = [[reading.start, reading.ends[-1], 0, text]]
        told = rng.sample([name, *others[:2]], 3)
        for part, context in (("none", []), ("told", told), ("false", others[2:])):
            clips.append(
                {
                    "file": file,
                    "part": f"names-{part}",
                    "segments": said,
                    "voices": ["joe"],
                    "name": name,
                    "context": ", ".join(context),
                }
            )
    return clips


def find_real(options: argparse.Namespace) -> list[Row]:
    """Real recordings, 16 kHz copies of what they are: LJSpeech, LibriVox, spoken digits, AMI."""
    from multiway_speech.audio import SoundFile, read
    from multiway_speech.vibevoice_asr.sentences import DIGITS

    clips: list[Row] = []

    def add(part: str, source: Path, segments: list[Any]) -> None:
        waveform = read(SoundFile(source), RATE, max_seconds=60)
        file = f"{part}-{source.stem}.flac"
        soundfile.write(options.out / file, waveform, RATE, subtype="PCM_16")
        said = segments or [[0.0, len(waveform) / RATE, 0, ""]]
        clips.append({"file": file, "part": part, "segments": said, "voices": []})

    def whole(part: str, source: Path, text: str) -> None:
        add(part, source, [[0.0, soundfile.info(source).duration, 0, text]])

    for line in (options.real / "ljspeech" / "metadata.csv").read_text("utf-8").splitlines():
        name, _, text = line.split("|")
        whole("ljspeech", options.real / "ljspeech" / f"{name}.flac", text)
    if options.librivox:
        for line in (options.librivox / "transcription").read_text("utf-8").splitlines():
            text, _, name = line.strip().rpartition(" (")
            text = re.sub(r"</?s>", "", text)
            whole("librivox", options.librivox / f"{name.rstrip(')')}.wav", text)
    for file in sorted(options.digits.glob("?_*_[0-4].wav")) if options.digits else []:
        whole("digits", file, DIGITS[int(file.stem[0])])
    turns: dict[str, list[Any]] = {}
    for rttm in sorted((options.real / "ami").glob("*.rttm")):
        for line in rttm.read_text().splitlines():
            _, name, _, start, length, *_, speaker, _, _ = line.split()
            turns.setdefault(name, []).append([float(start), float(start) + float(length), speaker, ""])
    for name, segments in turns.items():
        source = options.real / "ami" / f"{name}.flac"
        if source.is_file():
            add("ami", source, segments)
    return clips


def hear(options: argparse.Namespace) -> None:
    """Transcribe every clip."""
    from multiway_speech.vibevoice_asr.pipeline import AsrPipeline, TranscriptionOptions

    clips = json.loads((options.clips / "clips.json").read_text())
    pipeline = AsrPipeline.from_pretrained(options.system)
    rows: list[Row] = []
    for clip in clips[: options.first or None]:
        if options.parts and not clip["part"].startswith(tuple(options.parts)):
            continue
        path = options.clips / clip["file"]
        started, cpu = time.perf_counter(), time.process_time()
        transcript = pipeline(path, TranscriptionOptions(context=clip.get("context", "")))
        rows.append(
            {
                "file": clip["file"],
                "part": clip["part"],
                "segments": [list(asdict(segment).values()) for segment in transcript.segments],
                "problems": transcript.problems,
                "seconds": time.perf_counter() - started,
                "cpu": time.process_time() - cpu,
                "duration": soundfile.info(path).duration,
            }
        )
    options.out.write_text(json.dumps({"system": options.name or options.system, "rows": rows}, indent=1))


def read_heard(path: Path, clips: Sequence[Row]) -> Row:
    """What ``hear`` wrote, or a folder of transcripts with a folder for each part."""
    if path.is_file():
        result: Row = json.loads(path.read_text())
        return result
    from multiway_speech.result import Transcript

    rows: list[Row] = []
    for clip in clips:
        file = (path / clip["part"] / clip["file"]).with_suffix(".json")
        if not file.is_file():
            continue
        transcript = Transcript.load(file)
        seconds = json.loads((file.parent / "seconds.json").read_text())
        rows.append(
            {
                "file": clip["file"],
                "part": clip["part"],
                "segments": [list(asdict(segment).values()) for segment in transcript.segments],
                "seconds": seconds[file.stem],
                "duration": transcript.duration,
            }
        )
    return {"system": path.name, "rows": rows}


def score_clips(clips: Sequence[Row], rows: Sequence[Row]) -> Row:
    """DER, cpWER, tcpWER and speaker counts of one system on these clips."""
    from meeteval.io import SegLST
    from meeteval.wer import cpwer, tcpwer
    from pyannote.core import Annotation, Segment
    from pyannote.metrics.diarization import DiarizationErrorRate

    heard = {(row["file"], row["part"]): row for row in rows}
    clips = [clip for clip in clips if (clip["file"], clip["part"]) in heard]
    ders = {collar: DiarizationErrorRate(collar=2 * collar) for collar in (COLLAR, 0.0)}

    def speech(segments: Sequence[Any]) -> list[Any]:
        return [segment for segment in segments if segment[2] is not None and segment[1] > segment[0]]

    def annotation(segments: Sequence[Any]) -> Annotation:
        made = Annotation()
        for number, (start, end, speaker, _) in enumerate(speech(segments)):
            made[Segment(start, end), number] = f"s{speaker}"
        return made

    def seglst(session: str, segments: Sequence[Any]) -> list[Row]:
        return [
            {
                "session_id": session,
                "speaker": f"s{speaker}",
                "start_time": start,
                "end_time": end,
                "words": words(text),
            }
            for start, end, speaker, text in speech(segments)
        ] or [{"session_id": session, "speaker": "s0", "start_time": 0, "end_time": 0.01, "words": ""}]

    references: list[Row] = []
    hypotheses: list[Row] = []
    counted = exact = 0
    for clip in clips:
        row = heard[clip["file"], clip["part"]]
        for der in ders.values():
            der(annotation(clip["segments"]), annotation(row["segments"]), uem=Segment(0, row["duration"]))
        references += seglst(clip["file"], clip["segments"])
        hypotheses += seglst(clip["file"], row["segments"])
        told = {segment[2] for segment in speech(row["segments"])}
        said, written = (
            words(" ".join(s[3] for s in speech(segments)))
            for segments in (clip["segments"], row["segments"])
        )
        exact += said == written
        counted += len(told) == len({segment[2] for segment in speech(clip["segments"])})

    def pooled(measure: Callable[..., Any], **arguments: Any) -> float | None:
        if not any(reference["words"] for reference in references):
            return None  # turns without words
        results = measure(SegLST(references), SegLST(hypotheses), **arguments).values()
        return 100 * sum(r.errors for r in results) / sum(r.length for r in results)

    return {
        "clips": len(clips),
        "words": sum(len(reference["words"].split()) for reference in references),
        "der": 100 * abs(ders[COLLAR]),
        "der_0": 100 * abs(ders[0.0]),
        "cpwer": pooled(cpwer),
        "tcpwer": pooled(tcpwer, collar=WORD_COLLAR),
        "exact": 100 * exact / len(clips),
        "right_number": 100 * counted / len(clips),
        "rtf": sum(row["seconds"] for row in rows) / sum(row["duration"] for row in rows),
    }


def context_scores(clips: Sequence[Row], rows: Sequence[Row]) -> Row:
    """Shares of names found without and with the list, and of listed ones that nobody said."""
    heard = {(row["file"], row["part"]): row for row in rows}
    found: dict[str, list[float]] = {"none": [], "told": [], "false": []}
    for clip in clips:
        kind = clip["part"].removeprefix("names-")
        row = heard.get((clip["file"], clip["part"]))
        if kind not in found or row is None:
            continue
        written = words(" ".join(segment[3] for segment in row["segments"])).split()
        wanted = clip["context"].split(", ") if kind == "false" else [clip["name"]]
        found[kind].append(float(any(words(name) in written for name in wanted)))
    return {f"names {kind}": 100 * float(np.mean(values)) for kind, values in found.items() if values}


def score(options: argparse.Namespace) -> None:
    """Print tables, and write them where ``--output`` says."""
    clips = json.loads((options.clips / "clips.json").read_text())
    table: list[Row] = []
    for path in options.heard:
        result = read_heard(path, clips)
        own = {row["part"] for row in result["rows"]}
        parts = [part for part in dict.fromkeys(clip["part"] for clip in clips) if part in own]
        groups = {"all mixtures": ["texts", "voices"]} | {part: [part] for part in parts}
        for group, members in groups.items():
            chosen = [clip for clip in clips if clip["part"] in members]
            rows = [row for row in result["rows"] if row["part"] in members]
            if rows:
                table.append({"system": result["system"], "clips of": group, **score_clips(chosen, rows)})
        names = context_scores(clips, result["rows"])
        if names:
            table.append({"system": result["system"], "clips of": "names", **names})
    for row in table:
        print({key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()})
    if options.output:
        report(table, options.output)


def report(table: Sequence[Row], folder: Path) -> None:
    """Write ``asr-tiny.json`` and ``asr-tiny.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "asr-tiny.json").write_text(json.dumps({"table": list(table)}, indent=1) + "\n")
    columns = (
        "system",
        "clips of",
        "clips",
        "words",
        "der",
        "der_0",
        "cpwer",
        "tcpwer",
        "exact",
        "right_number",
        "rtf",
    )
    lines = [
        "# asr-tiny",
        "",
        f"`benchmarks/asr_tiny.py`, {datetime.now(UTC).date()}, {describe_machine()['cpu']}, one thread.",
        "",
        "| " + " | ".join(columns) + " |",
        "| --- | --- |" + " --: |" * (len(columns) - 2),
    ]
    for row in table:
        if "clips" in row:
            cells = (row[column] for column in columns)
            lines.append(
                "| " + " | ".join(f"{c:.2f}" if isinstance(c, float) else str(c or "") for c in cells) + " |"
            )
    lines += ["", "| system | " + " | ".join(("names none", "names told", "names false")) + " |"]
    lines.append("| --- | --: | --: | --: |")
    for row in table:
        if "names told" in row:
            cells = [row.get(f"names {kind}", float("nan")) for kind in ("none", "told", "false")]
            lines.append(f"| {row['system']} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")
    (folder / "asr-tiny.md").write_text("\n".join(lines) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("make")
    command.add_argument("--corpus", type=Path, required=True)
    command.add_argument("--cmudict", type=Path, help="for names: cmudict.dict")
    command.add_argument("--brown", type=Path, help="for names: the folder of Brown")
    command.add_argument("--real", type=Path, help="folder with ljspeech and ami")
    command.add_argument("--librivox", type=Path, help="pocketsphinx's test data, folder librivox")
    command.add_argument("--digits", type=Path, help="recordings of the Free Spoken Digit Dataset")
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=make)
    command = commands.add_parser("hear")
    command.add_argument("--clips", type=Path, required=True)
    command.add_argument("--system", default="bundled:asr-tiny")
    command.add_argument("--name", help="in the table")
    command.add_argument("--parts", nargs="*", help="beginnings of parts' names; all by default")
    command.add_argument("--first", type=int, default=0)
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=hear)
    command = commands.add_parser("score")
    command.add_argument("--clips", type=Path, required=True)
    command.add_argument("heard", type=Path, nargs="+")
    command.add_argument("--output", type=Path)
    command.set_defaults(run=score)
    options = parser.parse_args(arguments)
    options.run(options)


if __name__ == "__main__":
    main()
