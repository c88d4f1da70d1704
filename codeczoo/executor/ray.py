"""A job on a Ray cluster: tasks on any CPU read batches, actors with a device work on them, results come to the driver.

The driver alone writes results and plans tasks, so a run that was stopped goes on as it does on one machine.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from codeczoo.executor.bisect import reason_of, run_bisecting
from codeczoo.executor.job import Executor, Job, Read, Result, Task
from codeczoo.executor.ray_actor import (
    POOL_TRIES,
    Actor,
    Answer,
    AttemptCounter,
    DriverSettings,
    NodeAffinitySchedulingStrategy,
    TaskError,
    exceptions,
    ray,
    read_row,
    unpacked,
)

log = logging.getLogger(__name__)

TASKS_PER_SLICE = 256  # tasks that are handed to the cluster at first
# Each slice starts new actors and waits for its last task, so that later ones are larger: each is twice the one before.
LARGEST_SLICE = 16384
BYTES_PER_SLICE = 1 << 30  # of pickled tasks at a time: tasks of a streamed data set carry their clips
# What Ray books for each. Little for actors: when machines die, their actors move to those that are left, and must
# leave room for readers there. (A GPU is booked whole.) Two different numbers, because Ray Data fuses steps with equal
# numbers and would read inside the actors.
ACTOR_CPUS, READER_CPUS = 0.05, 0.25
DEATHS = (
    exceptions.WorkerCrashedError,
    exceptions.RayActorError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A connection to the cluster at `address` ("auto", host:port), or at RAY_ADDRESS; without both, Ray is started on
    this machine, and ended when the context is left. A connection that this process has already is used.

    Raises:
        ValueError: no cluster at that address.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    local = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except ConnectionError as error:
        raise ValueError(f"no Ray cluster answers at {address!r} (`ray start --head` starts one): {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def cluster_device(wanted: str | None) -> str:
    """The kind of device that actors use: the one wanted, else GPUs if the cluster has some, else CPUs."""
    if wanted is not None:
        return wanted.partition(":")[0]
    return "cuda" if ray.cluster_resources().get("GPU") else "cpu"


class RayExecutor(Executor[Task, Result]):
    """Actors of a cluster, and readers beside them. Needs `connected`.

    Args:
        device: "cuda" (each actor has one GPU) or another kind.
        folder: where the files that workers write are brought.
        actors: at most; None = one for each GPU, or for each `threads` CPUs.
    """

    def __init__(self, job: Job[Task, Read, Result], device: str, folder: Path, actors: int | None = None) -> None:
        self._driver, self._device, self._folder = DriverSettings.here(), device, folder
        resources = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
        if device == "cuda" and not gpus:
            log.warning("the cluster has no GPU; the run waits until it has one")
        self.devices = actors or max(1, gpus if device == "cuda" else cpus // self._driver.threads)
        self._job: Job[Task, Any, Result] = job.for_cluster(cpus=max(1, cpus // self.devices))
        self._readers = max(2, cpus // 2)
        self._options = {"num_gpus": 1 if device == "cuda" else 0, "num_cpus": ACTOR_CPUS}
        self._peak = 0  # bytes of device memory, of the actor that used most
        self._single: Any = None  # the actor outside the pool

    def describe(self) -> dict[str, Any]:
        try:
            return self._call_single(lambda actor: actor.describe.remote(), POOL_TRIES)
        finally:
            self._end_single()

    def run(self, tasks: Iterable[Task]) -> Iterator[Result]:
        """The results of all tasks, in any order. A task over which processes die gives those of its
        `Job.split_for_retry`."""
        try:
            for tasks_of_slice in _ahead(tasks):
                waiting = dict(enumerate(tasks_of_slice))
                for number, data in self._stream(tasks_of_slice):
                    answer = unpacked(data)
                    if number in waiting and not answer.given_up and answer.failure is None:
                        del waiting[number]
                        yield from self._results(answer)
                if waiting:
                    log.warning("%d batches failed, or were lost with their processes; trying again", len(waiting))
                for data in waiting.values():
                    yield from self._retry(pickle.loads(data))
                self._end_single()
        finally:
            self._end_single()

    def memory(self) -> dict[str, Any]:
        return {"peak_device_memory_bytes": self._peak} if self._peak else {}

    def _stream(self, tasks: list[bytes]) -> Iterator[tuple[int, bytes]]:
        """Pickled tasks through Ray Data; (number of the task, packed answer), in any order."""
        rows = [{"number": number, "data": data} for number, data in enumerate(tasks)]
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        counter = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(AttemptCounter).remote()
        data = ray.data.from_items(rows, override_num_blocks=len(rows))
        _set_up(data.context)
        data = data.map(
            read_row,
            fn_args=(self._job, self._driver, counter),
            compute=ray.data.TaskPoolStrategy(size=self._readers),
            num_cpus=READER_CPUS,
        )
        data = data.map(
            Actor,
            fn_constructor_args=(self._job, self._device, self._driver, counter),
            # Two calls at once: one waits for the metric pool while the other has the device.
            compute=ray.data.ActorPoolStrategy(
                # Left to itself the pool shrinks to one actor while batches are read, and does not grow again: its
                # threshold is 1.75 batches for each of the calls at once, and there are 3 / 2 at most.
                size=max(1, min(self.devices, len(tasks))),
                max_tasks_in_flight_per_actor=3,
                max_concurrent_calls_per_actor=2,
                enable_true_multi_threading=True,
            ),
            **self._options,
        )
        try:
            for row in data.iter_rows():
                yield row["number"], row["data"]
        finally:
            ray.kill(counter)

    def _results(self, answer: Answer) -> Iterator[Result]:
        """The results of an answer, once its files are in `folder`."""
        self._peak = max(self._peak, answer.peak)
        for name, data in answer.files.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        yield from answer.results

    def _retry(self, task: Task) -> Iterator[Result]:
        """A task that was lost: processes died over it, or over another that they had at the same time. Each part of
        `Job.split_for_retry` is tried alone: whole, then in halves, down to the clip at fault."""
        for single in self._job.split_for_retry(task):
            results: list[Result] = []
            for entries, answer in run_bisecting(
                lambda entries, single=single: self._call_once(self._job.subset(single, entries)),  # type: ignore[misc]
                single.batch.entries,
                errors=(*DEATHS, TaskError),
            ):
                if isinstance(answer, Exception):
                    stage, reason = _stage_and_reason(answer)
                    results.append(self._job.failed(self._job.subset(single, entries), stage, reason))
                else:
                    results += self._results(answer)
            yield self._job.merge(single, results)

    def _call_once(self, task: Task) -> Answer:
        """One task, by processes that do nothing else. A single clip has two tries: the first death may be chance."""
        row = {"number": 0, "data": pickle.dumps(task)}
        read = ray.remote(num_cpus=READER_CPUS, max_retries=0)(read_row)
        answer = self._call_single(
            lambda actor: actor.__call__.remote(read.remote(row, self._job, self._driver)),
            tries=2 if len(task.batch.entries) == 1 else 1,
        )
        whole = unpacked(answer["data"])
        if whole.failure is not None:
            raise TaskError(whole.failure)
        return whole

    def _call_single(self, call: Callable[[Any], Any], tries: int) -> Any:
        """The value of a call to the actor outside the pool. After a death a new actor is started: Ray's own restart
        refuses calls for a while, and the next task would be blamed for that."""
        while True:
            if self._single is None:
                self._single = ray.remote(**self._options)(Actor).remote(self._job, self._device, self._driver)
            tries -= 1
            try:
                return _value(call(self._single))
            except DEATHS as error:
                if isinstance(error, exceptions.RayActorError):
                    self._end_single()
                if not tries:
                    raise

    def _end_single(self) -> None:
        if self._single is not None:
            ray.kill(self._single)
            self._single = None


def _stage_and_reason(error: Exception) -> tuple[str, str]:
    """Where and why a single clip failed for which processes died, or whose task failed as a whole."""
    if isinstance(error, TaskError):
        return "process", str(error)
    stage = "process" if isinstance(error, exceptions.RayActorError) else "read"
    return stage, f"the process that worked on it died, each time that it was tried: {reason_of(error)}"


def _value(reference: Any) -> Any:
    """Raises what was raised on the cluster, without Ray's wrapping."""
    try:
        return ray.get(reference)
    except exceptions.RayTaskError as error:
        raise error.cause from None


