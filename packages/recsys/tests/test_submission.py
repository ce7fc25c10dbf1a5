"""`prediction.zip`: what is written is accepted and scores as it should; what the leaderboard refuses is refused."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multiway_core.errors import DataError, InputError
from multiway_recsys.data.tables import Behaviors, Ragged
from multiway_recsys.metrics.ranking import evaluate_ranking
from multiway_recsys.submission import check_predictions, score_predictions, write_predictions


@pytest.fixture
def behaviors() -> Behaviors:
    random = np.random.default_rng(0)
    shown = Ragged.from_rows([random.integers(1, 30, size) for size in random.integers(2, 30, 60)])
    labels = np.zeros(len(shown.values), np.int8)
    labels[shown.offsets[:-1] + random.integers(0, 2, 60)] = 1
    return Behaviors(
        impression_ids=tuple(str(7 * row + 1) for row in range(60)),
        users=np.zeros(60, np.int32),
        user_ids=("U1",),
        times=np.zeros(60, np.int64),
        histories=Ragged.from_rows([[]] * 60),
        candidates=shown,
        labels=labels,
    )


def scores_of(behaviors: Behaviors, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 6, len(behaviors.candidates.values)).astype(np.float32)


def lines_of(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["prediction.txt"]
        return archive.read("prediction.txt").decode().splitlines()


def write_lines(path: Path, lines: list[str], name: str = "prediction.txt") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "".join(line + "\n" for line in lines))
    return path


def test_a_written_archive_is_accepted_and_scores_as_the_scores_do(tmp_path: Path, behaviors: Behaviors):
    path = tmp_path / "prediction.zip"
    scores = scores_of(behaviors)
    write_predictions(path, scores, replace(behaviors, labels=None))
    check_predictions(path, behaviors)
    for line, name, size in zip(
        lines_of(path), behaviors.impression_ids, behaviors.candidates.lengths, strict=True
    ):
        impression, ranks = line.split()  # as the leaderboard reads a line
        assert impression == name
        assert sorted(json.loads(ranks)) == list(range(1, size + 1))
    direct, scored = evaluate_ranking(scores, behaviors), score_predictions(path, behaviors)
    assert scored.mrr.tolist() == direct.mrr.tolist()
    assert scored.ndcg10.tolist() == direct.ndcg10.tolist()
    without_ties = np.random.default_rng(2).permutation(len(scores)).astype(np.float64)
    write_predictions(path, without_ties, behaviors)
    assert (
        score_predictions(path, behaviors).auc.tolist()
        == evaluate_ranking(without_ties, behaviors).auc.tolist()
    )


def test_the_same_scores_give_the_same_bytes(tmp_path: Path, behaviors: Behaviors):
    for name in ("one.zip", "two.zip"):
        write_predictions(tmp_path / name, scores_of(behaviors), behaviors)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def damage(lines: list[str], kind: str) -> list[str]:
    first, ranks = lines[2].split()
    numbers = json.loads(ranks)
    changed = {
        "blanks": f"{first} {json.dumps(numbers)}",
        "rank 0": f"{first} {json.dumps([number - 1 for number in numbers]).replace(' ', '')}",
        "tie": f"{first} {json.dumps([1] * len(numbers)).replace(' ', '')}",
        "too few": f"{first} {json.dumps(numbers[:-1]).replace(' ', '')}",
        "no list": f"{first} 5",
        "negative": f"{first} [-1,2]",
    }
    if kind in changed:
        return [*lines[:2], changed[kind], *lines[3:]]
    return {
        "order": [lines[0], lines[2], lines[1], *lines[3:]],
        "missing line": [*lines[:2], *lines[3:]],
        "cut": lines[:-1],
        "left over": [*lines, "5 [1]"],
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("blanks", "line 3: .* blanks inside the brackets"),
        ("order", 'line 2: impression "15"; expected 8, .* order'),
        ("missing line", 'line 3: impression "22"; expected 15'),
        ("rank 0", "line 3: rank 0"),
        ("tie", "line 3: .*no permutation"),
        ("too few", "line 3: [0-9]+ ranks for impression 15; expected"),
        ("no list", "line 3: .*expected an impression id and ranks"),
        ("negative", "line 3: .*expected an impression id and ranks"),
        ("cut", r"ends after line 59; expected 60 lines.*next: 414"),
        ("left over", "line 61: .*left over"),
    ],
)
def test_what_the_leaderboard_refuses_is_refused(
    tmp_path: Path, behaviors: Behaviors, kind: str, message: str
):
    path = tmp_path / "prediction.zip"
    write_predictions(path, scores_of(behaviors), behaviors)
    write_lines(path, damage(lines_of(path), kind))
    with pytest.raises(DataError, match=message):
        check_predictions(path, behaviors)


def test_the_scorer_counts_missing_lines_and_ties_as_the_leaderboard_does(
    tmp_path: Path, behaviors: Behaviors
):
    path = tmp_path / "prediction.zip"
    scores = scores_of(behaviors)
    write_predictions(path, scores, behaviors)
    write_lines(path, lines_of(path)[:30])
    scores[behaviors.candidates.offsets[30] :] = 0
    scored = score_predictions(path, behaviors)
    assert scored.mrr.tolist() == evaluate_ranking(scores, behaviors).mrr.tolist()
    assert (scored.auc[30:] == 0.5).all()


def test_bad_archives_are_refused(tmp_path: Path, behaviors: Behaviors):
    path = tmp_path / "prediction.zip"
    with pytest.raises(DataError, match="no such file"):
        check_predictions(path, behaviors)
    path.write_bytes(b"1 [1,2]\n")
    with pytest.raises(DataError, match="is no zip archive"):
        check_predictions(path, behaviors)
    write_lines(path, ["1 [1,2]"], name="folder/prediction.txt")
    with pytest.raises(
        DataError, match=r'holds "folder/prediction\.txt"; expected prediction\.txt at the root'
    ):
        check_predictions(path, behaviors)
    with pytest.raises(InputError, match="expected one for each of the"):
        write_predictions(path, np.zeros(3), behaviors)
    write_predictions(path, scores_of(behaviors), behaviors)
    with pytest.raises(InputError, match="no labels"):
        score_predictions(path, replace(behaviors, labels=None))


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_damaged_bytes_never_escape(tmp_path: Path, behaviors: Behaviors, data: st.DataObject):
    path = tmp_path / "prediction.zip"
    write_predictions(path, scores_of(behaviors), behaviors)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))]))
    try:
        check_predictions(path, behaviors)
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017
