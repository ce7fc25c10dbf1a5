"""The demo over HTTP, and the values of its page."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import httpx
import pytest
from gradio_client import Client
from multiway_core.app import ModelOptions, StopRun, launch
from multiway_core.errors import InputError


@pytest.fixture(scope="module")
def session(world):
    from multiway_news_recommendation.demo import DemoSession

    return DemoSession(ModelOptions(str(world.model), "cpu"))


@pytest.fixture(scope="module")
def url(world):
    from multiway_news_recommendation.demo import build_demo

    blocks = build_demo(str(world.model), device="cpu")
    yield launch(blocks, block=False)
    blocks.close(verbose=False)


@pytest.fixture(scope="module")
def client(url):
    return Client(url, verbose=False)


def test_a_program_gets_an_explained_list(client, reader):
    document = client.predict(reader, "", 4, True, api_name="/recommend")
    assert document["schema"] == "multiway.news-recommendation/1"
    assert document["simulated"] is True
    assert document["user"] == reader
    assert len(document["recommendations"]) == 4
    assert document["recommendations"][0]["explanation"]["text"]


def test_many_visitors_at_once_get_their_own_list(url, session):
    readers = [name for _, name in session.reader_choices()[:6]]

    def visit(name):
        return Client(url, verbose=False).predict(name, "", 2, True, api_name="/recommend")

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(visit, readers))
    assert [answer["user"] for answer in answers] == readers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody", "", 4, True), "no reader"),
        (("", "N1", 0, True), "expected 1 to 100"),
        (("", "<b>\x07</b>", 4, True), "is no id"),
    ],
)
def test_mistakes_are_messages(client, arguments, message):
    with pytest.raises(Exception, match=message) as error:
        client.predict(*arguments, api_name="/recommend")
    assert "Traceback" not in str(error.value)
    assert "<b>" not in str(error.value)


def test_no_telemetry_and_no_foreign_address_in_the_page(url):
    assert httpx.get(f"{url}config", timeout=60).json()["analytics_enabled"] is False
    page = httpx.get(url, timeout=60).text
    for host in ("googleapis", "gstatic", "cdnjs", "jsdelivr"):
        assert host not in page


def test_the_page_shows_parts_reasons_and_pictures(session, reader):
    value, history = session.show(reader, session.history_text(reader), True, 0.3)
    assert json.dumps(value)
    assert value["badge"].startswith("Simulated portal")
    assert len(value["items"]) == 10
    for item in value["items"]:
        assert sum(part["value"] for part in item["parts"]) == pytest.approx(item["score"], abs=2e-3)
        assert item["text"].startswith("You read")
        assert item["before"] is None
        ElementTree.fromstring(item["picture"])
    assert f"History of {reader}" in history
    # A history that was changed by hand is nobody's.
    _, other = session.show(reader, "N1", True, 0.3)
    assert "This history" in other


def test_without_chains_the_list_is_ranked_anew_and_compared(session, reader):
    text = session.history_text(reader)
    with_chains, _ = session.show(reader, text, True, 0.0)
    without, _ = session.show(reader, text, False, 0.0)
    assert "without chains" in without["summary"]
    places = {item["id"]: item["rank"] for item in with_chains["items"]}
    for item in without["items"]:
        if item["id"] in places:
            assert item["before"] == places[item["id"]]
        parts = {part["name"]: part["value"] for part in item["parts"]}
        assert parts["chains"] == pytest.approx(0, abs=1e-4)
    assert [item["score"] for item in with_chains["items"]] != [item["score"] for item in without["items"]]


def test_a_new_reader_and_unknown_ids(session):
    value, history = session.show(None, "", True, 0.3)
    assert "new reader" in value["summary"]
    assert "No known click" in history
    value, _ = session.show(None, "N1, N999999999", True, 0.3)
    assert "1 unknown id left out" in value["summary"]
    with pytest.raises(InputError):
        session.show("nobody", "N1", True, 0.3)


def test_hostile_titles_stay_text(session):
    from dataclasses import replace

    from multiway_news_recommendation.demo import clicks_html
    from multiway_recsys.serving.explanation import Article

    found = session.recommender.recommend(["N1"], top=1)
    hostile = Article(1, "N1", "<script>alert(1)</script>", "<b>")
    assert "<script" not in clicks_html(replace(found, history=(hostile,), user="<i>"))
    assert "<i>" not in clicks_html(replace(found, history=(hostile,), user="<i>"))


def test_a_model_that_is_not_there_stops_the_demo():
    from multiway_news_recommendation.demo import build_demo

    with pytest.raises(StopRun, match="no bundled model"):
        build_demo("bundled:no-such-model")


def test_demo_on_a_taken_port(world, call):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = call("demo", "--model", world.model, "--port", taken.getsockname()[1])
    assert code == 2
    assert "the port is taken; give another --port" in err
