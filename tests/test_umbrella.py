"""The umbrella with fake installed apps: one that works, one whose import fails, one that fails at work."""

import json
import re
import socket
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest
from multiway_core.app import installed_apps, run
from multiway_core.app.serve.hosts import allowed_hosts

from multiway.cli import cli
from multiway.home import build_home
from tests.serving import serving

APPS = """
    from multiway_core.app import App
    from multiway_core.errors import InputError
    from multiway_core.evaluation import Sample, evaluate

    def demo():
        import gradio as gr
        with gr.Blocks() as blocks:
            name = gr.Textbox(label="name")
            name.submit(lambda text: f"hello {text}", name, gr.Textbox(label="greeting"), api_name="greet")
        return blocks

    def quick():
        samples = [Sample(str(i), i, i + 1) for i in range(5)]
        return evaluate(samples, lambda x: x, {"error": lambda p, t: t - p}, name="quick | test")

    def fail():
        raise InputError("the model is not there")

    GOOD = App("good", "Good app", "Does good.", "x:cli", demo, quick)
    SAD = App("sad", "Sad app", "Fails.", "x:cli", fail, fail)
    BARE = App("bare", "Bare app", "Only a command.", "x:cli")
"""


def install(folder, monkeypatch, entry_points):
    (folder / "fake_multiway_apps.py").write_text(textwrap.dedent(APPS))
    (folder / "broken_multiway_app.py").write_text("import a_dependency_that_is_not_there\n")
    info = folder / "fake_apps-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-apps\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[multiway.apps]\n" + entry_points)
    # Only the fake distribution is seen: these tests do not depend on which apps are installed.
    import importlib.metadata

    real = importlib.metadata.entry_points
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(
        "multiway_core.app.registry.importlib.metadata.entry_points",
        lambda group: [point for point in real(group=group) if point.dist.name == "fake-apps"],
    )


@pytest.fixture(autouse=True)
def forget_fake_modules():
    yield
    for name in ("fake_multiway_apps", "broken_multiway_app"):
        sys.modules.pop(name, None)


@pytest.fixture
def three_apps(tmp_path, monkeypatch):
    points = (
        "good = fake_multiway_apps:GOOD\nbroken = broken_multiway_app:APP\nsad = fake_multiway_apps:SAD\n"
    )
    install(tmp_path, monkeypatch, points)


@pytest.fixture
def one_app(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "good = fake_multiway_apps:GOOD\n")


def call(capfd, *arguments):
    with pytest.raises(SystemExit) as exit_:
        run(cli, arguments, name="multiway")
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    return exit_.value.code, out, err


def test_apps_lists_what_works_and_what_does_not(three_apps, capfd):
    code, out, _ = call(capfd, "apps")
    assert code == 0
    rows = {line.split("|")[1].strip(): line for line in out.splitlines()}
    assert "Does good." in rows["good"]
    assert "fake-apps" in rows["good"]
    assert "BROKEN: ModuleNotFoundError" in rows["broken"]
    assert "a_dependency_that_is_not_there" in rows["broken"]


def test_apps_as_json(three_apps, capfd):
    _, out, _ = call(capfd, "apps", "--json")
    found = {item["name"]: item for item in json.loads(out)}
    assert set(found) == {"good", "broken", "sad"}
    assert found["good"]["problem"] is None
    assert found["broken"]["title"] is None


def test_evaluate_measures_the_others_when_some_fail(three_apps, capfd, tmp_path):
    code, out, err = call(capfd, "evaluate", "--output", str(tmp_path / "out"))
    assert code == 1
    assert "| good" in out
    assert "1.0000 [1.0000, 1.0000]" in out
    assert "quick \\| test" in out
    assert "FAILED: the model is not there" in out
    assert "the app broken is broken" in err
    assert len({line.count(" | ") for line in out.splitlines() if line.startswith("| ")}) == 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {app["app"]: app["report"] is not None for app in summary["apps"]} == {
        "good": True,
        "broken": False,
        "sad": False,
    }
    assert (tmp_path / "out" / "good" / "report.png").is_file()
    assert (tmp_path / "out" / "summary.md").read_text().startswith("# Quick evaluation")


def test_one_headline_an_app_with_what_was_measured_beside_it(three_apps, capfd):
    from multiway_core.evaluation import Sample, evaluate

    from multiway.evaluation import Measured, summary_rows

    samples = [Sample(str(i), i, i) for i in range(3)]
    scores = {"accuracy": lambda p, t: 1.0, "probability": lambda p, t: 0.5, "chance": lambda p, t: 0.25}
    measured = [Measured("lm", evaluate(samples, lambda x: x, scores, name="quick"), None)]
    _, row = summary_rows(measured)
    assert row[2:5] == ["multiple-choice accuracy", "1.0000 [1.0000, 1.0000]", "chance 0.25"]
    assert [row[2] for row in summary_rows(measured, details=True)[1:]] == [
        "accuracy",
        "probability",
        "chance",
    ]
    out = call(capfd, "evaluate", "--app", "good", "--details")[1]
    assert "error" in out


def test_evaluate_json_and_exit_codes(three_apps, capfd):
    code, out, _ = call(capfd, "evaluate", "--json", "--app", "good")
    assert code == 0
    assert json.loads(out)["apps"][0]["report"]["metrics"]["error"]["mean"] == 1.0
    assert call(capfd, "evaluate", "--app", "sad")[0] == 2
    code, _, err = call(capfd, "evaluate", "--app", "no-such-app")
    assert code == 2
    assert err == "multiway: --app no-such-app: not installed; there are: broken, good, sad\n"


