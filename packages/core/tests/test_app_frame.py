"""Where demos keep files, and how they start behind a proxy or on a slow machine."""

import os
import socket
import stat
import sys

import httpx
import pytest
from multiway_core import files
from multiway_core.app import (
    App,
    download_buttons,
    examples_folder,
    frame,
    launch,
    named_as_uploaded,
    repository_examples,
    run_and_stop,
    viewer,
)
from multiway_core.app.examples import private_folder
from multiway_core.errors import CheckpointError, DataError, InputError

APP = App("tiny-task", "Tiny", "Does little.", cli="x:cli")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "multiway"


def test_examples_lie_in_a_folder_of_this_user_alone(cache):
    folder = examples_folder(APP)
    assert folder == cache / "examples" / "tiny-task"
    assert [mode(path) for path in (folder, folder.parent, cache)] == [0o700] * 3
    cache.joinpath("examples").chmod(0o755)
    assert mode(examples_folder(APP).parent) == 0o700


def test_a_planted_link_or_a_stranger_s_folder_is_not_used(cache, tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.mkdir()
    cache.mkdir(parents=True)
    (cache / "examples").symlink_to(victim)
    folder = examples_folder(APP)
    assert victim not in (folder, *folder.parents)
    assert mode(folder.parent) == 0o700
    assert list(victim.iterdir()) == []
    (cache / "open").mkdir()
    (cache / "open").chmod(0o777)
    assert cache not in private_folder("open").parents
    monkeypatch.setattr(files.os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    assert cache not in private_folder("strange").parents


def test_the_repository_s_examples_are_copied(cache, tmp_path, monkeypatch):
    package = tmp_path / "apps" / "tiny-task" / "src" / "multiway_tiny_task"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (tmp_path / "examples").mkdir()
    for name in ("b.png", "a.PNG", "c.txt"):
        (tmp_path / "examples" / name).write_text(name)
    monkeypatch.syspath_prepend(str(package.parent))
    found = repository_examples(APP, {".png"})
    sys.modules.pop("multiway_tiny_task", None)
    assert found == [cache / "examples" / "tiny-task" / name for name in ("a.PNG", "b.png")]
    assert found[0].read_text() == "a.PNG"


def test_an_error_names_an_upload_as_its_owner_does(tmp_path):
    path = tmp_path / "scan.png"
    with pytest.raises(DataError, match=r"^scan\.png: line 3"), named_as_uploaded(path):
        raise DataError(f"{path}: line 3")
    with pytest.raises(CheckpointError, match=str(path)), named_as_uploaded(path):
        raise CheckpointError(f"{path} is no model")


def test_a_page_of_shared_parts(cache, tmp_path, monkeypatch):
    viewer_files = tmp_path / "multiway_tiny_task" / "viewer"
    viewer_files.mkdir(parents=True)
    (viewer_files.parent / "__init__.py").write_text("")
    for ending in ("html", "css", "js"):
        (viewer_files / f"list.{ending}").write_text(ending)
    monkeypatch.syspath_prepend(str(tmp_path))
    with frame("Tiny", "Does little.") as blocks:
        view = viewer(APP, [1], "tiny-list", name="list")
        run, stop = run_and_stop("Run", "tiny-batch-run")
        buttons = download_buttons({"csv": "CSV", "json": "JSON"}, "tiny", min_width=90)
    sys.modules.pop("multiway_tiny_task", None)
    assert (view.value, view.html_template, view.css_template, view.js_on_load) == ([1], "html", "css", "js")
    assert [part.elem_id for part in (run, stop)] == ["tiny-batch-run", "tiny-batch-stop"]
    assert [button.elem_id for button in buttons] == ["tiny-get-csv", "tiny-get-json"]
    assert all(part in blocks.blocks.values() for part in (view, run, stop, *buttons))


def page():
    with frame("Tiny", "Does little.") as blocks:
        pass
    return blocks


def test_gradio_s_files_are_private(cache, monkeypatch):
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    page()
    assert os.environ["GRADIO_TEMP_DIR"] == str(cache / "gradio")
    assert mode(cache / "gradio") == 0o700


def test_a_demo_starts_behind_a_proxy_that_is_not_there(cache, monkeypatch):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.setenv("NO_PROXY", "example.org")
        monkeypatch.delenv("no_proxy", raising=False)
        blocks = page()
        url = launch(blocks, block=False)
        try:
            assert httpx.get(url, trust_env=False).status_code == 200
        finally:
            blocks.close(verbose=False)
    assert os.environ["NO_PROXY"] == "example.org,localhost,127.0.0.1,::1"
    monkeypatch.setenv("no_proxy", "")  # restored behind the test


def test_a_page_that_answers_late_is_asked_again_and_no_tunnel_is_advised(cache, monkeypatch):
    import gradio

    answers = [False, True]
    monkeypatch.setattr(gradio.networking, "url_ok", lambda url: answers.pop(0))
    blocks = page()
    url = launch(blocks, block=False)
    assert httpx.get(url, trust_env=False).status_code == 200
    blocks.close(verbose=False)
    monkeypatch.setattr(gradio.networking, "url_ok", lambda url: False)
    with pytest.raises(InputError, match="does not answer on this machine") as error:
        launch(page(), block=False)
    assert "share" not in str(error.value)


def test_values_that_no_component_takes_get_a_message(cache):
    import gradio

    with frame("Tiny", "Does little.") as blocks:
        number, text = gradio.Number(), gradio.Textbox()
        gradio.Button("go").click(lambda n: f"{n + 1}", number, text, api_name="go")
    url = launch(blocks, block=False)
    try:
        assert httpx.get(f"{url}config", headers={"Host": "rebound.example"}).status_code == 421
        answers = []
        for values in (["x"], [{"path": "/etc/passwd"}], [[1]], []):
            call = httpx.post(f"{url}gradio_api/call/go", json={"data": values})
            answers.append(httpx.get(f"{url}gradio_api/call/go/{call.json()['event_id']}", timeout=30).text)
    finally:
        blocks.close(verbose=False)
    assert all("event: error" in answer and "this page does not take" in answer for answer in answers), (
        answers
    )
    assert not any('"error": null' in answer or "passwd" in answer for answer in answers)
