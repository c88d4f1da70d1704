"""Work on a Ray cluster: batches read on any CPU, a pool of actors for the devices, results back at the driver.

It knows nothing of what is done with a batch: a `Job` says that. The driver alone writes, so what is there already and
what is left to do is its affair, as on one machine.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic

from codeczoo.executor.bisect import reason_of, run_bisecting
from codeczoo.executor.job import Job, Result, Task
from codeczoo.executor.ray_actor import (
    TRIES,
    Actor,
    Answer,
    Ledger,
    NodeAffinitySchedulingStrategy,
    Place,
    exceptions,
    ray,
    read_row,
    unpacked,
)

log = logging.getLogger(__name__)

SLICE = 256  # tasks that are handed to the cluster at a time
SLICE_BYTES = 1 << 30  # of tasks at a time: those of a streamed data set carry their clips
# By Ray's books. Little, so that readers find room even where one CPU is left; different, so that Ray Data does not put
# reading into the actors.
ACTOR_CPUS, READER_CPUS = 0.5, 0.25
DEATHS = (
    exceptions.WorkerCrashedError,
    exceptions.RayActorError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A cluster for as long as the context lasts: the one at `address` ("auto", host:port), or where RAY_ADDRESS
    says; else one is started on this machine, and ended. Where this process is connected already, that is used.

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


class RayPool(Generic[Task, Result]):
    """Actors of a cluster, and readers beside them, that do a job.

    Args:
        device: "cuda" (an actor has one GPU) or another kind.
        actors: at most; None = one for each GPU, or for each `threads` CPUs.
    """

    def __init__(self, job: Job[Task, Result], device: str, actors: int | None = None) -> None:
        self._job, self._place, self._device = job, Place.here(), device
        resources = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
        if device == "cuda" and not gpus:
            log.warning("the cluster has no GPU; the run waits until it has one")
        self.actors = actors or max(1, gpus if device == "cuda" else cpus // self._place.threads)
        self.cpus_per_actor = max(1, cpus // self.actors)
        self.readers = max(2, cpus // 2)
        self._options = {"num_gpus": 1 if device == "cuda" else 0, "num_cpus": ACTOR_CPUS}
        self.peak = 0  # bytes of device memory, of the actor that used most
        self._single: Any = None

    def describe(self) -> Any:
        """What `JobWorker.describe` says, of one actor."""
        try:
            return self._alone(lambda actor: actor.describe.remote(), TRIES)
        finally:
            self._end_alone()

    def run(self, tasks: Iterable[Task], keep: Callable[[str, bytes], None]) -> Iterator[Result]:
        """The result of each task, in any order; a task that processes die of gives the results of `Job.apart`.

        Args:
            keep: given the files that actors write, each with its path below their folder.

        Raises:
            RuntimeError, ImportError: what is no clip's fault.
        """
        try:
            for part in _slices(tasks):
                waiting = dict(enumerate(part))
                for number, data in self._stream(part):
                    answer = unpacked(data)
                    if number in waiting and not answer.given_up:
                        del waiting[number]
                        yield self._taken(answer, keep)
                if waiting:
                    log.warning("%d batches were lost with the processes that had them; trying again", len(waiting))
                for data in waiting.values():
                    yield from self._one_by_one(pickle.loads(data), keep)
                self._end_alone()
        finally:
            self._end_alone()

    def _stream(self, tasks: list[bytes]) -> Iterator[tuple[int, bytes]]:
        """Through Ray Data: read by tasks on any CPU, worked on by the pool; (number of the task, packed answer)."""
        rows = [{"number": number, "data": data} for number, data in enumerate(tasks)]
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        ledger = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(Ledger).remote()
        data = ray.data.from_items(rows, override_num_blocks=len(rows))
        _set_up(data.context)
        data = data.map(
            read_row,
            fn_args=(self._job, self._place, ledger),
            compute=ray.data.TaskPoolStrategy(size=self.readers),
            num_cpus=READER_CPUS,
        )
        data = data.map(
            Actor,
            fn_constructor_args=(self._job, self._device, self._place, ledger),
            # Two calls at once: one waits for the metric pool while the other has the device.
            compute=ray.data.ActorPoolStrategy(
                min_size=1,
                max_size=max(1, min(self.actors, len(tasks))),
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
            ray.kill(ledger)

    def _taken(self, answer: Answer, keep: Callable[[str, bytes], None]) -> Result:
        self.peak = max(self.peak, answer.peak)
        for path, data in answer.files.items():
            keep(path, data)
        return answer.result

    def _one_by_one(self, task: Task, keep: Callable[[str, bytes], None]) -> Iterator[Result]:
        """A task that processes died of, or beside another that they died of: whole again, then in halves, down to
        the clip whose fault it is."""
        for single in self._job.apart(task):
            parts: list[Result] = []
            for entries, result in run_bisecting(
                lambda entries, single=single: self._once(self._job.part(single, entries)),  # type: ignore[misc]
                self._job.entries(single),
                errors=DEATHS,
            ):
                if isinstance(result, Exception):
                    stage = "process" if isinstance(result, exceptions.RayActorError) else "read"
                    reason = f"the process that worked on it died, each time that it was tried: {reason_of(result)}"
                    parts.append(self._job.failed(self._job.part(single, entries), stage, reason))
                else:
                    parts.append(self._taken(result, keep))
            yield self._job.join(single, parts)

    def _once(self, task: Task) -> Answer:
        """One task by processes that do nothing else. One clip alone has two tries: the first may be a chance kill."""
        row = {"number": 0, "data": pickle.dumps(task)}
        read = ray.remote(num_cpus=READER_CPUS, max_retries=0)(read_row)
        answer = self._alone(
            lambda actor: actor.__call__.remote(read.remote(row, self._job, self._place)),
            tries=2 if len(self._job.entries(task)) == 1 else 1,
        )
        return unpacked(answer["data"])

    def _alone(self, call: Callable[[Any], Any], tries: int) -> Any:
        """What comes of a call of an actor outside of the pool. After a death it is another actor: one that is being
        restarted refuses calls, and what is tried next would be blamed."""
        while True:
            if self._single is None:
                self._single = ray.remote(**self._options)(Actor).remote(self._job, self._device, self._place)
            tries -= 1
            try:
                return _got(call(self._single))
            except DEATHS as error:
                if isinstance(error, exceptions.RayActorError):
                    self._end_alone()
                if not tries:
                    raise

    def _end_alone(self) -> None:
        if self._single is not None:
            ray.kill(self._single)
            self._single = None


def _got(reference: Any) -> Any:
    """Raises what was raised there, as if it had been here."""
    try:
        return ray.get(reference)
    except exceptions.RayTaskError as error:
        raise error.cause from None


def _slices(tasks: Iterable[Task]) -> Iterator[list[bytes]]:
    """Pickled, so many that neither their number nor their bytes are too much."""
    part: list[bytes] = []
    size = 0
    for task in tasks:
        part.append(pickle.dumps(task))
        size += len(part[-1])
        if len(part) == SLICE or size > SLICE_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _set_up(context: Any) -> None:
    """Ray Data: quiet, patient, and leaving to us what becomes of lost blocks."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    context.max_consecutive_actor_init_deaths = 10
    context.execution_no_progress_timeout_s = -1  # a batch of long clips takes its time
