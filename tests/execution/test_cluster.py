"""A Dask cluster on this machine, its scheduler and two workers started as programs of their own, and batch systems' job scripts."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest
from helpers import ROOT, edit_config, make_run, same_arrays, same_sweeps, tiny

import minima_volume as mv
from minima_volume.config.run import Config, Execution, parse_config
from minima_volume.errors import ConfigError
from minima_volume.execution.cluster import ClusterError, connect, make_jobqueue, num_slots
from minima_volume.execution.tasks import run_tasks
from minima_volume.files.yaml import write_yaml
from minima_volume.runs.pipeline import run_pipeline

CONFIG = parse_config(tiny())


@dataclass(frozen=True)
class Piece:
    """A tiny piece of work; `marker` is a file that the first process to do it leaves before it is killed."""

    number: int
    config: Config
    marker: Path | None = None


def square(piece: Piece) -> int:
    if piece.marker is not None and not piece.marker.exists():
        piece.marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return piece.number**2


def always_killed(piece: Piece) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@contextlib.contextmanager
def cluster(folder: Path, workers: int = 2):
    """Address of a scheduler, and its process."""
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "tests/execution"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
    file = folder / "scheduler.json"

    def program(name, *arguments):
        command = [sys.executable, "-m", f"distributed.cli.{name}", *map(str, arguments)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    scheduler = program(
        "dask_scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", file
    )
    started = [scheduler]
    try:
        until = time.monotonic() + 120
        while not file.exists() and time.monotonic() < until:
            time.sleep(0.2)
        address = mv.read_json(file)["address"]
        options = ("--nthreads", 1, "--no-dashboard", "--local-directory", folder, "--host", "127.0.0.1")
        started += [program("dask_worker", address, *options) for _ in range(workers)]
        while workers and num_slots(address) < workers and time.monotonic() < until:
            time.sleep(0.2)
        yield address, scheduler
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(timeout=60)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("dask")) as (found, _):
        yield found


@pytest.fixture
def impatient(monkeypatch):
    """A connection is given up after seconds."""
    monkeypatch.setattr("minima_volume.execution.cluster.CONNECT_SECONDS", 30)


def pieces(count, address=None, **options):
    execution = Execution(scheduler=address)
    return [Piece(i, CONFIG.model_copy(update={"execution": execution}), **options) for i in range(count)]


def test_tasks_on_two_programs(address):
    """Every result once, in any order; with one worker wanted, here."""
    results = {task.number: result for task, result in run_tasks(square, pieces(30, address), 2)}
    assert results == {i: i * i for i in range(30)}
    assert [result for _, result in run_tasks(square, pieces(3, address), 1)] == [0, 1, 4]


def test_a_worker_program_killed_at_its_work_costs_nothing(address, tmp_path):
    """SIGKILL in the middle of a piece: it is done again."""
    todo = [*pieces(4, address), *pieces(1, address, marker=tmp_path / "killed")]
    assert sorted(result for _, result in run_tasks(square, todo, 2)) == [0, 0, 1, 4, 9]
    assert (tmp_path / "killed").exists()


def test_a_process_of_this_machine_killed_at_its_work_costs_nothing(tmp_path):
    """The same without a cluster; work that always kills its process ends with an error that says so."""
    todo = [*pieces(4), *pieces(1, marker=tmp_path / "killed")]
    assert sorted(result for _, result in run_tasks(square, todo, 2)) == [0, 0, 1, 4, 9]
    assert (tmp_path / "killed").exists()


def test_the_pipeline_on_a_cluster_gives_the_same_numbers(address, tmp_path):
    """More runs than workers: notebooks are the cluster's pieces of work, each in a kernel of its own, on its host."""
    few = {"data.levels": [0], "volume.loss_thresholds": [0.5], "volume.accuracy_thresholds": None}
    write_yaml(tmp_path / "config.yaml", tiny(few))
    runs = mv.new_runs(tmp_path, mv.seed_pairs(2))
    outcomes = run_pipeline(tmp_path, scheduler=address, stages=["train", "perturb"], progress=False)
    assert [o.outcome for o in outcomes] == ["done"] * 4, outcomes
    same_arrays(
        runs[0] / "data_0" / "data_0.npz",
        make_run(
            tmp_path / "model_0_data_10b", {**few, "seeds.model": 0, "seeds.data": 10}, ("train", "perturb")
        ).sweep_file(0, 0),
    )
    assert not [path for run in runs for path in run.glob(".*")]


def test_a_sweep_on_a_cluster_is_the_same_bit_for_bit(address, digits_run, copied):
    """Shards on other programs; config.yaml names the scheduler."""
    for pair in copied.pairs():
        copied.sweep_file(pair.landscape, pair.minimum).unlink()
    run = edit_config(copied.folder, {"perturbation.workers": 2, "execution.scheduler": address})
    mv.sweep(run, progress=False)
    same_sweeps(digits_run, run)


