"""``multiway-ocr read`` with the bundled model."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from multiway_document.export import EXTENSIONS
from multiway_document.result import Document
from PIL import Image

pytestmark = pytest.mark.usefixtures("needs_model")


@pytest.fixture
def no_model(monkeypatch):
    """Loading the model is a failure."""

    def fail(*arguments, **options):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("multiway_document.pipeline.OcrPipeline.from_pretrained", fail)


@pytest.fixture
def pdf(tmp_path):
    """Two pages with a text layer."""
    from reportlab.pdfgen.canvas import Canvas

    path = tmp_path / "born digital.pdf"
    canvas = Canvas(str(path), pagesize=(300, 200))
    for number in (1, 2):
        canvas.setFont("Helvetica", 18)
        canvas.drawString(30, 120, f"Digital page {number}")
        canvas.showPage()
    canvas.save()
    return path


def is_close(read: str, expected: str) -> bool:
    """Whether at least half of the characters are right: this tests the app, not the model."""
    from multiway_document.metrics import cer

    return cer(read, expected) < 0.5


def test_text_of_one_picture(page, call):
    code, out, err = call("read", page)
    assert code == 0
    assert err == ""
    assert is_close(out, "Hello from page one\nand its second line")
    assert len(out.splitlines()) == 2


def test_streamed_text_is_the_exported_text(page, call, tmp_path, draw):
    pages = [
        draw("first page"),
        Image.new("RGB", (300, 100), "white"),
        draw("third page\nof four"),
        draw("end"),
    ]
    tiff = tmp_path / "pages.tiff"
    pages[0].save(tiff, save_all=True, append_images=pages[1:])
    for path in (page, tiff):
        _, out, _ = call("read", path)
        call("read", path, "--output", tmp_path / "out")
        assert (tmp_path / "out" / (path.stem + ".txt")).read_text() == out
    assert out.count("\f") == 3


def test_json_follows_the_schema(page, call):
    code, out, _ = call("read", page, "--json")
    assert code == 0
    document = Document.from_json(json.loads(out))
    assert document.source == str(page)
    assert document.model == "bundled:ocr-small"
    (read,) = document.pages
    assert (read.width, read.height) == Image.open(page).size
    for line in read.lines:
        assert 0 <= line.box[0] < line.box[2] <= read.width
        assert 0 <= line.box[1] < line.box[3] <= read.height
    assert call("read", page, "--format", "json")[1] == out


def test_several_inputs_on_standard_output_stay_in_order(tmp_path, call, draw):
    paths = []
    for name in ("b", "a", "c"):
        paths.append(tmp_path / f"{name}.png")
        draw(f"picture {name}").save(paths[-1])
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    arguments = [paths[0], tmp_path / "bad.png", *paths[1:]]
    code, out, err = call("read", *arguments, "--json")
    assert code == 1
    assert [Path(item["source"]).name for item in json.loads(out)] == ["b.png", "a.png", "c.png"]
    assert len(err.splitlines()) == 1
    assert "bad.png" in err
    _, out, _ = call("read", *arguments, "--format", "jsonl")
    rows = [Document.from_json(json.loads(row)) for row in out.splitlines()]
    assert [Path(row.source).name for row in rows] == ["b.png", "a.png", "c.png"]
    _, out, _ = call("read", *arguments)
    assert out.count("\f") == 2


@pytest.mark.parametrize("format", list(EXTENSIONS))
def test_every_format_as_file(format, page, call, tmp_path):
    code, out, err = call("read", page, "--format", format, "--output", tmp_path / "out")
    assert (code, out) == (0, "")
    assert err == f"multiway-ocr: 1 written to {tmp_path / 'out'}\n"
    (path,) = (tmp_path / "out").iterdir()
    assert path.name == "page" + EXTENSIONS[format]
    data = path.read_bytes()
    assert len(data) > 20
    if format == "pdf":
        assert data.startswith(b"%PDF-")
    if format == "markdown":
        assert is_close(data.decode(), "Hello from page one and its second line")


def test_pdf_goes_to_a_pipe_as_it_is(page):
    result = subprocess.run(
        [sys.executable, "-m", "multiway_ocr", "read", page, "--format", "pdf"],
        capture_output=True,
        timeout=250,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == b""
    import pypdfium2

    assert len(pypdfium2.PdfDocument(io.BytesIO(result.stdout))) == 1


def test_a_bad_file_among_fifty_and_resuming(tmp_path, call, draw):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(49):
        draw(f"{number}", size=20, margin=6).save(folder / f"scan{number}.png")
    whole = (folder / "scan3.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])
    code, out, err = call("read", folder, "--output", tmp_path / "out")
    assert (code, out) == (1, "")
    lines = err.splitlines()
    assert len(lines) == 2
    assert "broken.png" in lines[0]
    assert lines[1] == f"multiway-ocr: 49 written to {tmp_path / 'out'}, 1 failed"
    outputs = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert len(outputs) == 49
    assert all(path.suffix == ".txt" for path in outputs)  # and nothing half-written

    (folder / "broken.png").write_bytes(whole)  # mended: only this one is read
    (tmp_path / "out" / "scan7.txt").unlink()
    code, _, err = call("read", folder, "--output", tmp_path / "out")
    assert code == 0
    assert err == f"multiway-ocr: 2 written to {tmp_path / 'out'}, 48 were there already\n"
    for path, time in outputs.items():
        assert path.name == "scan7.txt" or path.stat().st_mtime_ns == time


def test_overwrite_and_newer_sources(page, call, tmp_path):
    out = tmp_path / "out"
    call("read", page, "--output", out)
    (out / "page.txt").write_text("old")
    call("read", page, "--output", out)
    assert (out / "page.txt").read_text() == "old"
    call("read", page, "--output", out, "--overwrite")
    assert (out / "page.txt").read_text() != "old"
    (out / "page.txt").write_text("old")
    os.utime(out / "page.txt", (1, 1))
    call("read", page, "--output", out)
    assert (out / "page.txt").read_text() != "old"


def test_processes_give_the_same_and_bear_a_bad_file(tmp_path, call, draw):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        draw(f"number {number}").save(folder / f"{number}.png")
    (folder / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert call("read", folder, "--output", tmp_path / "one")[0] == 1
    code, out, err = call("read", folder, "--output", tmp_path / "two", "--jobs", "2", "--json")
    assert code == 1
    summary = json.loads(out)
    assert len(summary["done"]) == 3
    assert summary["skipped"] == []
    assert [Path(item["source"]).name for item in summary["failed"]] == ["2.png"]
    assert "2.png" in err
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()


def test_text_layers_need_no_model(pdf, call, no_model):
    code, out, err = call("read", pdf)
    assert (code, err) == (0, "")
    assert out == "Digital page 1\n\fDigital page 2\n"
    _, out, _ = call("read", pdf, "--pages", "2", "--json")
    document = json.loads(out)
    assert document["model"] == "pdf-text-layer"
    assert [page["index"] for page in document["pages"]] == [1]


def test_markdown_of_a_text_layer_has_its_exact_text(call, no_model, tmp_path):
    from reportlab.pdfgen.canvas import Canvas

    path = tmp_path / "article.pdf"
    canvas = Canvas(str(path), pagesize=(500, 400))
    canvas.setFont("Helvetica-Bold", 28)
    canvas.drawString(50, 340, "Rjukan & Zürich")
    canvas.setFont("Times-Roman", 13)
    for number, line in enumerate(
        ("The quay was built in 1911 from granite", "and it has been in use since then.")
    ):
        canvas.drawString(50, 290 - 17 * number, line)
    canvas.save()
    code, out, err = call("read", path, "--format", "markdown")
    assert (code, err) == (0, "")
    assert out.startswith("# Rjukan & Zürich\n\n")
    assert "The quay was built in 1911 from granite and it has been in use since then." in " ".join(
        out.split()
    )
    _, out, _ = call("read", path, "--format", "json", "--task", "markdown")
    assert json.loads(out)["model"] == "pdf-text-layer"


def test_force_ocr_reads_the_picture(pdf, call):
    code, out, _ = call("read", pdf, "--force-ocr", "--pages", "1", "--json")
    assert code == 0
    document = Document.from_json(json.loads(out))
    assert document.model == "bundled:ocr-small"
    assert is_close(document.text, "Digital page 1")


def test_globs_are_expanded_here_too(tmp_path, call, draw):
    for name in ("x1.png", "x2.png", "y.png"):
        draw("glob").save(tmp_path / name)
    code, _, _ = call("read", tmp_path / "x*.png", "--output", tmp_path / "out")
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["x1.txt", "x2.txt"]


def test_a_name_that_is_not_utf8(tmp_path, call, draw):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    try:
        draw("odd name").save(path)
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    code, out, _ = call("read", path, "--json")
    assert code == 0
    assert json.loads(out)["source"].endswith("caf\ufffd.png")
    code, _, _ = call("read", path, "--output", tmp_path / "out")
    assert code == 0
    assert [os.fsencode(item.name) for item in (tmp_path / "out").iterdir()] == [b"caf\xe9.txt"]
    path.write_bytes(b"")
    code, _, err = call("read", path)
    assert code == 2
    assert "caf" in err


def test_alike_names_get_outputs_of_their_own(tmp_path, call, draw):
    for name in ("a/scan.png", "b/scan.png", "b/scan.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        draw(name).save(tmp_path / name)
    arguments = ["read", tmp_path / "a", tmp_path / "b", "--output", tmp_path / "out"]
    assert call(*arguments)[0] == 0
    assert len(list((tmp_path / "out").iterdir())) == 3
    _, _, err = call(*arguments)
    assert "3 were there already" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], r"nowhere\.png: no such file"),
        (["{page}", "--json", "--format", "tsv"], "--json and --format tsv"),
        (["{page}", "{page2}", "--format", "hocr"], "--format hocr of 2 inputs needs --output"),
        (["{page}", "--output", "{page}"], "is a file; give a folder"),
        (["{page}", "--format", "docx"], "docx"),
        (["{page}", "--jobs", "0"], "--jobs"),
        (["{page}", "--model", "bundled:no-such-model"], "no bundled model"),
        (["{page}", "--device", "cuda:77"], "cuda:77"),
        (["{page}", "--dtype", "int3"], "--dtype int3"),
        (["{page}", "--pages", "7-9"], ""),
        (["{page}", "--pages", "banana"], "banana"),
        (["{page}", "--engine", "slow"], "slow"),
        (["{empty}"], "empty.png"),
        (["{folder}"], "holds no file"),
        (["{page}", "--output", "/proc/nothing/here"], "cannot write"),
        ([], "Missing argument"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, message, page, tmp_path, call, draw):
    draw("2").save(tmp_path / "page2.png")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    places = {
        "page": page,
        "page2": tmp_path / "page2.png",
        "empty": tmp_path / "empty.png",
        "folder": tmp_path / "folder",
    }
    code, out, err = call("read", *(argument.format(**places) for argument in arguments))
    assert (code, out) == (2, "")
    lines = [line for line in err.splitlines() if "written to" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("multiway-ocr: ")
    assert re.search(message, lines[0])


def test_one_missing_of_two_is_exit_code_1(page, call, tmp_path):
    code, out, err = call("read", page, tmp_path / "nowhere.png")
    assert code == 1
    assert out
    assert "nowhere.png" in err


def test_a_reader_that_stops_early(tmp_path, draw):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        draw("\n".join(f"line {number}" for number in range(4))).save(path)
    command = [sys.executable, "-m", "multiway_ocr", "read", *paths, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=250) == 141


def test_reading_imports_neither_torch_nor_scipy(page, needs_model):
    code = (
        "import sys\nfrom multiway_ocr.app import APP\n"
        "try: APP.main()\nexcept SystemExit: pass\n"
        "print({'torch', 'scipy', 'fontTools', 'pikepdf'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, "read", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
    assert "second line" in done.stdout
