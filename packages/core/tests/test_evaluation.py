import json
import math

import numpy as np
import pytest
from multiway_core.errors import InputError
from multiway_core.evaluation import Ratio, Report, Sample, evaluate, mean_interval, peak_rss_bytes


def _double(value):
    if value == 13:
        raise InputError("13 is unlucky; give another number")
    return value * 2


def _error(prediction, target):
    return abs(prediction - target)


def _report(count=20, **options):
    samples = [Sample(f"s{i}", i, 2 * i + (i % 3)) for i in range(count)]
    metrics = {"error": _error, "rate": lambda p, t: Ratio(abs(p - t), t)}
    return evaluate(samples, _double, metrics, name="doubling", **options)


def test_interval_covers_the_true_mean_as_often_as_it_says():
    covered = 0
    random = np.random.default_rng(0)
    for trial in range(200):
        interval = mean_interval(random.normal(3.0, 1.0, size=60), seed=trial, resamples=400)
        covered += interval.low <= 3.0 <= interval.high
    assert 0.90 <= covered / 200 <= 0.98


def test_interval_width_matches_the_standard_error():
    values = np.random.default_rng(1).normal(size=400)
    interval = mean_interval(values, seed=0)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_interval_is_seeded_and_chunking_does_not_break_it(monkeypatch):
    values = np.arange(50.0)
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    assert mean_interval(values, seed=3) != mean_interval(values, seed=4)
    whole = mean_interval(values, seed=3)
    monkeypatch.setattr("multiway_core.evaluation.bootstrap._CHUNK_ELEMENTS", 130)
    chunked = mean_interval(values, seed=3)
    assert chunked == whole  # the generator draws the same numbers in any chunking


def test_bootstrap_is_that_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(1)
    top, bottom = random.random(50), random.random(50)
    theirs = stats.bootstrap(
        (top, bottom),
        lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=2000,
        rng=np.random.default_rng(5),
    ).confidence_interval
    ours = mean_interval(top, bottom, seed=5)
    np.testing.assert_allclose((ours.low, ours.high), (theirs.low, theirs.high), rtol=1e-12)
    assert mean_interval(top, np.eye(50)[0], seed=5).high < np.inf  # most resamples have no denominator


def test_pooled_rate_is_not_the_mean_of_rates():
    interval = mean_interval([1, 0], [1, 99])
    assert interval.mean == pytest.approx(0.01)


def test_one_sample_has_no_interval():
    assert mean_interval([2.0]) == (2.0, None, None)


@pytest.mark.parametrize(("top", "bottom"), [([], None), ([1.0], [0.0]), ([1.0, 2.0], [1.0])])
def test_interval_refuses_what_has_no_mean(top, bottom):
    with pytest.raises(ValueError):
        mean_interval(top, bottom)


def test_means_counts_groups_and_rows():
    report = _report(group=lambda sample: "even" if sample.input % 2 == 0 else "odd")
    good = [i for i in range(20) if i != 13]
    assert (report.n, report.failed) == (20, 1)
    assert report.metrics["error"].n == 19
    assert report.metrics["error"].mean == pytest.approx(np.mean([i % 3 for i in good]))
    pooled = sum(i % 3 for i in good) / sum(2 * i + i % 3 for i in good)
    assert report.metrics["rate"].mean == pytest.approx(pooled)
    assert set(report.groups) == {"even", "odd"}
    assert report.groups["odd"]["error"].n == 9
    assert report.rows[13]["error"] == "13 is unlucky; give another number"
    assert "metrics" not in report.rows[13]
    assert report.latency.median <= report.latency.p95
    assert report.versions["python"]
    assert report.machine["cores"] >= 1
    assert report.machine["cpu"]


def test_same_seed_same_numbers():
    first, second = _report(seed=5), _report(seed=5)
    assert first.metrics == second.metrics
    assert first.seed == 5


def test_undefined_values_are_left_out_not_counted_as_zero():
    samples = [Sample(str(i), i, i) for i in range(4)]
    metrics = {
        "half": lambda p, t: 1.0 if p % 2 else None,
        "nan": lambda p, t: math.nan,
        "empty": lambda p, t: Ratio(0, 0),
    }
    report = evaluate(samples, lambda value: value, metrics, name="undefined")
    assert report.metrics["half"].mean == 1.0
    assert report.metrics["half"].n == 2
    assert set(report.metrics) == {"half"}
    assert json.dumps(report.to_json(), allow_nan=False)


