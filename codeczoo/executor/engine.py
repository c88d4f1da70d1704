"""Which executor: this machine's, or a Ray cluster's, as `WorkSettings.engine` says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from codeczoo.base.device import choose_device
from codeczoo.executor.job import Executor, Job, Read, Result, Task
from codeczoo.executor.local import LocalExecutor
from codeczoo.executor.rank import Rank
from codeczoo.executor.settings import WorkSettings

ENGINES = ("local", "ray")


def check_engine(settings: WorkSettings, rank: Rank) -> None:
    """Raises a ValueError for an unknown engine, or for one that cannot be combined with several ranks."""
    if settings.engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}; it is {settings.engine!r}")
    if rank.world_size > 1 and (settings.overwrite or settings.engine != "local"):
        flag = "--overwrite" if settings.overwrite else f"--engine {settings.engine}"
        raise ValueError(
            f"{flag} does not go with a run in {rank.world_size} processes: they share one folder and one plan"
        )


@contextmanager
def engine_device(settings: WorkSettings, rank: Rank) -> Iterator[torch.device]:
    """The kind of device that the engine works on. Inside the context the Ray cluster, if one is used, is connected."""
    if settings.engine == "ray":
        from codeczoo.executor.ray import cluster_device, connected

        with connected(settings.address):
            yield torch.device(cluster_device(settings.device))
    else:
        yield choose_device(rank.device(settings.device))


def start_executor(job: Job[Task, Read, Result], settings: WorkSettings, folder: Path) -> Executor[Task, Result]:
    """The executor of `settings`, inside of `engine_device`; `settings.device` is a device that exists.

    Args:
        folder: where files that workers write end up.
    """
    device = settings.device or "cpu"
    if settings.engine == "ray":
        from codeczoo.executor.ray import RayExecutor

        return RayExecutor(job, device, folder, settings.actors)
    return LocalExecutor(job, device, folder, settings.workers)