def _ahead(tasks: Iterable[Task]) -> Iterator[list[bytes]]:
    """The slices of `tasks`. While the cluster is at work on one, a thread plans the next: headers of hundreds of
    thousands of clips are read for it."""
    stop = threading.Event()
    slices = _slices(takewhile(lambda _: not stop.is_set(), tasks))
    with ThreadPoolExecutor(1, "codeczoo-planner") as planner:
        try:
            following = planner.submit(next, slices, None)
            while (tasks_of_slice := following.result()) is not None:
                following = planner.submit(next, slices, None)
                yield tasks_of_slice
        finally:
            stop.set()  # the run failed: what is planned is not needed


def _slices(tasks: Iterable[Task]) -> Iterator[list[bytes]]:
    """Pickled tasks in lists of `TASKS_PER_SLICE`, and then of twice as many each time, up to `LARGEST_SLICE`; a list
    ends before that once it has more than `BYTES_PER_SLICE`."""
    pickled: list[bytes] = []
    size, count = 0, TASKS_PER_SLICE
    for task in tasks:
        pickled.append(pickle.dumps(task))
        size += len(pickled[-1])
        if len(pickled) == count or size > BYTES_PER_SLICE:
            yield pickled
            pickled, size, count = [], 0, min(2 * count, LARGEST_SLICE)
    if pickled:
        yield pickled


def _set_up(context: Any) -> None:
    """Ray Data: no output, no time limit, and lost blocks are no error: `run` notices them itself."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    context.max_consecutive_actor_init_deaths = 10
    context.execution_no_progress_timeout_s = -1  # a batch of long clips takes its time
