"""The commands, from web archives to a folder that a training reads."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest
from multiway_corpus.examples import EXAMPLES
from multiway_text.documents import TextFiles
from multiway_text.redstone.storage import read_records


@pytest.fixture
def command(capfd):
    """Runs the command line in this process: (exit code, standard output, standard error)."""
    from multiway_core.app.command import run
    from multiway_corpus.cli import cli

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            run(cli, [str(argument) for argument in arguments], name="multiway-corpus")
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def site(tmp_path):
    """A folder with the examples as pages."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name, (_, html) in EXAMPLES.items():
        (folder / f"{name.split()[-1]}.html").write_text(html)
    return folder


@pytest.fixture
def archive(site, tmp_path, command):
    path = tmp_path / "site.warc.gz"
    assert command("pack", site, "-o", path, "--base", "http://example.org/")[0] == 0
    return path


def test_a_build_is_counted_inspected_and_read_by_a_training(archive, tmp_path, command):
    output = tmp_path / "corpus"
    broken = tmp_path / "broken.warc.gz"
    broken.write_bytes(archive.read_bytes()[:-200] + b"\xff" * 40)
    code, out, err = command("build", archive, broken, "-o", output, "--extractor", "resiliparse", "--json")
    report = json.loads(out)
    assert code == 0, err
    assert report["kept"] == 1
    assert report["bad_records"][0].startswith("broken.warc.gz, offset ")
    assert report["dropped"]["duplicate"] == 1
    (text,) = (document.text for document in TextFiles([output]))
    assert "herons walked" in text
    assert "17 comments" not in text
    code, out, _ = command("stats", output, "--plot", tmp_path / "stats.png")
    assert "| duplicate" in out
    assert "broken.warc.gz, offset" in out
    assert (tmp_path / "stats.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = command("inspect", output, "--uri", "http://example.org/shop.html")
    assert "DROPPED  document: " in out
    assert "<- drops" in out


def test_a_stopped_build_resumes_to_the_same_bytes(archive, tmp_path, command):
    inputs = []
    for number in range(6):
        inputs.append(tmp_path / f"{number}.warc.gz")
        inputs[-1].write_bytes(archive.read_bytes() * 15)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    options = ["--extractor", "resiliparse", "--no-dedup"]
    assert command("build", *inputs, "-o", whole, *options, "--workers", 2)[0] == 0
    arguments = [
        sys.executable,
        "-m",
        "multiway_corpus",
        "build",
        *map(str, inputs),
        "-o",
        str(stopped),
        *options,
    ]
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and len(list(stopped.glob("work/*.records"))) < 2:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (stopped / "report.json").exists()
    code, _, err = command("build", *inputs, "-o", stopped, *options)
    assert code == 0
    assert "of 6 inputs are done already" in err
    parts = [sorted(path.name for path in folder.glob("part-*")) for folder in (whole, stopped)]
    assert len(parts[0]) == 6
    assert parts[0] == parts[1]
    for name in parts[0]:
        assert (whole / name).read_bytes() == (stopped / name).read_bytes()
    assert "is complete" in command("build", *inputs, "-o", stopped, *options)[2]
    code, _, err = command("build", *inputs[:2], "-o", stopped, *options)
    assert (code, "build of other inputs or options" in err) == (2, True)


def test_an_input_that_is_no_archive_costs_only_itself(archive, tmp_path, command):
    (tmp_path / "bad.warc.gz").write_bytes(gzip.compress(b"no archive"))
    output = tmp_path / "corpus"
    code, out, err = command(
        "build", tmp_path / "bad.warc.gz", archive, "-o", output, "--extractor", "resiliparse"
    )
    assert code == 1
    assert "bad.warc.gz: no WARC file" in err
    assert "Failed inputs" in out
    (tmp_path / "bad.warc.gz").write_bytes(archive.read_bytes())
    assert command("build", tmp_path / "bad.warc.gz", "-o", output)[0] == 2  # another build


@pytest.mark.parametrize(
    ("engine", "package"),
    [("ray", "ray"), ("spark", "pyspark"), ("datatrove", "datatrove"), ("local", "json")],
)
@pytest.mark.timeout(600)
def test_every_engine_writes_the_same_bytes(archive, tmp_path, command, engine, package):
    if find_spec(package) is None:
        pytest.skip(f"no {package}")
    if engine == "spark" and not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        pytest.skip("Spark needs a Java runtime")
    inputs = [archive, *(tmp_path / f"{number}.warc.gz" for number in range(4)), tmp_path / "bad.warc.gz"]
    for path in inputs[1:]:
        path.write_bytes(archive.read_bytes())
    inputs[-1].write_bytes(b"no archive")
    options = ["--extractor", "resiliparse", "--dedup-lines", "--json"]
    reports, files = [], []
    for arguments in ([], ["--engine", engine, "--workers", 2]):
        output = tmp_path / f"corpus-{len(files)}"
        code, out, err = command("build", *inputs, "-o", output, *options, *arguments)
        assert (code, "bad.warc.gz: no WARC file" in err) == (1, True), err
        reports.append({key: value for key, value in json.loads(out).items() if key != "seconds"})
        files.append(
            {path.name: path.read_bytes() for path in output.rglob("0000*") if "drop" in path.parts[-2]}
        )
        files[-1] |= {path.name: path.read_bytes() for path in output.glob("part-*")}
    assert reports[0] == reports[1]
    assert files[0] == files[1]
    assert len(files[0]) == 2 * 5


@pytest.mark.parametrize(
    ("engine", "package"), [("ray", "ray"), ("spark", "pyspark"), ("datatrove", "datatrove")]
)
def test_an_engine_that_is_missing(archive, tmp_path, command, monkeypatch, engine, package):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = command("build", archive, "-o", tmp_path / "o", "--engine", engine)
    assert (code, len(err.splitlines())) == (2, 1)
    assert f"--engine {engine} needs {package}: pip install 'multiway-corpus[{engine}]'" in err
    assert not (tmp_path / "o").exists()


def test_dedup_of_texts(tmp_path, command):
    path = tmp_path / "texts.jsonl"
    text = " ".join(f"word{i * i}" for i in range(80))
    path.write_text(
        "".join(json.dumps({"text": t}) + "\n" for t in (text, text + " end", "short", "other " + text[::-1]))
    )
    assert command("dedup", path, "-o", tmp_path / "unique", "--format", "jsonl")[0] == 0
    assert len(list(TextFiles([tmp_path / "unique"]))) == 3
    _, out, _ = command("inspect", tmp_path / "unique")
    assert "duplicate: of sha1:" in out
    path.write_text(json.dumps({"text": text + "\nSign in\nsign in!"}) + "\nno json\n")
    code, out, _ = command("dedup", path, "-o", tmp_path / "lines", "--dedup-lines", "--json")
    report = json.loads(out)
    assert (code, report["kept"], report["repeated_lines"]) == (0, 1, 1)
    assert report["bad_records"] == [
        "texts.jsonl, offset 2: archive: no JSON object with a field text, which is text"
    ]


def test_a_classifier_is_trained_measured_and_filters(tmp_path, command):
    rng = random.Random(0)
    words = {"math": "proof lemma matrix integral", "shop": "boots basket price sale"}
    rows = [
        {
            "text": " ".join(rng.choices(words[label].split() + ["the", "of", "and"], k=20)),
            "label": label,
            "n": n,
        }
        for n in range(60)
        for label in words
    ]
    path, model = tmp_path / "labelled.jsonl", tmp_path / "math.safetensors"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = command("train-classifier", path, "-o", model, "--domain", "math", "--json")
    report = json.loads(out)
    assert (code, report["trained_on"], report["held_out"]) == (0, 108, 12)
    assert report["precision"] == report["recall"] == 1
    output = tmp_path / "filtered"
    options = ["--recipe", "texts", "--classifier", model, "--format", "jsonl"]
    assert command("filter", path, "-o", output, *options)[0] == 0
    kept = list(read_records(output / "part-00000.jsonl.zst"))
    assert {record.meta["source"]["label"] for record in kept} == {"math"}
    assert len(kept) == 60
    assert command("train-classifier", path, "-o", model, "--domain", "math")[0] == 2  # exists
    code, _, err = command("train-classifier", path, "-o", model, "--domain", "x", "--overwrite")
    assert (code, "too few texts of the label 'x'" in err) == (2, True)
    code, _, err = command("filter", path, "-o", tmp_path / "o", "--classifier", path)
    assert (code, "no classifier of texts" in err) == (2, True)


def test_evaluation_on_labelled_pages(tmp_path, command):
    article = EXAMPLES["An article"][1]
    rows = [
        {"html": article, "label": "keep", "group": 1},
        {"html": article.replace("17 comments", "18 comments"), "label": "keep", "group": 1},
        {"html": article, "label": "document"},
        {"html": EXAMPLES["A shop"][1], "label": "document"},
        {"text": "In der Nacht regnete es auf den Hügeln. " * 9, "label": "language"},
        {"text": "Too short to be kept, this text is.", "label": "keep"},
    ]
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = command("evaluate", path, "--extractor", "resiliparse", "--json")
    metrics = {name: metric["mean"] for name, metric in json.loads(out)["metrics"].items()}
    assert code == 0
    assert metrics == pytest.approx({
        "keep, precision": 2 / 3,
        "keep, recall": 2 / 3,
        "language, precision": 1,
        "language, recall": 1,
        "document, precision": 1 / 2,
        "document, recall": 1 / 2,
        "duplicates, precision": 1,
        "duplicates, recall": 1,
        "duplicates, F1": 1,
    })  # fmt: skip
    path.write_text('{"text": "no label"}\n')
    code, _, err = command("evaluate", path)
    assert (code, "labelled.jsonl:1: expected a row with text or html, and label" in err) == (2, True)


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_an_index_leads_back_to_the_same_text(archive, tmp_path, command, form):
    output, index, fetched = tmp_path / "corpus", tmp_path / "index.parquet", tmp_path / "fetched"
    options = ["--extractor", "resiliparse", "--format", form]
    assert command("build", archive, "-o", output, *options)[0] == 0
    assert command("index", output, "-o", index, "--prefix", "crawl/../")[0] == 0  # a hostile path
    assert command("fetch-index", index, "-o", fetched, "--base-url", "file:///absent/")[0] == 2
    (tmp_path / "crawl").mkdir()
    base = tmp_path.as_uri() + "/"
    code, _, err = command("fetch-index", index, "-o", fetched, "--base-url", base)
    assert code == 0
    assert "1 of 1 pages" in err
    assert [path.parent for path in tmp_path.rglob("*.warc.gz") if path != archive] == [fetched]
    again = tmp_path / "again"
    assert command("build", fetched, "-o", again, *options)[0] == 0
    texts = [[document.text for document in TextFiles([folder])] for folder in (output, again)]
    assert texts[0] == texts[1] != []
    assert command("fetch-index", archive, "-o", fetched)[0] == 2


def test_inspections(site, archive, tmp_path, command):
    _, out, _ = command("inspect", site / "Formulas.html", "--recipe", "math", "--json")
    found = json.loads(out)
    assert (found["drop_reason"], found["schema"]) == ("", "multiway.corpus.inspection/1")
    assert found["meta"]["math_commands"] >= 5
    page = tmp_path / "why.html"
    _, out, _ = command(
        "inspect", archive, "--uri", "http://example.org/shop.html", "--html", page, "--rule", "words=5000.."
    )
    assert "DROPPED  document: words" in out
    assert "<div class='verdict dropped'>Dropped: document: words</div>" in page.read_text()
    hostile = tmp_path / "hostile.html"
    hostile.write_text(
        "<html><body><p>\x1b[31m&lt;script&gt;alert(1)&lt;/script&gt; and words to be read.</p></body></html>"
    )
    _, out, _ = command("inspect", hostile, "--language", "any", "--min-language-score", 0, "--html", page)
    assert "\x1b" not in out
    assert "<script>" not in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "{}/absent", "-o", "{}/o"], "no such file or folder"),
        (["build", "{}/site.warc.gz", "-o", "{}/o", "--rule", "x=1.."], "no rule 'x'; there are words"),
        (["build", "{}/site.warc.gz", "-o", "{}/o", "--rule", "words=1"], "expected NAME=MIN..MAX"),
        (["build", "{}/site.warc.gz", "-o", "{}/site"], "is not empty and holds no build"),
        (["build", "{}/site.warc.gz", "-o", "{}/o", "--language-model", "{}/x"], "no such file"),
        (["inspect", "{}/absent"], "no such file, and no folder of a complete build"),
        (["inspect", "{}/site.warc.gz", "--uri", "http://x/"], "no page 'http://x/'"),
        (["stats", "{}/site"], "is no complete build"),
        (["pack", "{}/site", "-o", "{}/site.warc.gz"], "exists; give another name"),
    ],
)
def test_bad_input_is_one_line(archive, tmp_path, command, arguments, message):
    code, _, err = command(*(argument.format(tmp_path) for argument in arguments))
    assert code == 2
    assert message in err.splitlines()[0]
    assert "Traceback" not in err


def test_the_demo_shows_what_the_command_finds():
    from multiway_corpus.demo import build_demo, pipeline
    from multiway_corpus.inspection import traced
    from multiway_corpus.view import fragment
    from multiway_text.redstone.record import Record

    assert build_demo().fns
    record = Record("page", "", EXAMPLES["A shop"][1].encode())
    strict = traced(record, pipeline("web", "resiliparse", "words", 50, None))
    assert strict.record.drop_reason.startswith("document: ")
    assert "class='breaks'" in fragment(strict)
    broken = [value.rule for value in strict.values if not value.keeps]
    other = traced(record, pipeline("web", "resiliparse", broken[0], 0, None))
    assert broken[0] not in [value.rule for value in other.values if not value.keeps]
