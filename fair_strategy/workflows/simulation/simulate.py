"""A whole simulation: cohorts, then every run, one after another or several side by side."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from fair_strategy.workflows.simulation.cohorts import POOL, TEST, make_cohort
from fair_strategy.workflows.simulation.description import write_description
from fair_strategy.workflows.simulation.first_models import Workspace
from fair_strategy.workflows.simulation.plan import Run, runs
from fair_strategy.workflows.simulation.progress import Progress
from fair_strategy.workflows.simulation.run import play
from fair_strategy.workflows.simulation.settings import SimulationSettings
from fair_strategy.workflows.simulation.shards import is_finished, read_shard, shard_path
from fair_strategy.workflows.simulation.tables import write_tables
from fair_strategy.workflows.threads import keep_numpy_to_one_thread, one_thread


def simulate(
    simulation: SimulationSettings,
    workspace: Workspace,
    *,
    stage: str | None = None,
    jobs: int = 1,
    resume: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Play all runs of a simulation and write its tables.

    The result depends on the settings alone (on a CPU): not on `jobs`, nor on where an earlier
    call was killed. The tables are written after every run, of what there is; run.json at the
    beginning, after every run and at the end.

    Args:
        workspace: where; the device.
        stage: only the runs of this one.
        jobs: processes, each with one thread.
        resume: go on with what an earlier call left.
        say: called with a sentence now and then.
    Returns:
        `runs`, `rounds`, `seconds` of this call and `out`.
    Raises:
        ValueError: for an unknown stage, or if results are there and `resume` is False, or if they
            are of other settings.
    """
    started = time.monotonic()
    wanted, known = runs(simulation, stage), runs(simulation)
    _check_results(workspace, known, resume=resume)
    for run in wanted:
        read_shard(workspace.out, run)  # refuses one of other settings before any work
    with counted(workspace, wanted, say) as progress:
        todo = [run for run in wanted if not is_finished(workspace.out, run)]
        for note in write_description(simulation, workspace, known, todo=todo):
            say(note)
        _make_cohorts(workspace, todo, jobs, say)
        for _ in _played(workspace, todo, jobs, progress):
            write_tables(workspace.out, known)
            write_description(simulation, workspace, known)
    write_tables(workspace.out, known)
    seconds = time.monotonic() - started
    write_description(simulation, workspace, known, seconds=seconds)
    return {
        "out": str(workspace.out),
        "runs": len(wanted),
        "rounds": sum(run.rounds for run in wanted),
        "seconds": round(seconds, 1),
    }


def play_one(
    workspace: Workspace, run: Run, *, say: Callable[[str], None] = lambda _: None
) -> None:
    """Play one run to its end, with what it needs, and write no tables."""
    workspace.out.mkdir(parents=True, exist_ok=True)
    read_shard(workspace.out, run)
    with counted(workspace, [run], say) as progress:
        _make_cohorts(workspace, [run], 1, say)
        list(_played(workspace, [run], 1, progress))


@contextmanager
def counted(
    workspace: Workspace, wanted: Sequence[Run], say: Callable[[str], None]
) -> Iterator[Progress]:
    """Progress over the rounds of some runs."""
    done = sum(
        len(read_shard(workspace.out, run)["rounds"])
        for run in wanted
        if shard_path(workspace.out, run).exists()
    )
    yield Progress(total=sum(run.rounds for run in wanted), done=done, say=say)


def _check_results(workspace: Workspace, known: Sequence[Run], *, resume: bool) -> None:
    workspace.out.mkdir(parents=True, exist_ok=True)
    found = [run for run in known if shard_path(workspace.out, run).exists()]
    if found and not resume:
        raise ValueError(
            f"{workspace.out}: holds results of {len(found)} runs; go on with them by --resume, or "
            "choose another --out"
        )


def _make_cohorts(
    workspace: Workspace, todo: Sequence[Run], jobs: int, say: Callable[[str], None]
) -> None:
    wanted = dict.fromkeys((run.bias, run.block.field_of_view) for run in todo)
    for bias, view in wanted:
        for part in (POOL, TEST):
            make_cohort(
                workspace.out,
                todo[0].simulation.cohort,
                part,
                bias=bias,
                field_of_view=view,
                processes=jobs,
            )
            say(f"scans are there: {part}, bias {bias}, {view}")


# -------------------------------------------------------------------- one process, or several


def _played(
    workspace: Workspace, todo: Sequence[Run], jobs: int, progress: Progress
) -> Iterator[Run]:
    """Play the runs; yields each when it is done."""
    if jobs == 1:
        with one_thread():
            for run in todo:
                play(workspace, run, on_round=lambda: progress.moved(progress.done + 1))
                yield run
        return
    context = get_context("spawn")  # a forked child would inherit the locks of torch's threads
    rounds: Synchronized = context.Value("i", progress.done)
    # torch and its libraries read these before the first line of the child runs.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_prepare_worker, initargs=(rounds,)
    ) as pool:
        waiting = iter(todo)
        running = {pool.submit(_play, workspace, run): run for run in islice(waiting, jobs)}
        while running:
            done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            if rounds.value != progress.done:
                progress.moved(rounds.value)
            for future in done:
                run = running.pop(future)
                future.result()
                for following in islice(waiting, 1):
                    running[_submit(pool, workspace, following)] = following
                yield run


def _submit(pool: ProcessPoolExecutor, workspace: Workspace, run: Run) -> Future[None]:
    return pool.submit(_play, workspace, run)


_rounds: Synchronized | None = None


def _prepare_worker(rounds: Synchronized) -> None:
    global _rounds
    import torch

    torch.set_num_threads(1)
    keep_numpy_to_one_thread()
    _rounds = rounds


def _play(workspace: Workspace, run: Run) -> None:
    play(workspace, run, on_round=_count)


def _count() -> None:
    if _rounds is not None:
        with _rounds.get_lock():
            _rounds.value += 1
