"""Workers on Dask distributed: of this machine, of SLURM, or of a scheduler that runs already."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from fair_strategy.workflows.executors import Workers, positive, queued

log = logging.getLogger(__name__)

ENDED_EACH_TIME = "its worker ended each time that this volume was tried; out of memory, perhaps"


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
                lambda: queued(sum(client.nthreads().values())),
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
        with _local(positive(count, where)) as cluster:
            yield cluster
    elif kind == "slurm":
        with slurm_cluster() as cluster:
            cluster.scale(jobs=positive(count or "1", where))
            yield cluster
    else:
        yield where


def _local(count: int) -> Any:
    # Whoever can send to a scheduler runs code as its user: on a machine that others use too,
    # the loopback alone is no fence, certificates of the moment are.
    return _imported("distributed").LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        host="127.0.0.1",
        protocol="tls://",
        security=True,
        dashboard_address=None,
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
    # A page for whoever reaches the port is opened only if it is asked for.
    scheduler = {"dashboard_address": None, **configured["scheduler-options"]}
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