def test_one_app_is_enough(one_app, capfd):
    assert call(capfd, "evaluate")[0] == 0


def test_an_app_of_commands_only_is_listed_and_left_out_elsewhere(tmp_path, monkeypatch, capfd):
    install(tmp_path, monkeypatch, "bare = fake_multiway_apps:BARE\ngood = fake_multiway_apps:GOOD\n")
    assert "Only a command." in call(capfd, "apps")[1]
    code, out, err = call(capfd, "evaluate")
    assert (code, "bare" in out, "is left out" in err) == (0, False, False)
    code, out, err = call(capfd, "evaluate", "--app", "bare", "--app", "good")
    assert (code, "bare" in out) == (0, False)
    assert "the app bare is left out: it has no quick evaluation" in err
    assert call(capfd, "evaluate", "--app", "bare")[::2] == (
        2,
        "multiway: bare: without a quick evaluation\n",
    )
    assert call(capfd, "demo", "--app", "bare")[::2] == (2, "multiway: bare: without a demo\n")


def test_no_app_at_all(tmp_path, monkeypatch, capfd):
    install(tmp_path, monkeypatch, "")
    code, out, _ = call(capfd, "apps")
    assert code == 0
    assert "No app is installed" in out
    code, _, err = call(capfd, "evaluate")
    assert code == 2
    assert "no app is installed" in err


def opened(url):
    """The page at ``url``, once the demo behind it is there or has failed."""
    for _ in range(600):
        answer = httpx.get(url, follow_redirects=True, timeout=60)
        if "is being loaded" not in answer.text:
            return answer
        time.sleep(0.1)
    raise AssertionError("the demo was never ready")


def test_the_page_of_all_demos_works_though_two_are_broken(three_apps):
    from gradio_client import Client

    with serving(build_home(installed_apps())) as url:
        page = httpx.get(url).text
        for expected in ("Good app", "Sad app", "broken", "a_dependency_that_is_not_there", "Does good."):
            assert expected in page
        failed = opened(f"{url}/sad")
        assert (failed.status_code, "the model is not there" in failed.text) == (503, True)
        assert "gradio" in opened(f"{url}/good?try").text
        assert Client(f"{url}/good/", verbose=False).predict("you", api_name="/greet") == "hello you"
        assert httpx.get(f"{url}/broken/").status_code == 404
        assert httpx.get(f"{url}/pictures/good/card.webp").status_code == 404


def test_a_demo_is_built_when_it_is_opened_and_once(three_apps, monkeypatch):
    import gradio as gr

    item = next(item for item in installed_apps() if item.name == "good")
    built = []

    def build():
        built.append(1)
        with gr.Blocks() as blocks:
            gr.Textbox()
        return blocks

    app = replace(item, app=replace(item.app, demo=build))
    with serving(build_home([app])) as url:
        assert httpx.get(url).status_code == 200
        assert not built
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: opened(f"{url}/good/"), range(4)))
        assert len(built) == 1


def test_the_home_page_answers_to_its_own_names_only(one_app):
    with serving(build_home(installed_apps(), hosts=allowed_hosts("127.0.0.1", ["my.name"]))) as url:
        for name, code in (("evil.example", 421), ("localhost:80", 200), ("[::1]:80", 200), ("My.Name", 200)):
            for path in ("/", "/good/config"):
                assert httpx.get(url + path, headers={"Host": name}, timeout=60).status_code == code, name


def test_a_client_that_never_ends_its_headers_is_closed(one_app, monkeypatch):
    monkeypatch.setattr("multiway_core.app.serve.listener.HEADER_SECONDS", 0.3)
    with serving(build_home(installed_apps())) as url:
        where = ("127.0.0.1", int(url.rpartition(":")[2]))
        for sent in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "):
            with socket.create_connection(where, timeout=10) as client:
                client.sendall(sent)
                assert b"200 OK" not in client.recv(1000)
        with httpx.Client() as client:  # one that pauses between its requests is not
            assert client.get(url).status_code == 200
            time.sleep(0.6)
            assert client.get(url).status_code == 200


def test_a_taken_port_is_one_line(one_app, capfd):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = call(capfd, "demo", "--port", str(port))
    assert code == 2
    assert f"cannot serve on 127.0.0.1:{port}: address already in use" in err


def test_the_home_page_in_a_browser(one_app, monkeypatch, open_tab, tmp_path):
    """On a phone and a wide screen; "Try it" presses what the card says, and the demo leads back."""
    import gradio as gr

    from multiway.home.cards import CARDS, Card

    def build():
        with gr.Blocks() as blocks:
            gr.HTML("<div class='mw-header'><h1>Good</h1></div>")
            button = gr.Button("Go", elem_id="go")
            button.click(lambda: "pressed", None, gr.Textbox(label="result", elem_id="result"))
        return blocks

    monkeypatch.setitem(CARDS, "good", Card(steps=("? #result", "#go")))
    (item,) = installed_apps()
    app = replace(item, app=replace(item.app, demo=build))
    with serving(build_home([app])) as url:
        for width in (390, 1366):
            tab = open_tab(url, width=width)
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert tab.locator("h2").all_inner_texts() == ["Good app"]
            assert tab.get_by_role("link", name=re.compile("Try it.*Good app with an example")).count() == 1
        tab.get_by_role("link", name="Try it").click()
        tab.wait_for_function("document.querySelector('#result textarea')?.value === 'pressed'")
        tab.get_by_role("link", name="All apps").click()
        tab.wait_for_selector(".cards")
        assert not tab.errors
        assert tab.hosts <= {url.split("/")[2], ""}