def test_a_bug_in_a_pipeline_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        evaluate([Sample("a", 0, 0)], lambda value: 1 // value, {"error": _error}, name="bug")


def test_nothing_to_evaluate_is_one_clear_line():
    with pytest.raises(InputError, match="holds no sample"):
        evaluate([], _double, {"error": _error}, name="empty")
    with pytest.raises(InputError, match=r"all 1 samples failed.*unlucky"):
        evaluate([Sample("a", 13, 0)], _double, {"error": _error}, name="failing")


def test_samples_are_taken_lazily_and_reported_one_by_one():
    seen, taken = [], []

    def samples():
        for i in range(3):
            taken.append(i)
            assert len(seen) == i
            yield Sample(str(i), i, 0)

    evaluate(samples(), _double, {"error": _error}, name="lazy", on_sample=seen.append)
    assert [row["name"] for row in seen] == ["0", "1", "2"]


def test_json_round_trip_and_strictness():
    report = _report(group=lambda sample: "g")
    data = json.loads(json.dumps(report.to_json()))
    assert data["schema"] == "multiway.evaluation/1"
    assert Report.from_json(data) == report
    with pytest.raises(InputError, match="schema"):
        Report.from_json({"n": 1})
    data["extra"] = 1
    with pytest.raises(InputError, match="extra"):
        Report.from_json(data)


def test_markdown_names_every_number():
    text = _report(group=lambda sample: "a|b").to_markdown()
    assert text.startswith("# doubling\n")
    assert "20 samples, 1 failed" in text
    assert "| all | 19 | " in text
    assert "| a\\|b | 19 | " in text
    for expected in (
        "95th percentile",
        "peak resident memory",
        "seed",
        "cpu",
        "versions",
        "s13: 13 is unlucky",
    ):
        assert expected in text


def test_save_writes_json_markdown_and_a_real_picture(tmp_path):
    from PIL import Image

    report = _report(group=lambda sample: "even" if sample.input % 2 == 0 else "odd")
    report.save(tmp_path / "report")
    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == [
        "report.json",
        "report.md",
        "report.png",
    ]
    with Image.open(tmp_path / "report" / "report.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 600
        assert len(set(picture.convert("L").resize((64, 64)).tobytes())) > 5  # something is drawn
    loaded = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert loaded["metrics"]["error"]["mean"] == report.metrics["error"].mean


def test_one_sample_can_be_saved(tmp_path):
    _report(count=1).save(tmp_path)
    assert (tmp_path / "report.png").stat().st_size > 1000


def test_peak_memory_is_plausible():
    peak = peak_rss_bytes()
    assert peak is None or 10 * 2**20 < peak < 2**40


def test_groups_may_overlap():
    report = _report(group=lambda sample: [f"of {n}" for n in (2, 3) if sample.input % n == 0])
    assert set(report.groups) == {"of 2", "of 3"}
    assert report.groups["of 2"]["error"].n == 10
    assert report.groups["of 3"]["error"].n == 7
    assert report.rows[6]["groups"] == ["of 2", "of 3"]
    assert "| of 3 | 7 |" in report.to_markdown()


def test_a_baseline_of_a_metric_has_a_row_of_its_own():
    metrics = {"error": _error, "error:zero": lambda p, t: abs(t), "bias": lambda p, t: p - t}
    report = evaluate(
        [Sample("a", 2, 3), Sample("b", 4, 9)], _double, metrics, name="doubling", group=lambda s: s.name
    )
    table = [line.split(" | ") for line in report.to_markdown().splitlines() if line.startswith("| ")]
    assert table[0] == ["| ", "n", "error", "bias |"]
    assert [row[0] for row in table[2:8]] == ["| all", "| all, zero", "| a", "| a, zero", "| b", "| b, zero"]
    assert table[2][2].startswith("1.0000")
    assert table[3][2].startswith("6.0000")
    assert table[3][3] == "– |"
