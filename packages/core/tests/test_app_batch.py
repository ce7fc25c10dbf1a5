import functools
import json
import os
import signal
import time

import pytest
from multiway_core.app import App, BatchLog, StopRun, run_jobs
from multiway_core.errors import InputError


def _work(job):
    if job == "bad":
        raise InputError("bad.png is broken")
    if job == "bug":
        raise RuntimeError("oh\nno")
    if job == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "exit":
        os._exit(3)
    if job == "stop":
        raise StopRun("the model is not there")
    if job == "slow":
        time.sleep(60)
    return f"{job} done", os.environ.get("OMP_NUM_THREADS"), os.getpid()


def _start():
    return _work


def _start_broken():
    raise InputError("no such model")


def _start_dying():
    os._exit(9)


def _start_counting(path):
    with path.open("a") as file:
        file.write("started\n")
    return _work


@pytest.mark.parametrize("processes", [1, 2])
def test_every_job_has_one_outcome(processes):
    jobs = [f"job{i}" for i in range(7)]
    jobs[2] = "bad"
    jobs[4] = "bug"
    outcomes = {outcome.index: outcome for outcome in run_jobs(jobs, _start, processes=processes)}
    assert sorted(outcomes) == list(range(7))
    assert outcomes[2].error == "bad.png is broken"
    assert outcomes[4].error == "internal error: RuntimeError: oh no"
    assert [outcomes[i].value[0] for i in (0, 1, 3, 5, 6)] == [f"{jobs[i]} done" for i in (0, 1, 3, 5, 6)]


def test_workers_are_other_processes_of_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    values = [outcome.value for outcome in run_jobs(["a", "b", "c"], _start, processes=2)]
    assert all(value[1] == "1" and value[2] != os.getpid() for value in values)
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_a_worker_is_started_once_not_for_every_job(tmp_path):
    start = functools.partial(_start_counting, tmp_path / "log")
    assert len(list(run_jobs(list("abcdefgh"), start, processes=2))) == 8
    assert len((tmp_path / "log").read_text().splitlines()) == 2


def test_a_dying_worker_fails_its_job_only():
    jobs = ["a", "crash", "b", "exit", "c", "d"]
    outcomes = {outcome.index: outcome for outcome in run_jobs(jobs, _start, processes=2)}
    assert outcomes[1].error == "the worker process was killed (SIGKILL)"
    assert outcomes[3].error == "the worker process ended with exit code 3"
    assert all(outcomes[i].error is None for i in (0, 2, 4, 5))


@pytest.mark.parametrize("processes", [1, 2])
def test_stop_ends_the_run(processes):
    with pytest.raises(StopRun, match="model is not there"):
        list(run_jobs(["stop", "stop", "stop"], _start, processes=processes))


def test_workers_that_cannot_start_are_an_error_not_a_hang():
    with pytest.raises(StopRun, match="no such model"):
        list(run_jobs(["a", "b"], _start_broken, processes=2))
    with pytest.raises(StopRun, match=r"cannot start: .*exit code 9"):
        list(run_jobs(["a", "b"], _start_dying, processes=2))


def test_leaving_early_ends_the_workers():
    started = time.monotonic()
    outcomes = run_jobs(["a", "slow", "slow", "slow"], _start, processes=2)
    first = next(outcomes)
    outcomes.close()
    assert first.value[0] == "a done"
    assert time.monotonic() - started < 30


def test_a_log_tells_failures_and_sums_up(capfd, tmp_path):
    app = App("tiny-task", "T", "D.", cli="x:cli")
    log = BatchLog(app, [("none/*.png", "nothing matches")])
    jobs = ["a", "bad", "crash"]
    found = dict(log.results(jobs, _start, names=["a.png", "bad.png", "c.png"], processes=2, title="working"))
    assert found[0][0] == "a done"
    assert (found[1], found[2]) == (None, None)
    log.summarize(tmp_path, 1, 2, as_json=False)
    err = capfd.readouterr().err.splitlines()
    assert err[0] == "multiway-tiny-task: none/*.png: nothing matches"
    assert sorted(err[1:3]) == [
        "multiway-tiny-task: bad.png is broken",
        "multiway-tiny-task: c.png: the worker process was killed (SIGKILL)",
    ]
    assert err[3] == f"multiway-tiny-task: 1 written to {tmp_path}, 2 were there already, 3 failed"
    log.summarize(tmp_path, [{"source": "a.png"}], [], as_json=True)
    summary = json.loads(capfd.readouterr().out)
    assert summary["done"] == [{"source": "a.png"}]
    assert summary["failed"][0] == {"source": "none/*.png", "error": "nothing matches"}
    assert [log.exit_code(1), log.exit_code(0), BatchLog(app).exit_code(0)] == [1, 2, 0]


def test_nothing_to_do():
    assert list(run_jobs([], _start, processes=4)) == []
