"""One text reader in a process of its own, so that its CPU time and its memory are its own.

    python -m benchmarks.document.ocr_readers ENGINE

Requests come on standard input and answers go to standard output, one JSON object a line. A request names a picture
file and, for our engines, a task; an answer has the lines as read (text and box or four corners), and what reading them
cost. Everything runs on one thread.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ENGINES = ("multiway-fast", "multiway-full", "tesseract", "tesseract-tuned", "rapidocr")
PEERS = ("tesseract", "tesseract-tuned", "rapidocr")

TUNED_TARGET = 2400  # pixels of the longer side: about 200 dpi on A4
TUNED_MAX_SCALE = 3.0
TUNED_SMALL = 1500  # pixels of the longer side; on smaller pages a median filter would wipe out strokes
TUNED = (
    f"every page: median filter 3x3 (not where the longer side is below {TUNED_SMALL} pixels), Lanczos enlargement to "
    f"a longer side of {TUNED_TARGET} pixels (at most {TUNED_MAX_SCALE:.0f}x), Sauvola thresholds "
    "(thresholding_method=2)"
)

Read = Callable[[Path, str], dict[str, Any]]


def peak_rss() -> int:
    """Largest resident set since :func:`forget_peak_rss`, in bytes."""
    for row in Path("/proc/self/status").read_text().splitlines():
        if row.startswith("VmHWM:"):
            return int(row.split()[1]) * 1024
    raise RuntimeError("this system does not tell the peak resident set")


def forget_peak_rss() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def multiway(engine: str, model: str) -> tuple[Read, str]:
    import cv2
    from multiway_document.pipeline import OcrPipeline
    from PIL import Image

    cv2.setNumThreads(1)
    pipeline = OcrPipeline.from_pretrained(model)
    chosen = None if engine == "auto" else engine
    if chosen is not None and chosen not in pipeline.engines:
        raise SystemExit(f"{model} has no {engine} engine")

    def read(path: Path, task: str) -> dict[str, Any]:
        if task in ("lines", "lines, decoder alone"):
            return {"texts": read_crops(pipeline, engine, path, decoder_alone=task != "lines")}
        page = pipeline(Image.open(path), task=task, engine=chosen)  # type: ignore[arg-type]
        return {
            "lines": [[line.text, list(line.box)] for line in page.lines],
            "markdown": page.markdown,
            "truncated": page.truncated,
            "looped": page.looped,
            "flags": list(getattr(page, "flags", ())),
        }

    return read, f"{model}, {engine}"


def read_crops(pipeline: Any, engine: str, path: Path, *, decoder_alone: bool) -> list[str]:
    """Texts of cropped lines (arrays (32, width) in an .npz file), as the engine reads them; ``decoder_alone``: as the
    decoder writes them, whatever the line reader thinks."""
    import numpy as np
    import torch
    from multiway_document.kosmos2_5.line_writer import LineWriter

    with np.load(path) as arrays:
        crops = [arrays[name] for name in arrays.files]
    if engine == "fast":
        return [reading.text for reading in pipeline.fast.read(crops)]
    full = pipeline.full
    with torch.autocast("cpu", torch.bfloat16, enabled=full.mixed_precision):
        writer = full.writer
        if decoder_alone:
            writer = LineWriter(writer.model, writer.line_reader, writer.tokenizer, check=False)
        return [reading.text for reading in writer(crops)]


def rapidocr() -> tuple[Read, str]:
    from importlib.metadata import version

    from rapidocr import RapidOCR

    engine = RapidOCR(
        params={
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )

    def read(path: Path, task: str) -> dict[str, Any]:
        result = engine(str(path))
        if result.txts is None or result.boxes is None:
            return {"lines": []}
        pairs = zip(result.txts, result.boxes.tolist(), strict=True)
        return {"lines": [[text, corners] for text, corners in pairs]}

    return read, f"rapidocr {version('rapidocr')}, models of the wheel, native order"


def tesseract(tuned: bool) -> tuple[Read, str]:
    first_row = subprocess.run(["tesseract", "--version"], capture_output=True, text=True, check=True).stdout
    options = ["-c", "thresholding_method=2"] if tuned else []
    scratch = tempfile.TemporaryDirectory()

    def read(path: Path, task: str) -> dict[str, Any]:
        scale, source = 1.0, path
        if tuned:
            source = Path(scratch.name) / "page.png"
            scale = prepare_tuned(path, source)
        output = Path(scratch.name) / "page"
        child = subprocess.Popen(
            ["tesseract", str(source), str(output), "-l", "eng", *options, "tsv"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise RuntimeError(f"tesseract failed on {path}")
        lines, paragraphs = parse_tsv(output.with_suffix(".tsv").read_text(encoding="utf-8"), scale)
        return {
            "lines": lines,
            "markdown": "\n\n".join(paragraphs),
            "child_cpu_seconds": usage.ru_utime + usage.ru_stime,
            "child_peak_rss_bytes": usage.ru_maxrss * 1024,
        }

    return read, first_row.splitlines()[0] + (", tuned" if tuned else ", default")


def prepare_tuned(path: Path, target: Path) -> float:
    """Write the page as the tuned Tesseract gets it (see :data:`TUNED`); returns its scale."""
    import cv2

    cv2.setNumThreads(1)
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise RuntimeError(f"{path}: not a picture that OpenCV reads")
    side = max(grey.shape)
    if side >= TUNED_SMALL:
        grey = cv2.medianBlur(grey, 3)
    scale = min(max(TUNED_TARGET / side, 1.0), TUNED_MAX_SCALE)
    if scale > 1.0:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_LANCZOS4)
    cv2.imwrite(str(target), grey, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return float(scale)


def parse_tsv(tsv: str, scale: float) -> tuple[list[list[Any]], list[str]]:
    """Lines [text, box] of Tesseract's TSV in its own order, and the texts of its paragraphs."""
    lines: list[list[Any]] = []
    paragraphs: list[tuple[tuple[str, str], list[str]]] = []
    box: list[float] = []
    words: list[str] = []

    def finish() -> None:
        if words:
            lines.append([" ".join(words), box])
            paragraphs[-1][1].append(" ".join(words))

    for row in csv.DictReader(io.StringIO(tsv), delimiter="\t", quoting=csv.QUOTE_NONE):
        if row["level"] == "4":
            finish()
            left, top = float(row["left"]), float(row["top"])
            corners = [left, top, left + float(row["width"]), top + float(row["height"])]
            box, words = [value / scale for value in corners], []
            place = (row["block_num"], row["par_num"])
            if not paragraphs or paragraphs[-1][0] != place:
                paragraphs.append((place, []))
        elif row["level"] == "5" and (row["text"] or "").strip():
            words.append(row["text"].strip())
    finish()
    return lines, [" ".join(texts) for _, texts in paragraphs if texts]


def start(engine: str, model: str) -> tuple[Read, str]:
    if engine.startswith("multiway-"):
        return multiway(engine.removeprefix("multiway-"), model)
    if engine == "rapidocr":
        return rapidocr()
    return tesseract(engine == "tesseract-tuned")


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, where it is
    engine, model = sys.argv[1], sys.argv[2]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not mix with the answers

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    read, version = start(engine, model)
    answer({"version": version, "startup_cpu_seconds": time.process_time()})
    for row in sys.stdin:
        request = json.loads(row)
        forget_peak_rss()
        wall, cpu = time.perf_counter(), time.process_time()
        result = read(Path(request["path"]), request["task"])
        result["cpu_seconds"] = time.process_time() - cpu + result.pop("child_cpu_seconds", 0.0)
        result["wall_seconds"] = time.perf_counter() - wall
        result["peak_rss_bytes"] = max(peak_rss(), result.pop("child_peak_rss_bytes", 0))
        answer(result)


if __name__ == "__main__":
    main()
