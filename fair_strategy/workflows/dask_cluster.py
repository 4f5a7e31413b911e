"""Workers on Dask distributed: of this machine, of SLURM, or of a scheduler that runs already."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from fair_strategy.workflows.executors import Workers, positive, queued

log = logging.getLogger(__name__)

# A page, or the port of one, for whoever reaches this machine is not opened unasked.
_NO_PAGE = "127.0.0.1:0"
_LOCAL = {
    "distributed.comm.timeouts.connect": "180s",  # a machine that is slow with other work
    # Dask would end for good a worker that is not there so long after one of its deaths, be it
    # for being started again after the next death.
    "distributed.deploy.lost-worker-timeout": "52w",
}
_PATIENCE_S = 300.0


@contextmanager
def dask_workers(where: str) -> Iterator[Workers]:
    """Workers of the cluster that a text names; see `executors.workers`.

    A cluster that is started here is stopped at the end of the block; one that ran already stays.
    The work that a worker had when it ended is given to another one.

    Raises:
        ValueError: without Dask, or if its configuration does not say what a SLURM job is.
        OSError: if no scheduler answers.
    """
    distributed = _imported("distributed")
    with _cluster(where) as cluster, distributed.Client(cluster, set_as_default=False) as client:
        if not client.nthreads():
            log.warning("%s: no worker has joined yet; waiting for the first", where)
        executor = client.get_executor(pure=False)
        try:
            yield Workers(
                executor,
                _capacity(client, _PATIENCE_S if where.startswith("local") else math.inf),
                threads=1,
                kills=(distributed.KilledWorker,),
                losses=(CancelledError, distributed.CancelledError, OSError),
            )
        finally:
            executor.shutdown(wait=False)


@contextmanager
def _cluster(where: str) -> Iterator[Any]:
    """The address, or a cluster that lives as long as the block."""
    kind, _, count = where.partition(":")
    if kind == "local":
        with _imported("dask").config.set(_LOCAL), _local(positive(count, where)) as cluster:
            yield cluster
    elif kind == "slurm":
        with slurm_cluster() as cluster:
            cluster.scale(jobs=positive(count or "1", where))
            yield cluster
    else:
        yield where


def _capacity(client: Any, patience_s: float) -> Callable[[], int]:
    """Two a thread of the workers that are there now; an OSError if there is none for too long.

    A queue may let jobs wait for hours. Processes of this machine start at once or never: Dask
    gives one up that could not be started again.
    """
    last = time.monotonic()

    def ask() -> int:
        nonlocal last
        threads = sum(client.nthreads().values())
        now = time.monotonic()
        if threads:
            last = now
        elif now - last > patience_s:
            raise OSError(f"no worker for {patience_s:.0f} s")
        return queued(threads)

    return ask


def _local(count: int) -> Any:
    # Whoever can send to a scheduler runs code as its user: on a machine that others use too,
    # the loopback alone is no fence, certificates of the moment are.
    return _imported("distributed").LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        host="127.0.0.1",
        protocol="tls://",
        security=True,
        dashboard_address=_NO_PAGE,
        silence_logs=logging.ERROR,
    )


@contextmanager
def slurm_cluster(**options: Any) -> Iterator[Any]:
    """A cluster of SLURM jobs as Dask's configuration describes one, under ``jobqueue.slurm``.

    Its jobs are cancelled, and its keys removed, at the end of the block.

    Args:
        options: in the place of what is configured; see dask_jobqueue.SLURMCluster.
    Raises:
        ValueError: if cores and memory of a job are not configured.
    """
    jobqueue = _imported("dask_jobqueue")
    configured = _imported("dask").config.get("jobqueue.slurm")
    scheduler = {"dashboard_address": _NO_PAGE, **configured["scheduler-options"]}
    options = {"scheduler_options": scheduler, **options}
    if configured["shared-temp-directory"]:
        options = {"security": True, **options}  # the certificates of the moment lie there
    else:
        log.warning(
            "cluster slurm: traffic with the workers is not encrypted, and whoever reaches the "
            "scheduler runs code as you; configure jobqueue.slurm.shared-temp-directory"
        )
    try:
        cluster = jobqueue.SLURMCluster(**options)
    except ValueError as error:
        raise ValueError(
            f"cluster slurm: {error}; write cores, memory and processes under jobqueue: slurm: in "
            "~/.config/dask/jobqueue.yaml, see docs/how-to/score-on-a-cluster.md"
        ) from error
    try:
        with cluster:
            yield cluster
    finally:
        for file in filter(_is_temporary_file, list(vars(cluster).values())):
            file.close()


def _is_temporary_file(value: Any) -> bool:
    return hasattr(value, "delete") and hasattr(value, "close") and hasattr(value, "file")


def _imported(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise ValueError(
            f"--cluster needs {name.replace('_', '-')}, which cannot be imported ({error}); "
            "install the extra: pip install -c constraints.txt -e '.[cluster]'"
        ) from error
