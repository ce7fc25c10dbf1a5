"""What the umbrella learns of the app, and the bundled model where it is there."""

from __future__ import annotations

import json

from multiway_core.app import installed_apps


def test_the_app_is_installed_and_can_be_loaded():
    (app,) = [item for item in installed_apps() if item.name == "news-recommendation"]
    assert app.problem is None
    assert app.app.cli == "multiway_news_recommendation.cli:cli"


def test_the_bundled_portal_works_at_once_and_is_said_to_be_simulated(needs_model, call):
    code, out, _ = call("recommend", "--history", "", "--top", 3, "--json")
    assert code == 0
    document = json.loads(out)
    assert document["model"] == "bundled:news-portal"
    assert document["simulated"] is True
    user = (needs_model / "readers.txt").read_text().splitlines()[-1]
    code, out, _ = call("recommend", "--user", user, "--top", 3, "--explain")
    assert code == 0
    assert "simulated portal" in out
    assert "You read “" in out
