"""Every reader of files, with a small corpus that is made here: no file of it is kept."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """A reader and whole files that it reads.

    Attributes:
        name: of the file that it is given; its ending matters to some readers.
        corpus: writes whole files into a folder.
        read: takes a path to the end; raises nothing but errors of ours.
    """

    name: str
    corpus: Callable[[Path], None]
    read: Callable[[Path], object]

    def seeds(self) -> list[bytes]:
        """The contents of the corpus, in order of names."""
        with tempfile.TemporaryDirectory() as folder:
            self.corpus(Path(folder))
            return [path.read_bytes() for path in sorted(Path(folder).iterdir())]


def _events(name: str, format: str | None = None) -> Target:
    def corpus(folder: Path) -> None:
        import numpy as np
        from multiway_event_vision.events import Events
        from multiway_event_vision.formats import write_events

        generator = np.random.default_rng(0)
        for count in (0, 1, 40):
            t = np.sort(generator.integers(0, 5000, count))
            x, y, p = (generator.integers(0, high, count) for high in (64, 48, 2))
            write_events(folder / f"{count}-{name}", Events.from_arrays(t, x, y, p, 64, 48), format=format)

    return Target(name, corpus, _read_events)


def _read_events(path: Path) -> None:
    from multiway_event_vision.formats import open_events

    for events in open_events(path, size=(64, 48)).chunks():
        events.check()


def _literal(*contents: bytes) -> Callable[[Path], None]:
    def corpus(folder: Path) -> None:
        for number, content in enumerate(contents):
            (folder / f"{number:03}").write_bytes(content)

    return corpus


def _gguf(folder: Path) -> None:
    import torch
    from multiway_text import gguf

    metadata = {
        "general.architecture": "llama",
        "a.count": 7,
        "a.rate": 0.5,
        "tokenizer.ggml.tokens": ["a", "b"],
    }
    quantised = gguf.GGUFTensor(2, (2, 32), torch.arange(36, dtype=torch.uint8))
    tensors = {"w": gguf.floating(torch.ones(3, 5)), "q": quantised}
    gguf.write(folder / "a.gguf", metadata, tensors)


def _read_gguf(path: Path) -> None:
    from multiway_text import gguf

    file = gguf.read(path)
    for name in file.tensors:
        file.floats(name)


def _squad(folder: Path) -> None:
    from multiway_text.data.squad import Answer, Question, write_squad

    found = Question("1", "Where?", "Anna lives in Paris.", (Answer("Paris", 14),), "", (), "A")
    none = Question("2", "When?", found.context, (), "", (Answer("Anna", 0),), "A")
    write_squad(folder / "a.json", [found, none])


def _read_squad(path: Path) -> None:
    from multiway_text.data.squad import read_squad, write_squad

    write_squad(path, read_squad([str(path)]))


def _tensors(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.ones(3, 2), "b": torch.zeros(4, dtype=torch.int8)}, folder / "a")


def _legacy(folder: Path) -> None:
    import torch

    torch.save({"model": {"a": torch.ones(3, 2)}}, folder / "a")
    torch.save({"a": torch.ones(3)}, folder / "b", _use_new_zipfile_serialization=False)


def _read_tensors(path: Path) -> None:
    from multiway_core import tensor_files

    tensors = tensor_files.read(path)
    for name in tensors:
        tensors[name].sum()


def _tokenizer(folder: Path) -> None:
    from multiway_core.tokenization import byte_bpe

    for number, size in enumerate((260, 300)):
        library = byte_bpe.train(["the quick brown fox jumps over the lazy dog " * 20], size)
        (folder / f"{number}.json").write_text(library.to_str())


def _read_tokenizer(path: Path) -> None:
    from multiway_core.tokenization import TextTokenizer

    tokenizer = TextTokenizer.from_folder(path.parent)
    tokenizer.decode(tokenizer.encode("the fox 12 ü"))


def _pictures(folder: Path) -> None:
    from PIL import Image

    picture = Image.linear_gradient("L").resize((24, 16)).convert("RGB")
    for kind in ("png", "jpeg", "webp", "bmp", "tiff", "gif"):
        picture.save(folder / kind, kind)


def _read_pages(path: Path) -> None:
    from multiway_document.pages import open_pages

    for page in open_pages(path):
        page.image.getbbox()


def _read_picture(path: Path) -> None:
    from multiway_vision_language.pictures import open_picture

    open_picture(path)


def _pdf(folder: Path) -> None:
    from reportlab.pdfgen import canvas

    page = canvas.Canvas(str(folder / "a.pdf"), pagesize=(80, 60), pageCompression=0)
    page.drawString(10, 20, "words")
    page.save()


def _sounds(folder: Path) -> None:
    import numpy as np
    import soundfile

    samples = np.sin(np.arange(1600) / 5)
    for kind in ("WAV", "FLAC", "OGG"):
        soundfile.write(folder / kind, samples, 16_000, format=kind)


def _read_sound(path: Path) -> None:
    from multiway_speech.audio import SoundFile, read

    read(SoundFile(path), 16_000, max_seconds=5)


def _read_script(path: Path) -> None:
    from multiway_core.data_files import read_text
    from multiway_speech.script import parse_script

    parse_script(read_text(path), voices=("emma",))


def _read_transcript(path: Path) -> None:
    from multiway_speech.vibevoice_asr.output import parse_output

    parse_output(path.read_bytes().decode("utf-8", "replace"), 60.0)


def _read_annotations(path: Path) -> None:
    from multiway_asr.references import read_annotations

    read_annotations(path)


def _read_news(path: Path) -> None:
    from multiway_recsys.data.mind_news import read_news

    read_news(path)


def _read_clicks(path: Path) -> None:
    from multiway_recsys.data.interactions import read_clicks

    read_clicks(path)


def _read_grounding(path: Path) -> None:
    from multiway_vision_language.grounded_text import parse

    parse(path.read_bytes().decode("utf-8", "replace"))


def _read_results(path: Path) -> None:
    from multiway_grounding.results_file import read_results

    read_results(path)


def _read_layout(path: Path) -> None:
    from multiway_core.data_files import read_json
    from multiway_document.result import page_from_json

    page_from_json(read_json(path))


def _read_hocr(path: Path) -> None:
    from multiway_document.datasets.hocr_truth import read_hocr

    read_hocr(path)


def _read_documents(path: Path) -> None:
    from multiway_text.documents import documents

    for document in documents([path]):
        str(document)


def _labels(folder: Path) -> None:
    import numpy as np
    from multiway_event_vision.labels import Boxes, write_prophesee_boxes

    values = {"t": [10, 20], "x": [1, 2], "y": [3, 4], "width": [5, 6], "height": [7, 8], "class_id": [0, 1]}
    boxes = Boxes.from_arrays(**{name: np.array(numbers) for name, numbers in values.items()})
    write_prophesee_boxes(folder / "a.npy", boxes)


def _read_labels(path: Path) -> None:
    from multiway_event_vision.labels import read_prophesee_boxes

    read_prophesee_boxes(path)


def _read_coco(path: Path) -> None:
    from multiway_event_vision.labels import read_coco_boxes

    read_coco_boxes(path)


def _read_config(path: Path) -> None:
    from multiway_core import config
    from multiway_text.decoders.llama.config import LlamaConfig

    config.load(LlamaConfig, path)


def _read_template(path: Path) -> None:
    from multiway_text.chat_template import ChatTemplate

    ChatTemplate(path.read_bytes().decode("utf-8", "replace"))


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


_COCO = {"images": [{"id": 1, "timestamp": 5}], "categories": [{"id": 1, "name": "car"}],
         "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]}  # fmt: skip
_PAGE = {"index": 0, "width": 30, "height": 20, "markdown": None, "truncated": False, "looped": False,
         "lines": [{"text": "a", "box": [1, 2, 3, 4], "confidence": 0.5, "flags": []}]}  # fmt: skip
_GROUNDING = {"schema": "multiway.grounding/1", "source": "a.png", "model": "m", "width": 9, "height": 9,
              "frame": "pixel", "text": "a cup", "tagged": "", "truncated": False, "problems": [],
              "entities": [{"phrase": "cup", "span": [2, 5], "present": 0.9,
                            "boxes": [{"xyxy": [1, 2, 3, 4], "cells": [1, 9], "confidence": 0.5}]}]}  # fmt: skip
_LLAMA = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "head_dim": 8, "inner_size": 32,
          "vocab_size": 300, "max_positions": 64, "norm_eps": 1e-5, "tied_embeddings": True}  # fmt: skip
_HOCR = b"""<html><body><div class='ocr_page'><span class='ocr_line' title="bbox 1 2 30 40">
<span class='ocrx_word' title='bbox 1 2 3 4; x_wconf 90'>word</span></span></div></body></html>"""
_EVT21 = b"% evt 2.1\n% geometry 64x48\n% end\n" + (8 << 60 | 5 << 32).to_bytes(8, "little")
_EVT21 += (1 << 60 | 9 << 54 | 32 << 43 | 7 << 32 | 0b1011).to_bytes(8, "little")
_AEDAT3 = b"#!AER-DAT3.1\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n" + bytes.fromhex(
    "0100010008000000040000000000000001000000010000000100000003000a0005000000"
)
_EVENT_STREAM = b"Event Stream\x02\x00\x00\x01\x40\x00\x30\x00" + bytes([4, 1, 0, 2, 0, 9, 3, 0, 4, 0])


@cache
def targets() -> dict[str, Target]:
    """All of them by a short name."""
    return {
        "dat": _events("a.dat"),
        "evt2": _events("a.raw", "evt2"),
        "evt3": _events("a.raw", "evt3"),
        "evt2.1": Target("a.raw", _literal(_EVT21), _read_events),
        "aedat3": Target("a.aedat", _literal(_AEDAT3), _read_events),
        "aedat4": _events("a.aedat4"),
        "es": Target("a.es", _literal(_EVENT_STREAM), _read_events),
        "bin": Target("a.bin", _literal(bytes(range(40))), _read_events),
        "npz": _events("a.npz"),
        "hdf5": _events("a.h5"),
        "events-csv": _events("a.csv"),
        "boxes-npy": Target("a.npy", _labels, _read_labels),
        "boxes-coco": Target("a.json", _literal(_json(_COCO)), _read_coco),
        "gguf": Target("a.gguf", _gguf, _read_gguf),
        "safetensors": Target("a.safetensors", _tensors, _read_tensors),
        "torch": Target("a.pt", _legacy, _read_tensors),
        "config": Target("config.json", _literal(_json(_LLAMA)), _read_config),
        "tokenizer": Target("tokenizer.json", _tokenizer, _read_tokenizer),
        "vocab": Target("vocab.txt", _literal(b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\n##x\n"), _read_tokenizer),
        "chat-template": Target(
            "chat_template.jinja",
            _literal(
                b"{% for m in messages %}{{ m['role'] | trim }}{% if loop.last %}x{% endif %}{% endfor %}"
            ),
            _read_template,
        ),
        "squad": Target("a.json", _squad, _read_squad),
        "texts-jsonl": Target(
            "a.jsonl", _literal(b'{"text": "a b"}\n{"text": "\\u00fc"}\n'), _read_documents
        ),
        "pictures": Target("a.png", _pictures, _read_picture),
        "pages": Target("a.tiff", _pictures, _read_pages),
        "pdf": Target("a.pdf", _pdf, _read_pages),
        "page-json": Target("a.json", _literal(_json(_PAGE)), _read_layout),
        "hocr": Target("a.hocr", _literal(_HOCR), _read_hocr),
        "sounds": Target("a.wav", _sounds, _read_sound),
        "script": Target(
            "a.txt", _literal(b"Speaker 1: Hello.\nEmma: [pause:500ms] And you?\n"), _read_script
        ),
        "transcript": Target(
            "a.txt",
            _literal(b'[{"Start": 0.0, "End": 1.5, "Speaker": 0, "Content": "Hello \\u00fc"}, {"Start": 2}]'),
            _read_transcript,
        ),
        "stm": Target(
            "a.stm", _literal(b"a 1 emma 0.0 1.5 <o,f0> hello there\n;; note\n"), _read_annotations
        ),
        "rttm": Target(
            "a.rttm", _literal(b"SPEAKER a 1 0.00 1.50 <NA> <NA> emma <NA> <NA>\n"), _read_annotations
        ),
        "mind-news": Target(
            "news.tsv",
            _literal(b'N1\tsports\tsoccer\tTitle\tAbstract\thttps://x\t[{"WikidataId": "Q5"}]\t[]\n'),
            _read_news,
        ),
        "clicks-csv": Target(
            "a.csv", _literal(b"user,item,time\nu1,i1,1600000000\nu2,i1,1600000009\n"), _read_clicks
        ),
        "grounded-text": Target(
            "a.txt",
            _literal(b"<phrase>a cup</phrase><object><patch_index_0044><patch_index_0863></object> on it"),
            _read_grounding,
        ),
        "results": Target("a.jsonl", _literal(_json(_GROUNDING) + b"\n"), _read_results),
    }
