"""Several processes that train one network together, each on its own device and rows.

Data parallel by `torch.distributed`: every process holds the whole network, takes its share of a
step's rows, and all take the same step with the mean of their gradients. The process that asks
for the training is the first of them, so what it was told to call after a step is called there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing, nn
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

_Failed = (ProcessExitedException, ProcessRaisedException)
_PATIENCE = timedelta(hours=2)
"""Others wait meanwhile for the first one, which alone validates."""
_READY = "ready-"


@dataclass(frozen=True, slots=True)
class Replicas:
    """The place of this process among those that train together.

    Attributes:
        rank: 0 for the one that validates, saves and publishes.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    def average_gradients(self, network: nn.Module) -> None:
        """Replace each gradient by its mean over the replicas."""
        if self.count == 1:
            return
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        together = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(together)
        together /= self.count
        for gradient, mean in zip(
            gradients, together.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(mean.view_as(gradient))

    def means(self, values: Mapping[int, float], *, size: int) -> dict[int, tuple[float, int]]:
        """Mean of each number over the replicas that have it, and how many those are.

        Args:
            values: by key, 0 to size - 1.
        """
        if self.count == 1:
            return {key: (value, 1) for key, value in values.items()}
        sums = torch.zeros(size, 2, dtype=torch.float64)
        for key, value in values.items():
            sums[key] = torch.tensor([value, 1.0])
        dist.all_reduce(sums)
        return {
            key: (float(total / n), int(n)) for key, (total, n) in enumerate(sums.tolist()) if n
        }

    def mean(self, value: float) -> float:
        """Mean of one number over the replicas."""
        return self.means({0: value}, size=1)[0][0]


ALONE = Replicas()


def training_devices(device: str) -> tuple[str, ...]:
    """Names of the devices to train on, for a value of `TrainingSettings.device`.

    Raises:
        ValueError: for two kinds of device, or a name twice, but for the CPU.
    """
    if device == "auto":
        return tuple(f"cuda:{n}" for n in range(torch.cuda.device_count())) or ("cpu",)
    names = tuple(name.strip() for name in device.split(","))
    gpus = [name for name in names if torch.device(name).type == "cuda"]
    if gpus and (len(gpus) < len(names) or len(set(gpus)) < len(gpus)):
        raise ValueError(
            f"device {device!r}: expected one device, or different GPUs with commas between, "
            "such as cuda:0,cuda:1"
        )
    return names


@contextmanager
def together(
    devices: Sequence[str], follow: Callable[..., None], *arguments: Any
) -> Iterator[Replicas]:
    """This process and one more for each further device, joined for the body's time.

    Args:
        devices: of each process, this one's first; at least two, all of one type.
        follow: called in the others with their Replicas, their device and the arguments; to be
            found by its name, since they start anew.
    Raises:
        RuntimeError: if one of the others fails; with its trace.
    """
    count = len(devices)
    with tempfile.TemporaryDirectory() as folder, _on_this_machine():
        others = multiprocessing.start_processes(
            _join,
            args=(Path(folder), tuple(devices), follow, arguments),
            nprocs=count - 1,
            join=False,
            start_method="spawn",
        )
        try:
            _await_all(others, Path(folder), count)
            with _group(Path(folder), rank=0, devices=devices) as replicas:
                yield replicas
            while not others.join():
                pass
        except (RuntimeError, *_Failed) as error:
            raise RuntimeError(_what_failed(others) or str(error)) from error
        finally:
            for process in others.processes:
                process.kill()
                process.join()


def _await_all(others: multiprocessing.ProcessContext, folder: Path, count: int) -> None:
    """Until each of the others is about to join: who waits for one that never comes, hangs."""
    while len(list(folder.glob(f"{_READY}*"))) < count - 1:
        if others.join(timeout=0.05):
            raise RuntimeError("the processes of the other devices ended before they began")


def _join(
    number: int,
    folder: Path,
    devices: tuple[str, ...],
    follow: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    rank = number + 1
    (folder / f"{_READY}{rank}").touch()
    with _group(folder, rank=rank, devices=devices) as replicas:
        follow(replicas, devices[rank], *arguments)


@contextmanager
def _group(folder: Path, *, rank: int, devices: Sequence[str]) -> Iterator[Replicas]:
    device = torch.device(devices[rank])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        backend="cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        init_method=(folder / "meeting").as_uri(),
        rank=rank,
        world_size=len(devices),
        timeout=_PATIENCE,
    )
    try:
        yield Replicas(rank, len(devices))
    finally:
        dist.destroy_process_group()


@contextmanager
def _on_this_machine() -> Iterator[None]:
    """The processes meet over the loopback device, whatever the machine's name resolves to."""
    told = "GLOO_SOCKET_IFNAME" in os.environ
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        yield
    finally:
        if not told:
            del os.environ["GLOO_SOCKET_IFNAME"]


def _what_failed(others: multiprocessing.ProcessContext) -> str:
    """The trace of a process that failed first, which makes the others fail after it."""
    try:
        others.join(timeout=5)
    except _Failed as error:
        return str(error)
    return ""
