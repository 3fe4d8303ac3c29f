"""Independent runs, mapped: the same numbers in the same order wherever they run, and nothing done twice.

Worker processes, a Dask scheduler and its workers are real ones, killed for real.
"""

import functools
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import jobs
import pytest
import torch

from lessons_lib import engine, models
from lessons_lib.data import Dataset
from lessons_lib.settings import Settings, settings
from lessons_lib.training import fit

HERE = Path(__file__).parent
COUNT = 6
SQUARES = str([number**2 for number in range(COUNT)])


def environment(**set_here):
    """This process's environment with LESSONS_* variables of its own, and a way to import the jobs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LESSONS_")}
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    return kept | {"PYTHONPATH": path, "LESSONS_DEVICE": "cpu", "LESSONS_THREADS": "1"} | set_here


def start(name, notes, **set_here):
    """Map a job of tests/jobs.py over COUNT numbers, in a process of its own."""
    code = f"import jobs; jobs.main({name!r}, {COUNT}, {str(notes)!r})"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(**set_here),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """What it printed, a list of lines."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.splitlines()


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


@pytest.fixture
def keeping(tmp_path, monkeypatch):
    """Results are kept, in this process."""
    monkeypatch.setitem(vars(settings), "cache", tmp_path / "kept")
    monkeypatch.setattr(engine, "reused", 0)
    return tmp_path / "kept"


def wait_for(condition, seconds=60):
    for _ in range(seconds * 20):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen")


# ------------------------------------------------------------------------------------------ in this process


def test_serial_keeps_order_and_raises():
    assert engine.map(lambda a: a * a, [(2,), (3,)]) == [4, 9]
    with pytest.raises(ZeroDivisionError):
        engine.map(lambda a: 1 / a, [(0,)])


def test_a_kept_result_is_not_computed_again_and_other_inputs_are(keeping, notes):
    first = engine.map(jobs.slow_square, [(n, str(notes), 0.0) for n in range(3)])
    again = engine.map(jobs.slow_square, [(n, str(notes), 0.0) for n in range(4)])
    assert again[:3] == first
    assert engine.reused == 3
    assert jobs.times_begun(notes) == dict.fromkeys(range(4), 1)


def test_a_kept_none_is_a_result_too(keeping):
    assert engine.map(lambda n: None, [(1,)]) == engine.map(lambda n: None, [(1,)]) == [None]
    assert engine.reused == 1


@pytest.mark.parametrize("change", [{"seed": 1}, {"scale": "paper"}, {"threads": 2}])
def test_another_setting_is_another_result(keeping, monkeypatch, change):
    engine.map(lambda n: n, [(1,)])
    vars(settings).update(change)
    engine.map(lambda n: n, [(1,)])
    vars(settings).update({name: getattr(Settings(), name) for name in change})
    assert engine.reused == 0


def test_another_version_of_the_code_is_another_result(keeping, monkeypatch):
    engine.map(lambda n: n, [(1,)])
    monkeypatch.setattr(engine, "_code", lambda: "another")
    engine.map(lambda n: n, [(1,)])
    assert engine.reused == 0


def test_a_job_that_fails_leaves_the_results_before_it_kept(keeping):
    def inverse(number):
        return 1 / number

    with pytest.raises(ZeroDivisionError):
        engine.map(inverse, [(2,), (1,), (0,)])
    with pytest.raises(ZeroDivisionError):
        engine.map(inverse, [(2,), (1,), (0,)])
    assert engine.reused == 2


def test_inputs_that_cannot_be_told_apart_are_computed_and_not_kept(keeping):
    lock = __import__("threading").Lock()
    with pytest.warns(UserWarning, match="are not kept: a lock cannot be told"):
        assert engine.map(lambda n, lock: n, [(1, lock)]) == [1]
    assert not keeping.exists()


def training(lr=0.1, hooks=(), how="one by one"):
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    data = Dataset("toy", x, torch.arange(40) % 3, x, torch.arange(40) % 3, 3)
    return fit(
        lambda: models.mlp(6, 8, 3), data, seeds=[1, 2, 3], epochs=2, batch_size=8, lr=lr, how=how, hooks=hooks,
        checkpoints=[1],
    )  # fmt: skip


