"""The demo over HTTP: reading, a crowd of visitors, and visitors who want what is not theirs."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from multiway_core.app import launch
from multiway_document.export import EXTENSIONS
from multiway_document.result import Document, Line, Page
from PIL import Image

pytestmark = pytest.mark.usefixtures("needs_model")


@pytest.fixture(scope="module")
def url():
    from multiway_ocr.demo import build_demo

    blocks = build_demo(device="cpu")
    yield launch(blocks, block=False)
    blocks.close(verbose=False)


@pytest.fixture(scope="module")
def client(url):
    return Client(url, verbose=False)


@pytest.fixture
def small(tmp_path, draw):
    path = tmp_path / "small.png"
    draw("Hello").save(path)
    return path


def read(client: Client, path: Path, *, task="ocr", engine="fast", page=1):
    return client.predict(handle_file(str(path)), task, engine, page, api_name="/read")


def test_a_program_reads_a_page(client, small):
    document = Document.from_json(read(client, small))
    assert document.model == "bundled:ocr-small"
    assert document.pages[0].width == Image.open(small).width
    assert document.text


def test_twenty_visitors_at_once_are_all_answered(url, client, tmp_path, draw):
    paths = []
    for number in range(20):
        paths.append(tmp_path / f"{number}.png")
        draw(f"No. {number}").resize((100 + number, 60)).save(paths[-1])

    def visit(number):
        return Client(url, verbose=False).predict(
            handle_file(str(paths[number])), "ocr", "fast", 1, api_name="/read"
        )

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(visit, range(20)))
    # every visitor got the answer to the own picture
    assert [answer["pages"][0]["width"] for answer in answers] == [100 + number for number in range(20)]


def test_other_files_of_the_machine_are_refused(url, client):
    secret = Path(__file__).resolve()
    for path in (str(secret), f"../../../../../../..{secret}", "/etc/passwd"):
        with pytest.raises(Exception, match=r"(?i)not|invalid|error") as error:
            client.predict(
                {"path": path, "meta": {"_type": "gradio.FileData"}}, "ocr", "fast", 1, api_name="/read"
            )
        assert "root:" not in str(error.value)
        for address in (
            f"{url}gradio_api/file={path}",
            f"{url}file={path}",
            f"{url}gradio_api/file=%2e%2e{path}",
        ):
            assert httpx.get(address, timeout=60).status_code in (400, 403, 404)


def test_uploads_over_the_limit_are_refused(url):
    with httpx.Client(timeout=120) as http:
        answer = http.post(f"{url}gradio_api/upload", files={"files": ("big.png", b"\0" * (21 * 2**20))})
    assert answer.status_code == 413


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_a_bad_file_is_a_message(client, tmp_path, content):
    path = tmp_path / "<b>bad.png"
    path.write_bytes(content)
    with pytest.raises(Exception) as error:
        read(client, path)
    assert "bad" in str(error.value)
    assert "<b>" not in str(error.value)
    assert "/tmp" not in str(error.value)
    assert "Traceback" not in str(error.value)


def test_nothing_chosen_is_a_message(client):
    with pytest.raises(Exception, match="choose a picture or a PDF first"):
        client.predict(None, "ocr", "fast", 1, api_name="/read")


def test_no_telemetry_and_no_foreign_address_in_the_page(url):
    config = httpx.get(f"{url}config", timeout=60).json()
    assert config["analytics_enabled"] is False
    page = httpx.get(url, timeout=60).text
    for host in ("googleapis", "gstatic", "cdnjs", "jsdelivr"):
        assert host not in page


def test_the_reading_streams_and_ends_with_every_download(page):
    from multiway_ocr.demo import DemoReader, write_download
    from multiway_ocr.reader import ReadOptions

    session = DemoReader(ReadOptions(device="cpu"))
    count, before = session.preview(page, 1)
    assert count == 1
    assert before["image"].startswith("data:image/jpeg;base64,")
    assert before["lines"] == []
    values = list(session.read(page, "ocr", "fast", 1))
    assert [document is None for _, document, _ in values] == [True] * (len(values) - 1) + [False]
    counts = [len(value["lines"]) for value, _, _ in values]
    assert counts == sorted(counts)
    assert counts[-1] == 2
    value, document, export = values[-1]
    assert json.dumps(value)
    assert "2 lines" in value["summary"]
    for name in EXTENSIONS:
        path = write_download(page.parent, page, name, export)
        assert Path(path).name == "page" + EXTENSIONS[name]
        assert Path(path).stat().st_size > 20
    assert document.source == "page.png"


def test_markdown_is_shown_without_markup_or_pictures_of_strangers():
    from multiway_ocr.demo import rendered_markdown

    text = "# Title\n\n<script>alert(1)</script>\n\n![x](http://example.com/spy.png) [y](javascript:alert(1))\n\n"
    table = "| a | b |\n|---|---|\n| **1** | 2 |\n"
    page = Page(0, 10, 10, (Line("x", (0, 0, 1, 1), 1.0),), markdown=text + table)
    html = rendered_markdown(Document("x.png", "m", (page,)))
    assert "<h1>Title</h1>" in html
    assert "<strong>1</strong>" in html
    for forbidden in ("<script", "<img", 'href="javascript'):
        assert forbidden not in html


def test_too_many_pixels_are_refused_in_words(tmp_path):
    from multiway_core.errors import InputError
    from multiway_ocr.demo import DemoReader
    from multiway_ocr.reader import ReadOptions

    path = tmp_path / "large.png"
    Image.new("1", (9000, 9000), 1).save(path)
    with pytest.raises(InputError):
        DemoReader(ReadOptions()).preview(path, 1)
