"""Work on a Ray cluster: batches read on any CPU, a pool of actors for the devices, results back at the driver.

It knows nothing of what is done with a batch: a `Job` says that. The driver alone writes, so what is there already and
what is left to do is its affair, as on one machine.
"""

from __future__ import annotations

import logging
import os
import pickle
import tempfile
import threading
import traceback
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from codeczoo.bench.halves import in_halves, reason_of
from codeczoo.bench.reading import ReadBatch
from codeczoo.bench.sources import Entry
from codeczoo.version import __version__

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # a process that died is dealt with, and told by us
try:
    import ray
    import ray.data
    from ray import exceptions
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise ImportError(f"the Ray engine needs Ray Data: pip install 'codeczoo[ray]' ({error})") from error

log = logging.getLogger(__name__)

SLICE = 256  # tasks that are handed to the cluster at a time
SLICE_BYTES = 1 << 30  # of tasks at a time: those of a streamed data set carry their clips
LARGEST = 1 << 30  # bytes of a batch that travel; a larger one (an hour of stereo) is read where it is needed
# By Ray's books. Little, so that readers find room even where one CPU is left; different, so that Ray Data does not put
# reading into the actors.
ACTOR_CPUS, READER_CPUS = 0.5, 0.25
TRIES = 3  # of a task in the pool, whose reader or actor dies each time, before it is tried apart from all others
GIVEN_UP = "given up"  # in place of a batch
DEATHS = (
    exceptions.WorkerCrashedError,
    exceptions.RayActorError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
)

Task = TypeVar("Task")
Result = TypeVar("Result")
Finish = Callable[[], Result]


class Hands(ABC, Generic[Task, Result]):
    """What an actor has: codecs on a device."""

    @abstractmethod
    def begin(self, task: Task, batch: ReadBatch) -> Finish[Result]:
        """Do what the device does. What is returned waits for the rest, while the next batch has begun.

        What goes wrong with a clip is part of the result; an exception ends the run.
        """

    @abstractmethod
    def describe(self) -> Any:
        """Facts for the record."""


class Job(ABC, Generic[Task, Result]):
    """Which work is done on the cluster. Pickled to all its processes."""

    @abstractmethod
    def read(self, task: Task) -> ReadBatch:
        """In a process without a device."""

    @abstractmethod
    def open(self, device: str, folder: Path) -> Hands[Task, Result]:
        """Once in every actor. Files that are written below `folder` are brought to the driver."""

    @abstractmethod
    def apart(self, task: Task) -> Iterable[Task]:
        """A task that could not be done in the pool, as the tasks that are to be tried one by one."""

    @abstractmethod
    def entries(self, task: Task) -> Sequence[Entry]:
        """The clips of one of those tasks."""

    @abstractmethod
    def part(self, task: Task, entries: Sequence[Entry]) -> Task:
        """The same with these clips only."""

    @abstractmethod
    def failed(self, task: Task, stage: str, reason: str) -> Result:
        """The result of a task of one clip over which processes die."""

    @abstractmethod
    def join(self, task: Task, parts: Sequence[Result]) -> Result:
        """The result of a task from those of its parts, in order."""


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


@dataclass(frozen=True)
class _Place:
    """What all processes of a pool must have in common with the driver."""

    folder: str  # where relative paths begin
    version: str
    threads: int  # of torch: their number changes the last digits of sums, so it is that of a run on one machine

    @classmethod
    def here(cls) -> _Place:
        return cls(os.getcwd(), __version__, torch.get_num_threads())

    def enter(self, threads: int) -> None:
        """Make this process alike.

        Raises:
            RuntimeError: another version of codeczoo is installed here.
        """
        if self.version != __version__:
            raise RuntimeError(
                f"codeczoo {__version__} is installed on node {_node()} of the cluster, and {self.version} where the "
                "run was started: install the same version on all nodes"
            )
        with suppress(OSError):  # a folder that is not there on this node; then files are not either, and that is said
            os.chdir(self.folder)
        torch.set_num_threads(threads)


