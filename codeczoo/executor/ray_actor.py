"""What a process of a Ray cluster does for `ray.RayExecutor`: it reads batches, or holds a device and works on them."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import threading
import traceback
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from codeczoo.base import pickling
from codeczoo.base.catalogue import Variant, register_again, registered
from codeczoo.base.errors import first_line
from codeczoo.executor.job import Job, JobWorker, PendingResults
from codeczoo.metrics.pool import PoolError
from codeczoo.version import __version__

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no statistics are sent
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # `ray.RayExecutor` reports dead processes
try:
    import ray
    import ray.data
    from ray import exceptions
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise ImportError(f"the Ray engine needs Ray Data: pip install 'codeczoo[ray]' ({error})") from error

MAX_SENT_BYTES = 1 << 30  # of a batch that a reader sends; the actor reads a larger one (an hour of stereo) itself
POOL_TRIES = 3  # of a task in the pool, whose reader or actor dies each time; after them it is tried outside the pool
GIVEN_UP = "given up"  # stands in the place of a batch


@dataclass(frozen=True)
class DriverSettings:
    """What all processes of a cluster must have in common with the driver.

    Attributes:
        folder: where relative paths begin; version: of codeczoo.
        threads: of torch. Their number changes the last digits of sums, so actors use the driver's.
        codecs: those that `register_codec` was given.
    """

    folder: str
    version: str
    threads: int
    codecs: tuple[Variant, ...] = ()

    @classmethod
    def here(cls) -> DriverSettings:
        return cls(os.getcwd(), __version__, torch.get_num_threads(), registered())

    def apply(self, threads: int) -> None:
        """Set them in this process.

        Raises:
            RuntimeError: another version of codeczoo is installed here.
        """
        if self.version != __version__:
            raise RuntimeError(
                f"codeczoo {__version__} is installed on node {node_name()} of the cluster, and {self.version} where "
                "the run was started: install the same version on all nodes"
            )
        with suppress(OSError):  # this node lacks the folder; then the clips fail, and say that their file is missing
            os.chdir(self.folder)
        register_again(self.codecs)
        torch.set_num_threads(threads)


def read_row(
    row: dict[str, Any], job: Job[Any, Any, Any], driver: DriverSettings, counter: Any = None
) -> dict[str, Any]:
    """A row's task and its input, pickled. `GIVEN_UP` for a task over which readers died `POOL_TRIES` times; no input
    where it cannot be sent."""
    driver.apply(threads=1)
    task = pickle.loads(row["data"])
    if _count_attempt(counter, "read", row["number"]) > POOL_TRIES:
        return {"number": row["number"], "data": pickle.dumps((None, GIVEN_UP))}
    try:
        data = pickling.dumps((task, job.read(task)))
    except Exception:  # noqa: BLE001 (no memory for all of it, say: the actor reads it itself, or says why not)
        data = pickle.dumps((task, None))
    return {"number": row["number"], "data": data if len(data) <= MAX_SENT_BYTES else pickle.dumps((task, None))}


class AttemptCounter:
    """How often processes of the pool have begun each task. Without it Ray would repeat a deadly task for ever."""

    def __init__(self) -> None:
        self._begun: Counter[tuple[str, int]] = Counter()

    def begin(self, what: str, number: int) -> int:
        """Count one attempt more; returns how many there are now."""
        self._begun[what, number] += 1
        return self._begun[what, number]


def _count_attempt(counter: Any, what: str, number: int) -> int:
    """How many attempts there are, this one included; `counter` is None outside the pool."""
    if counter is None:
        return 1
    try:
        return ray.get(counter.begin.remote(what, number))
    except exceptions.RayActorError:  # the counter's node died; a new counter starts from zero
        return 1


@dataclass(frozen=True)
class Answer:
    """What an actor sends. Pickled by the actor itself, so that Ray need not understand it.

    Attributes:
        results: of the task; files: path below the worker's folder → content.
        peak: bytes of device memory.
        given_up: the task was not tried: processes died over it `POOL_TRIES` times.
        failure: why the task failed as a whole. It is tried again in parts.
        error: kind and text of an error that no clip is to blame for.
    """

    results: Sequence[Any] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    peak: int = 0
    given_up: bool = False
    failure: str | None = None
    error: tuple[str, str] | None = None


def unpacked(data: bytes) -> Answer:
    """Raises the answer's `error`."""
    answer: Answer = pickle.loads(data)
    if answer.error is not None:
        kind, text = answer.error
        raise (ImportError if kind == "ImportError" else RuntimeError)(text)
    return answer