def test_training_on_a_cluster_is_the_same_bit_for_bit(address, digits_run, copied):
    """A piece of work for each level."""
    for level in copied.config.minima:
        copied.model_file(level).unlink()
    run = edit_config(copied.folder, {"perturbation.workers": 2, "execution.scheduler": address})
    records = mv.train_models(run, progress=False).records
    for level, record in mv.load_models_and_data(digits_run).records.items():
        assert records[level]["weights_hash"] == record["weights_hash"]
        assert records[level]["test_loss"] == record["test_loss"]


def test_a_scheduler_that_goes_away_in_the_middle(tmp_path, impatient):
    """An error that says what to do, soon; what was handed over before stays."""
    with cluster(tmp_path, workers=1) as (address, scheduler):
        tasks = run_tasks(square, pieces(2000, address), 2)
        assert next(tasks)[1] >= 0
        scheduler.kill()
        with pytest.raises(ClusterError, match="went away; what is finished is kept, run again to go on"):
            list(tasks)


def test_a_cluster_that_is_not_there(monkeypatch):
    """No program answers; the address is not one; both ways are named."""
    monkeypatch.setattr("minima_volume.execution.cluster.CONNECT_SECONDS", 2)
    with pytest.raises(ClusterError, match=r"nothing answers at 'tcp://127.0.0.1:1'"):
        connect(Execution(scheduler="tcp://127.0.0.1:1"))
    for wrong, words in (
        ({"scheduler": "localhost:8786"}, "execution.scheduler: 'localhost:8786' is not allowed: tcp://<host>:<port>"),
        ({"scheduler": "tcp://a:1", "cluster": "slurm"}, "scheduler and cluster are both set"),
        ({"cluster": "kubernetes"}, "execution.cluster: 'kubernetes' is not allowed"),
    ):
        with pytest.raises(ConfigError) as error:
            parse_config(tiny() | {"execution": wrong})
        assert words in str(error.value)


def test_a_cluster_on_this_machine(tmp_path, capfd):
    """Started by the pipeline: one-thread workers, a dashboard that answers, the same weights as without it."""
    few = {"data.levels": [0], "volume.loss_thresholds": [0.5], "volume.accuracy_thresholds": None}
    local = {"execution": {"cluster": "local", "options": {"n_workers": 1}}}
    write_yaml(tmp_path / "config.yaml", tiny(few) | local)
    run = mv.new_runs(tmp_path, mv.seed_pairs(1))[0]
    outcomes = run_pipeline(tmp_path, stages=["train"], progress=True)
    assert [o.outcome for o in outcomes] == ["done"], outcomes
    said = capfd.readouterr().out
    link = re.search(r"work goes to the 1 workers of tcp://\S+; dashboard: (http://\S+/status)", said)
    assert link, said
    with urlopen(link[1], timeout=20) as page:
        assert page.status == 200 and b"Dask" in page.read()
    alone = mv.train_models(make_run(tmp_path / "alone" / "model_0_data_10", few), progress=False)
    assert mv.load_models_and_data(run).records[0]["weights_hash"] == alone.records[0]["weights_hash"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers_n": 4}, "workers_n: not known with cluster: local; allowed: n_workers, "),
        ({"n_workers": 0}, "n_workers 0 is not allowed: it must be a whole number, 1 or more"),
        ({"n_workers": "two"}, "n_workers 'two' is not allowed"),
    ],
)
def test_wrong_options_of_a_local_cluster(options, words):
    """Named, before anything is started."""
    with pytest.raises(ConfigError, match=words):
        connect(Execution(cluster="local", options=options))


@pytest.mark.parametrize(
    ("system", "options", "lines"),
    [
        ("slurm", {"queue": "gpu", "walltime": "10:00:00"}, ["#SBATCH -p gpu", "#SBATCH -t 10:00:00", "--nthreads 1"]),
        ("pbs", {"walltime": "02:00:00", "memory": "8GB"}, ["#PBS -l select=1:ncpus=1:mem=7630MB", "--nthreads 1"]),
        ("sge", {"queue": "all.q"}, ["#$ -q all.q", "--nthreads 1"]),
        ("slurm", {"cores": 4, "processes": 4}, ["#SBATCH --cpus-per-task=4", "--nthreads 1", "--nworkers 4"]),
    ],
)
def test_job_scripts(system, options, lines):
    """What would be submitted, read without the batch system: one-thread processes by default."""
    jobs = make_jobqueue(Execution(cluster=system, options={"interface": "lo", **options}))
    try:
        script = jobs.job_script()
    finally:
        jobs.close()
    assert all(line in script for line in lines), script


def test_wrong_options_of_a_batch_system():
    """Named."""
    with pytest.raises(ConfigError, match=r"execution.options \{'coers': 4\}"):
        make_jobqueue(Execution(cluster="slurm", options={"coers": 4}))