@pytest.mark.parametrize("how, results", [("one by one", 3), ("together", 1)])
def test_a_training_is_kept_whole(keeping, how, results):
    one, other = training(how=how), training(how=how)
    assert engine.reused == results
    assert one.history.equals(other.history)
    for epoch in (1, 2):
        states = [run.model("all", 2, epoch).state_dict() for run in (one, other)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(next(one.model("all", 2, 1).parameters()), next(one.model("all", 2, 2).parameters()))
    training(lr=0.2, how=how)
    assert engine.reused == results


def test_a_training_with_hooks_runs_every_time(keeping):
    seen = []
    for _ in range(2):
        training(hooks=[lambda step: seen.append(step.number)])
    assert len(seen) == 2 * 3 * 2 * 5
    assert not keeping.exists()


# ------------------------------------------------------------------------------------- in worker processes


def test_processes_give_what_one_process_gives(monkeypatch):
    monkeypatch.setitem(vars(settings), "engine", "processes")
    many = training()
    monkeypatch.setitem(vars(settings), "engine", "serial")
    assert many.history.equals(training().history)


def test_many_more_jobs_than_processes_are_all_done(notes):
    # Few jobs are all sent before the first result is in; with many, sending and receiving go on side by side.
    squares = engine.map(jobs.slow_square, [(n, str(notes), 0.02) for n in range(60)], over="processes")
    assert [result["square"] for result in squares] == [n * n for n in range(60)]


def test_workers_have_the_callers_settings(monkeypatch):
    before = jobs.told(3)
    monkeypatch.setitem(vars(settings), "engine", "processes")
    monkeypatch.setitem(vars(settings), "seed", 5)
    for told in engine.map(jobs.told, [(3,), (3,)]):
        assert (told["seed"], told["engine"]) == (5, "serial")
        assert not torch.equal(told["draw"], before["draw"])
        assert torch.equal(told["draw"], jobs.told(3)["draw"])


def test_a_notebooks_cached_function_is_sent_and_a_modules_stays_itself():
    @functools.lru_cache(maxsize=7)
    def square(n):
        return n * n

    square(2)
    assert engine.map(lambda n: (square(n), square.cache_parameters()["maxsize"]), [(2,), (3,)], over="processes") == [
        (4, 7),
        (9, 7),
    ]
    assert pickle.loads(pickle.dumps(jobs.doubled)) is jobs.doubled


def test_a_job_that_fails_in_a_worker_raises_here(monkeypatch):
    monkeypatch.setitem(vars(settings), "engine", "processes")
    with pytest.raises(ZeroDivisionError):
        engine.map(lambda a: 1 / a, [(1,), (0,)])


def test_a_worker_killed_in_mid_sweep_costs_only_what_it_was_doing(tmp_path, notes):
    process = start("kills_its_process_once", notes, LESSONS_ENGINE="processes", LESSONS_CACHE=str(tmp_path / "kept"))
    squares, said = finish(process)
    assert squares == f"{SQUARES} 0"
    assert "a worker process was killed; computing" in said
    begun = jobs.times_begun(notes)
    assert begun[2] == 2
    assert sum(begun.values()) <= COUNT + 1 + 2 * (os.cpu_count() or 1)  # what each worker had begun, or was handed


def test_workers_that_keep_dying_are_one_clear_error_and_the_rest_is_kept(tmp_path, notes):
    cache = tmp_path / "kept"
    process = start("kills_its_process", notes, LESSONS_ENGINE="processes", LESSONS_CACHE=str(cache))
    _, error = process.communicate(timeout=120)
    assert "EngineError: worker processes were killed 3 times" in error
    assert list(cache.rglob("*.pt"))


def test_a_caller_killed_in_mid_sweep_goes_on_where_it_was(tmp_path, notes):
    cache = {"LESSONS_CACHE": str(tmp_path / "kept")}
    process = start("slow_square", notes, **cache)
    wait_for(lambda: len(list(notes.iterdir())) == 3)
    process.kill()
    process.wait()
    assert finish(start("slow_square", notes, **cache))[0] == f"{SQUARES} 2"
    assert jobs.times_begun(notes) == {0: 1, 1: 1, 2: 2, 3: 1, 4: 1, 5: 1}


def test_two_callers_share_one_folder(tmp_path, notes):
    cache = {"LESSONS_CACHE": str(tmp_path / "kept")}
    both = [start("slow_square", notes, **cache) for _ in range(2)]
    assert [finish(process)[0].rsplit(" ", 1)[0] for process in both] == [SQUARES, SQUARES]
    assert finish(start("slow_square", notes, **cache))[0] == f"{SQUARES} {COUNT}"


# --------------------------------------------------------------------------------------- on a Dask cluster


class Cluster:
    """A scheduler and its workers, each a process on this machine."""

    def __init__(self, folder):
        self.folder, self.processes = folder, {}
        self.file = folder / "scheduler.json"
        self.launch("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", self.file)
        wait_for(self.file.exists)
        self.address = __import__("json").loads(self.file.read_text())["address"]

    def launch(self, name, *arguments):
        """Start ``dask ARGUMENTS``; it says what it has to say in NAME.log."""
        with open(self.folder / f"{name}.log", "w") as log:
            self.processes[name] = subprocess.Popen(
                [Path(sys.executable).with_name("dask"), *map(str, arguments), "--no-dashboard"],
                env=environment(LESSONS_SEED="77"), cwd=self.folder, stdout=log, stderr=log,
            )  # fmt: skip

    def worker(self, name):
        """Start a worker of one thread, without a nanny that would replace it."""
        self.launch(name, "worker", self.address, "--nthreads", "1", "--no-nanny", "--name", name)

    def stop(self):
        """Kill whatever still runs."""
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path):
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = Cluster(folder)
    yield cluster
    cluster.stop()