class TaskError(RuntimeError):
    """A task that failed as a whole; the message says why."""


class Actor:
    """One device and its worker. Ray calls it in several threads: while one call waits for the metrics of its batch,
    the next has the device."""

    def __init__(self, job: Job[Any, Any, Any], device: str, driver: DriverSettings, counter: Any = None) -> None:
        self._job, self._device, self._driver, self._counter = job, device, driver, counter
        self._device_lock = threading.Lock()
        # Exists only while a batch has files: an actor that is no longer needed is killed, and cleans nothing up.
        self._scratch = Path(tempfile.gettempdir()) / f"codeczoo-{uuid.uuid4().hex}"
        self._worker: JobWorker[Any, Any, Any] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            with self._device_lock:
                worker = self._started_worker()
        except Exception as error:  # noqa: BLE001 (the driver raises it)
            kind = "ImportError" if isinstance(error, ImportError) else type(error).__name__
            text = str(error) if kind == "ImportError" else traceback.format_exc()
            answer = Answer(error=(kind, f"{text} (on node {node_name()})"))
        else:
            try:
                answer = self._work(worker, row)
            except (ImportError, PoolError) as error:
                answer = Answer(error=(type(error).__name__, f"{error} (on node {node_name()})"))
            except Exception as error:  # noqa: BLE001 (errors of clips are in the results; the driver tries parts)
                answer = Answer(failure=first_line(error))
        return {"number": row["number"], "data": pickling.dumps(answer)}

    def _work(self, worker: JobWorker[Any, Any, Any], row: dict[str, Any]) -> Answer:
        task, read = pickle.loads(row["data"])
        if read == GIVEN_UP or _count_attempt(self._counter, "work", row["number"]) > POOL_TRIES:
            return Answer(given_up=True)
        pending: PendingResults[Any] = PendingResults()
        results: list[Any] = []
        with self._device_lock:
            for started in worker.start(task, self._job.read(task) if read is None else read):
                results += pending.add(started)
                del started  # it holds audio, and the device needs the room for what comes next
        del read
        results += pending.finish()
        with self._device_lock:
            return Answer(results, self._take_files(), self._peak())

    def describe(self) -> dict[str, Any]:
        with self._device_lock:
            return self._started_worker().describe()

    def _started_worker(self) -> JobWorker[Any, Any, Any]:
        # In each call: torch counts threads by thread, and Ray uses several.
        self._driver.apply(self._driver.threads)
        if self._worker is None:
            self._worker = self._job.start_worker(self._device, self._scratch)
        return self._worker

    def _take_files(self) -> dict[str, bytes]:
        """The files that the worker wrote; they are removed here."""
        files = {}
        for path in sorted(self._scratch.rglob("*")):
            if path.is_file():
                files[path.relative_to(self._scratch).as_posix()] = path.read_bytes()
        shutil.rmtree(self._scratch, ignore_errors=True)
        return files

    def _peak(self) -> int:
        return torch.cuda.max_memory_allocated() if self._device == "cuda" else 0


def node_name() -> str:
    return ray.util.get_node_ip_address()


__all__ = [
    "POOL_TRIES",
    "Actor",
    "Answer",
    "AttemptCounter",
    "DriverSettings",
    "NodeAffinitySchedulingStrategy",
    "TaskError",
    "exceptions",
    "ray",
    "read_row",
    "unpacked",
]