class RayPool(Generic[Task, Result]):
    """Actors of a cluster, and readers beside them, that do a job.

    Args:
        device: "cuda" (an actor has one GPU) or another kind.
        actors: at most; None = one for each GPU, or for each `threads` CPUs.
    """

    def __init__(self, job: Job[Task, Result], device: str, actors: int | None = None) -> None:
        self._job, self._place, self._device = job, _Place.here(), device
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
        """What `Hands.describe` says, of one actor."""
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
                    answer = _unpacked(data)
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
        ledger = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(_Ledger).remote()
        data = ray.data.from_items(rows, override_num_blocks=len(rows))
        _set_up(data.context)
        data = data.map(
            _read_row,
            fn_args=(self._job, self._place, ledger),
            compute=ray.data.TaskPoolStrategy(size=self.readers),
            num_cpus=READER_CPUS,
        )
        data = data.map(
            _Actor,
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

    def _taken(self, answer: _Answer, keep: Callable[[str, bytes], None]) -> Result:
        self.peak = max(self.peak, answer.peak)
        for path, data in answer.files.items():
            keep(path, data)
        return answer.result

    def _one_by_one(self, task: Task, keep: Callable[[str, bytes], None]) -> Iterator[Result]:
        """A task that processes died of, or beside another that they died of: whole again, then in halves, down to
        the clip whose fault it is."""
        for single in self._job.apart(task):
            parts: list[Result] = []
            for entries, result in in_halves(
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

    def _once(self, task: Task) -> _Answer:
        """One task by processes that do nothing else. One clip alone has two tries: the first may be a chance kill."""
        row = {"number": 0, "data": pickle.dumps(task)}
        read = ray.remote(num_cpus=READER_CPUS, max_retries=0)(_read_row)
        answer = self._alone(
            lambda actor: actor.__call__.remote(read.remote(row, self._job, self._place)),
            tries=2 if len(self._job.entries(task)) == 1 else 1,
        )
        return _unpacked(answer["data"])

    def _alone(self, call: Callable[[Any], Any], tries: int) -> Any:
        """What comes of a call of an actor outside of the pool. After a death it is another actor: one that is being
        restarted refuses calls, and what is tried next would be blamed."""
        while True:
            if self._single is None:
                self._single = ray.remote(**self._options)(_Actor).remote(self._job, self._device, self._place)
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


def _read_row(row: dict[str, Any], job: Job[Any, Any], place: _Place, ledger: Any = None) -> dict[str, Any]:
    """A task, with the clips that belong to it; with `GIVEN_UP` if readers died of it before."""
    place.enter(threads=1)
    task = pickle.loads(row["data"])
    if _tries(ledger, "read", row["number"]) > TRIES:
        return {"number": row["number"], "data": pickle.dumps((None, GIVEN_UP))}
    data = pickle.dumps((task, job.read(task)), protocol=5)
    return {"number": row["number"], "data": data if len(data) <= LARGEST else pickle.dumps((task, None))}


class _Ledger:
    """How often processes of the pool have begun each task. Ray itself would try again for ever."""

    def __init__(self) -> None:
        self._begun: Counter[tuple[str, int]] = Counter()

    def begin(self, what: str, number: int) -> int:
        self._begun[what, number] += 1
        return self._begun[what, number]


def _tries(ledger: Any, what: str, number: int) -> int:
    """This one included."""
    if ledger is None:
        return 1
    try:
        return ray.get(ledger.begin.remote(what, number))
    except exceptions.RayActorError:  # its node died; it begins to count anew
        return 1


@dataclass(frozen=True)
class _Answer:
    """What an actor sends: plain values, so that the driver can read it whatever is in it."""

    result: Any = None
    files: dict[str, bytes] = field(default_factory=dict)
    peak: int = 0  # bytes of device memory
    given_up: bool = False  # not even tried: processes died of it before
    error: tuple[str, str] | None = None  # kind and text of what is no clip's fault


def _unpacked(data: bytes) -> _Answer:
    """Raises what an actor says is no clip's fault."""
    answer: _Answer = pickle.loads(data)
    if answer.error is not None:
        kind, text = answer.error
        raise (ImportError if kind == "ImportError" else RuntimeError)(text)
    return answer


class _Actor:
    """One device. Its calls may overlap."""

    def __init__(self, job: Job[Any, Any], device: str, place: _Place, ledger: Any = None) -> None:
        self._job, self._device, self._place, self._ledger = job, device, place, ledger
        self._one = threading.Lock()  # who has the device
        self._scratch = tempfile.TemporaryDirectory(prefix="codeczoo-")
        self._hands: Hands[Any, Any] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            task, batch = pickle.loads(row["data"])
            if batch == GIVEN_UP or _tries(self._ledger, "code", row["number"]) > TRIES:
                return {"number": row["number"], "data": pickle.dumps(_Answer(given_up=True))}
            with self._one:
                hands = self._opened()
                finish = hands.begin(task, self._job.read(task) if batch is None else batch)
            del batch
            result = finish()
            with self._one:
                answer = _Answer(result, self._files(), self._peak())
        except Exception as error:  # noqa: BLE001 (raised by the driver; what clips may raise is in the result)
            kind = "ImportError" if isinstance(error, ImportError) else type(error).__name__
            text = str(error) if kind == "ImportError" else traceback.format_exc()
            answer = _Answer(error=(kind, f"{text} (on node {_node()})"))
        return {"number": row["number"], "data": pickle.dumps(answer)}

    def describe(self) -> Any:
        with self._one:
            return self._opened().describe()

    def _opened(self) -> Hands[Any, Any]:
        # Each time, since Ray calls in several threads and torch counts a thread's threads.
        self._place.enter(self._place.threads)
        if self._hands is None:
            self._hands = self._job.open(self._device, Path(self._scratch.name))
        return self._hands

    def _files(self) -> dict[str, bytes]:
        """What was written, which is then gone here."""
        files = {}
        root = Path(self._scratch.name)
        for path in sorted(root.rglob("*")):
            if path.is_file():
                files[path.relative_to(root).as_posix()] = path.read_bytes()
                path.unlink()
        return files

    def _peak(self) -> int:
        return torch.cuda.max_memory_allocated() if self._device == "cuda" else 0


def _node() -> str:
    return ray.util.get_node_ip_address()