def test_a_cluster_gives_what_one_process_gives_and_survives_a_killed_worker(cluster, notes, tmp_path, monkeypatch):
    cluster.worker("one")
    cluster.worker("other")
    monkeypatch.setitem(vars(settings), "engine", cluster.address)
    monkeypatch.setattr("lessons_lib.cluster.APART", 64)  # so that the toy's tensors travel apart
    many = training()
    told = engine.map(jobs.told, [(3,), (3,)])
    with pytest.raises(ZeroDivisionError):
        engine.map(lambda a: 1 / a, [(1,), (0,)])
    monkeypatch.setitem(vars(settings), "engine", "serial")
    assert many.history.equals(training().history)
    assert [result["seed"] for result in told] == [settings.seed] * 2  # not 77, which the workers were started with
    assert all(torch.equal(result["draw"], jobs.told(3)["draw"]) for result in told)

    shared = {"LESSONS_ENGINE": cluster.address, "LESSONS_CACHE": str(tmp_path / "kept")}
    process = start("slow_square", notes, **shared)
    wait_for(lambda: len(list(notes.iterdir())) >= 3)
    cluster.processes["other"].send_signal(signal.SIGKILL)
    assert finish(process)[0] == f"{SQUARES} 0"
    begun = jobs.times_begun(notes)
    assert sum(begun.values()) <= COUNT + 2  # what the dead one was doing, and had done and not yet handed over


def test_a_caller_of_a_cluster_killed_in_mid_sweep_goes_on_where_it_was(cluster, notes, tmp_path):
    cluster.worker("one")
    shared = {"LESSONS_ENGINE": cluster.address, "LESSONS_CACHE": str(tmp_path / "kept")}
    process = start("slow_square", notes, **shared)
    wait_for(lambda: len(list((tmp_path / "kept").rglob("*.pt"))) >= 2)
    process.kill()
    process.wait()
    squares, reused = finish(start("slow_square", notes, **shared))[0].rsplit(" ", 1)
    assert squares == SQUARES
    assert int(reused) >= 2
    begun = jobs.times_begun(notes)
    assert set(begun) == set(range(COUNT))
    assert sum(begun.values()) <= COUNT + 2


def test_a_scheduler_that_is_not_there_or_has_no_worker_is_one_clear_error(cluster, monkeypatch):
    monkeypatch.setattr("lessons_lib.cluster.PATIENCE", 5)
    monkeypatch.setitem(vars(settings), "engine", cluster.address)
    with pytest.raises(engine.EngineError, match="has no worker; start one with: dask worker tcp://"):
        engine.map(lambda n: n, [(1,), (2,)])
    cluster.stop()
    with pytest.raises(engine.EngineError, match="no Dask scheduler answers at tcp://"):
        engine.map(lambda n: n, [(1,), (2,)])


def test_a_worker_with_another_library_is_refused():
    with pytest.raises(engine.EngineError, match="another lessons_lib"):
        engine._as_told(engine._told(), "another", abs, (-1,))
