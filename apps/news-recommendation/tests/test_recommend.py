"""The commands on a tiny world: recommend, evaluate, predict, train, prepare."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from xml.etree import ElementTree

import pytest


def test_help_is_quick_and_loads_no_framework():
    code = (
        "import sys\n"
        "from multiway_news_recommendation.cli import cli\n"
        "from multiway_core.app import run\n"
        "try: run(cli, ['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'gradio', 'numpy', 'polars', 'sklearn') if m in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr
    for command in ("recommend", "evaluate", "predict", "train", "import", "simulate", "check", "demo"):
        assert command in result.stdout


def test_recommend_to_a_reader_in_words(world, reader, call):
    code, out, err = call("recommend", "--user", reader, "--model", world.model, "--top", 5, "--explain")
    assert (code, err) == (0, "")
    assert f"For reader {reader}" in out
    assert "simulated portal" in out
    assert out.count("You read “") == 5
    assert "its readers went on to" in out
    assert "without that click it would" in out
    assert "Made of: content" in out


def test_recommend_as_json_and_pictures(world, reader, call, tmp_path):
    code, out, _ = call(
        "recommend",
        "--user",
        reader,
        "--model",
        world.model,
        "--top",
        4,
        "--json",
        "--pictures",
        tmp_path / "svg",
    )
    assert code == 0
    document = json.loads(out)
    assert document["schema"] == "multiway.news-recommendation/1"
    assert document["simulated"] is True
    assert document["user"] == reader
    assert len(document["recommendations"]) == 4
    for item in document["recommendations"]:
        assert set(item) == {"id", "title", "category", "score", "parts", "explanation"}
        assert set(item["explanation"]) >= {"text", "click", "neighbours", "chain", "occlusion"}
    files = sorted((tmp_path / "svg").iterdir())
    names = [f"{rank:02}-{item['id']}.svg" for rank, item in enumerate(document["recommendations"], 1)]
    assert [path.name for path in files] == names
    for path in files:
        ElementTree.parse(path)
    # A typed history of the same ids gives the same list.
    code, again, _ = call(
        "recommend", "--history", ",".join(document["history"]), "--model", world.model, "--top", 4, "--json"
    )
    ids = [item["id"] for item in json.loads(again)["recommendations"]]
    assert ids == [item["id"] for item in document["recommendations"]]


def test_an_empty_history_and_unknown_ids_are_said_in_one_line(world, call):
    code, out, err = call("recommend", "--history", "", "--model", world.model, "--top", 3, "--json")
    assert code == 0
    assert "no known history, so a rule ranked" in err
    assert len(err.splitlines()) == 1
    assert json.loads(out)["rule"].startswith("new reader")
    code, out, err = call("recommend", "--history", "N999999999,N1", "--model", world.model, "--json")
    assert code == 0
    assert "1 of 2 ids of the history are unknown and left out: N999999999" in err
    assert json.loads(out)["unknown"] == ["N999999999"]


def test_recommend_to_a_reader_of_another_folder(world, call):
    behaviors = (world.portal / "dev" / "behaviors.tsv").read_text().splitlines()
    user, history = behaviors[0].split("\t")[1], behaviors[0].split("\t")[3].split()
    arguments = ["--user", user, "--data", world.portal, "--split", "dev", "--model", world.model, "--json"]
    code, out, _ = call("recommend", *arguments)
    assert code == 0
    assert json.loads(out)["history"][: len(history)] == history


def test_a_log_without_a_model_is_ranked_by_its_own_clicks(world, call, tmp_path):
    lines = [line.split("\t") for line in (world.portal / "dev" / "behaviors.tsv").read_text().splitlines()]
    _, user, _, history, _ = next(line for line in lines if line[3])
    call_it = ("recommend", "--data", world.portal, "--json", "--explain", "--diversity", 0)
    code, out, err = call(*call_it, "--user", user)
    assert code == 0
    assert "the clicks of this log rank" in err
    found = json.loads(out)
    assert found["model"] == "the clicks of this log"
    assert found["simulated"] is True
    assert found["history"][: len(history.split())] == history.split()
    for item in found["recommendations"]:
        assert item["id"] not in found["history"]
        assert abs(sum(item["parts"].values()) - item["score"]) < 1e-3
        click = item["explanation"]["click"]
        assert click is None or click in found["history"]
    scores = [item["score"] for item in found["recommendations"]]
    assert scores == sorted(scores, reverse=True)
    new = json.loads(call(*call_it, "--history", "N999999999")[1])
    assert new["rule"] == "new reader: what has most clicks"
    assert call("recommend", "--data", world.portal, "--user", "nobody")[0] == 2
    code, _, _ = call(
        "recommend", "--data", world.portal, "--user", user, "--pictures", tmp_path / "p", "--top", 2
    )
    assert code == 0
    assert len(list((tmp_path / "p").iterdir())) == 2


def test_the_clicks_of_train_are_measured_on_dev(world, call, tmp_path):
    code, out, _ = call(
        "evaluate", "--data", world.portal, "--split", "dev", "--limit", 60, "--json", "--live"
    )
    assert code == 0
    metrics = json.loads(out)["metrics"]
    members = ("item_knn", "rp3beta", "ease", "random_walks", "popularity", "popularity-live", "sasrec")
    assert {f"ndcg@5:{name}" for name in members} <= set(metrics)
    assert 0 < metrics["auc"]["mean"] < 1
    assert (
        call("predict", "--data", world.portal, "--split", "dev", "-o", tmp_path / "prediction.zip")[0] == 0
    )
    code, _, err = call("evaluate", "--data", world.portal / "dev")
    assert code == 2
    assert "give a folder that holds both" in err
    code, _, err = call("recommend", "--data", world.portal, "--model", world.portal, "--history", "")
    assert code == 2
    assert "is a log, and so is --data" in err


def test_a_log_is_a_model_that_serves(world, call):
    """What ``serve --model LOG`` answers: lists, clicks as they come, similar news."""
    from multiway_core.app import ModelOptions, load_pipeline
    from multiway_news_recommendation.app import APP
    from multiway_news_recommendation.server import news_clicks, recommendations, similar_news

    for model in (world.portal, world.model):
        pipeline = load_pipeline(APP, ModelOptions(str(model), "cpu"))
        news = [id_ for id_ in pipeline.news.ids if id_][:3]
        answer = news_clicks(pipeline, "somebody", [*news, "nothing"])
        assert answer["clicks"] == 3
        assert answer["unknown"] == ["nothing"]
        found = recommendations(pipeline, user="somebody", top=3, explain=True)
        assert found["history"] == news
        assert all(item["explanation"]["text"] for item in found["recommendations"])
        similar = similar_news(pipeline, news[0], 4)
        assert similar["schema"] == "multiway.similar-news/1"
        assert news[0] not in [item["id"] for item in similar["similar"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --user ID and --history"),
        (["--user", "U1", "--history", "N1"], "give one of --user ID and --history"),
        (["--user", "nobody"], "no reader 'nobody'"),
        (["--history", "N1", "--diversity", "7"], "diversity 7.0: expected 0"),
        (["--history", "N1", "--per-category", "0"], "at least 1"),
        (["--history", "N1", "--max-age-days", "-1"], "must be more than 0"),
        (["--history", "N1", "--at", "yesterday"], "--at 'yesterday': expected a time"),
        (["--history", "N1", "--at", "1950-01-01"], "no news may be shown"),
        (["--history", "N1", "--top", "0"], "--top"),
        (["--history", "N\x07"], "is no id"),
        (["--history", "N1", "--pictures", "{file}"], "is a file; give a folder"),
        (["--history", "N1", "--data", "nowhere"], "nowhere is no folder"),
        (["--history", "N1", "--model", "bundled:no-such-model"], "no bundled model"),
        (["--history", "N1", "--model", "{folder}"], "not the folder of a recommender"),
        (["--history", "N1", "--device", "cuda:77"], "cuda:77"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, message, world, call, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    places = {"file": tmp_path / "file", "folder": tmp_path / "folder"}
    arguments = [argument.format(**places) for argument in arguments]
    if "--model" not in arguments:
        arguments += ["--model", str(world.model)]
    code, out, err = call("recommend", *arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("multiway-news-recommendation: ")
    assert message in err


def test_evaluate_with_the_graph_of_the_histories(world, call, tmp_path):
    arguments = ["--data", world.portal, "--split", "dev", "--model", world.model, "--fresh-graph"]
    code, out, _ = call("evaluate", *arguments, "--output", tmp_path / "report", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["schema"] == "multiway.evaluation/1"
    assert set(report["metrics"]) >= {
        "auc",
        "mrr",
        "ndcg@5",
        "ndcg@10",
        "distance@10",
        "coverage@10",
        "novelty@10",
    }
    assert "simulated portal" in report["name"]
    assert any(label.startswith("history ") for label in report["groups"])
    assert any(label.startswith("clicked news in the graph") for label in report["groups"])
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "report.json",
        "report.md",
        "report.png",
    }

    # The same numbers as the leaderboard's script finds in the file that is handed in.
    from multiway_recsys.data.mind import read_folder
    from multiway_recsys.metrics.ranking import evaluate_ranking
    from multiway_recsys.pipeline import NewsRecommender

    behaviors = read_folder(world.portal, "dev").behaviors
    recommender = NewsRecommender.from_pretrained(str(world.model)).with_clicks_of(behaviors)
    means = evaluate_ranking(recommender.rank(behaviors), behaviors).means()
    for theirs, ours in (("auc", "auc"), ("mrr", "mrr"), ("ndcg5", "ndcg@5"), ("ndcg10", "ndcg@10")):
        assert report["metrics"][ours]["mean"] == pytest.approx(means[theirs], abs=1e-9)


def test_evaluate_refuses_a_graph_from_the_future(world, call):
    code, out, err = call("evaluate", "--data", world.portal, "--split", "dev", "--model", world.model)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "later than" in err or "clicks" in err


def test_predict_writes_what_the_leaderboard_takes(world, call, tmp_path):
    lines = (world.portal / "test" / "behaviors.tsv").read_text().splitlines()[:20]
    bare = []
    for line in lines:
        head, _, shown = line.rpartition("\t")
        bare.append(head + "\t" + " ".join(item.rpartition("-")[0] for item in shown.split()))
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    shutil.copy(world.portal / "test" / "news.tsv", folder / "news.tsv")
    (folder / "behaviors.tsv").write_text("\n".join(bare) + "\n")
    target = tmp_path / "prediction.zip"
    code, out, _ = call("predict", "--data", folder, "--output", target, "--model", world.model)
    assert code == 0
    assert out == f"{target}\n"
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == ["prediction.txt"]
        rows = archive.read("prediction.txt").decode().splitlines()
    for row, line in zip(rows, bare, strict=True):
        number, _, ranks = row.partition(" ")
        assert number == line.split("\t")[0]
        count = len(line.rpartition("\t")[2].split())
        assert sorted(map(int, ranks.strip("[]").split(","))) == list(range(1, count + 1))
    code, _, err = call("evaluate", "--data", folder, "--split", "test", "--model", world.model)
    assert code == 2
    assert "has no labels" in err
    assert call("predict", "--data", folder, "--output", tmp_path / "x.txt", "--model", world.model)[0] == 2


def test_bad_rows_are_named_or_counted(world, call, tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    shutil.copy(world.portal / "dev" / "news.tsv", folder / "news.tsv")
    lines = (world.portal / "dev" / "behaviors.tsv").read_text().splitlines()
    lines = [f"{number}\t{line.partition(chr(9))[2]}" for number, line in enumerate(lines * 3, 1)]
    lines[1] = lines[1].rpartition("-")[0] + "-7"
    (folder / "behaviors.tsv").write_text("\n".join(lines) + "\n")
    code, out, err = call("check", "--data", folder)
    assert (code, out) == (2, "")
    assert "behaviors.tsv:2:" in err
    assert len(err.splitlines()) == 1
    code, out, err = call("check", "--data", folder, "--skip-bad-rows", "--json")
    assert code == 0
    assert "1 left out" in err
    values = json.loads(out)["statistics"]
    assert values["impressions"] == len(lines) - 1
    code, out, _ = call("check", "--data", world.portal)
    assert code == 0
    assert "| candidates an impression, mean |" in out


def test_train_and_prepare(world, call, tmp_path, reader):
    arguments = ["train", "--data", world.portal, "--output", tmp_path / "run", "--epochs", "0.05"]
    code, out, err = call(*arguments, "--preset", "nrms-small")
    assert code == 0
    model = out.splitlines()[0]
    assert "AUC" in err
    assert "held-out AUC" in out
    code, out, _ = call("recommend", "--user", reader, "--model", model, "--explain", "--top", 2)
    assert code == 0
    assert "simulated portal" in out
    code, out, _ = call("prepare", model)
    assert code == 0
    assert (tmp_path / "run" / "model" / "serving" / "vectors.safetensors").is_file()
    assert call("recommend", "--user", reader, "--model", model, "--top", 2)[0] == 0
    code, out, _ = call("recommend", "--user", reader, "--model", model, "--dtype", "bfloat16", "--json")
    assert code == 0
    assert json.loads(out)["recommendations"]
    for wrong, message in (
        (["--data", world.portal, "--preset", "gpt"], "unknown preset 'gpt'; there are: nrms"),
        (
            ["--data", world.portal, "--init-from", tmp_path / "nowhere"],
            "neither an existing path nor a hub id",
        ),
        (["--data", tmp_path / "nowhere"], "is no folder"),
        ([], "one MIND folder, and 0 were given; see --data"),
    ):
        code, _, err = call("train", "--output", tmp_path / "other", *wrong)
        assert code == 2
        assert message in err
        assert len(err.splitlines()) == 1
