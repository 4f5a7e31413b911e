"""SLURM without SLURM: the script that would be submitted, and a stand-in that runs it."""

import os
import signal
import stat
import time

import pytest

from fair_strategy.workflows.dask_cluster import slurm_cluster
from fair_strategy.workflows.executors import as_finished, workers

dask = pytest.importorskip("dask", reason="needs the extra cluster")
pytest.importorskip("dask_jobqueue", reason="needs the extra cluster")

pytestmark = [
    # Dask drops a last question to its scheduler when a cluster is closed.
    pytest.mark.filterwarnings("ignore:coroutine 'rpc.*was never awaited:RuntimeWarning"),
    # Of a cluster whose constructor refuses, nothing is there to be closed.
    pytest.mark.filterwarnings("ignore:unclosed cluster with a broken:ResourceWarning"),
]

SBATCH = """#!/bin/sh
# A job is a process of this machine; its script is removed when sbatch returns.
cp "$1" "{folder}/job.sh"
setsid bash "{folder}/job.sh" > "{folder}/job.log" 2>&1 &
echo $! >> "{folder}/jobs"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
echo "$@" >> "{folder}/cancelled"
for job in "$@"; do kill -- -"$job"; done
"""


@pytest.fixture
def configured(tmp_path):
    """What a site writes into jobqueue.yaml."""
    folder = tmp_path / "shared"
    folder.mkdir()
    with dask.config.set(
        {
            "jobqueue.slurm.cores": 4,
            "jobqueue.slurm.processes": 4,
            "jobqueue.slurm.memory": "16GB",
            "jobqueue.slurm.queue": "imaging",
            "jobqueue.slurm.account": "fairness",
            "jobqueue.slurm.walltime": "02:00:00",
            "jobqueue.slurm.interface": "lo",
            "jobqueue.slurm.shared-temp-directory": str(folder),
        }
    ):
        yield folder


def test_the_job_script_asks_for_what_is_configured_and_starts_one_thread_a_process(configured):
    with slurm_cluster() as cluster:
        script = cluster.job_script()
    for line in ("-p imaging", "-A fairness", "-n 1", "--cpus-per-task=4", "--mem=15G"):
        assert f"#SBATCH {line}" in script
    assert "#SBATCH -t 02:00:00" in script
    command = script.splitlines()[-1]
    assert "distributed.cli.dask_worker tls://127.0.0.1:" in command
    assert "--nworkers 4" in command
    assert "--nthreads 1 " in command
    assert f"--tls-key {configured}" in command


def test_without_a_shared_folder_the_log_says_that_nothing_is_encrypted(configured, caplog):
    with (
        dask.config.set({"jobqueue.slurm.shared-temp-directory": None}),
        slurm_cluster() as cluster,
    ):
        assert "tcp://" in cluster.job_script()
    assert "not encrypted" in caplog.text


def test_a_job_that_is_not_configured_is_one_sentence():
    with pytest.raises(ValueError, match=r"jobqueue\.yaml"), workers("slurm"):
        pass


def test_submitted_jobs_do_the_work_and_are_cancelled_at_the_end(configured, tmp_path, monkeypatch):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tools / name).write_text(text.format(folder=tmp_path))
        (tools / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    one = {"jobqueue.slurm.cores": 1, "jobqueue.slurm.processes": 1, "jobqueue.slurm.memory": "2GB"}
    with dask.config.set(one), workers("slurm:1") as made:
        found = dict(as_finished(made, os.path.basename, [f"/scan/{n}" for n in range(20)]))
        processes = {
            process for _, process in as_finished(made, eval, 4 * ["__import__('os').getpid()"])
        }
    assert found == {f"/scan/{n}": str(n) for n in range(20)}
    assert os.getpid() not in processes
    jobs = (tmp_path / "jobs").read_text().split()
    assert (tmp_path / "cancelled").read_text().split() == jobs
    assert len(jobs) == 1
    assert ended(int(jobs[0]), within_s=60)


def ended(group: int, *, within_s: float) -> bool:
    """Whether a job's processes are gone; those that are not are killed."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    return False
