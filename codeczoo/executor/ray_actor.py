"""What a process of a Ray cluster does for a `ray_pool.RayPool`: read batches, or hold a device and work on them."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import threading
import traceback
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from codeczoo.base.catalogue import Variant, register_again, registered
from codeczoo.executor.job import Job, JobWorker
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

LARGEST = 1 << 30  # bytes of a batch that travel; a larger one (an hour of stereo) is read where it is needed
TRIES = 3  # of a task in the pool, whose reader or actor dies each time, before it is tried apart from all others
GIVEN_UP = "given up"  # in place of a batch


@dataclass(frozen=True)
class Place:
    """What all processes of a pool must have in common with the driver."""

    folder: str  # where relative paths begin
    version: str
    threads: int  # of torch: their number changes the last digits of sums, so it is that of a run on one machine
    codecs: tuple[Variant, ...] = ()  # that `register_codec` was given

    @classmethod
    def here(cls) -> Place:
        return cls(os.getcwd(), __version__, torch.get_num_threads(), registered())

    def enter(self, threads: int) -> None:
        """Make this process alike.

        Raises:
            RuntimeError: another version of codeczoo is installed here.
        """
        if self.version != __version__:
            raise RuntimeError(
                f"codeczoo {__version__} is installed on node {node_name()} of the cluster, and {self.version} where "
                "the run was started: install the same version on all nodes"
            )
        with suppress(OSError):  # a folder that is not there on this node; then files are not either, and that is said
            os.chdir(self.folder)
        register_again(self.codecs)
        torch.set_num_threads(threads)


def read_row(row: dict[str, Any], job: Job[Any, Any], place: Place, ledger: Any = None) -> dict[str, Any]:
    """A task, with the clips that belong to it; with `GIVEN_UP` if readers died of it before."""
    place.enter(threads=1)
    task = pickle.loads(row["data"])
    if _tries(ledger, "read", row["number"]) > TRIES:
        return {"number": row["number"], "data": pickle.dumps((None, GIVEN_UP))}
    data = pickle.dumps((task, job.read(task)), protocol=5)
    return {"number": row["number"], "data": data if len(data) <= LARGEST else pickle.dumps((task, None))}


class Ledger:
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
class Answer:
    """What an actor sends: plain values, so that the driver can read it whatever is in it."""

    result: Any = None
    files: dict[str, bytes] = field(default_factory=dict)
    peak: int = 0  # bytes of device memory
    given_up: bool = False  # not even tried: processes died of it before
    error: tuple[str, str] | None = None  # kind and text of what is no clip's fault


def unpacked(data: bytes) -> Answer:
    """Raises what an actor says is no clip's fault."""
    answer: Answer = pickle.loads(data)
    if answer.error is not None:
        kind, text = answer.error
        raise (ImportError if kind == "ImportError" else RuntimeError)(text)
    return answer


class Actor:
    """One device. Its calls may overlap."""

    def __init__(self, job: Job[Any, Any], device: str, place: Place, ledger: Any = None) -> None:
        self._job, self._device, self._place, self._ledger = job, device, place, ledger
        self._one = threading.Lock()  # who has the device
        # There only while a batch has files: an actor is killed when it is no longer needed, and clears nothing away.
        self._scratch = Path(tempfile.gettempdir()) / f"codeczoo-{uuid.uuid4().hex}"
        self._hands: JobWorker[Any, Any] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            task, batch = pickle.loads(row["data"])
            if batch == GIVEN_UP or _tries(self._ledger, "code", row["number"]) > TRIES:
                return {"number": row["number"], "data": pickle.dumps(Answer(given_up=True))}
            with self._one:
                hands = self._opened()
                finish = hands.begin(task, self._job.read(task) if batch is None else batch)
            del batch
            result = finish()
            with self._one:
                answer = Answer(result, self._files(), self._peak())
        except Exception as error:  # noqa: BLE001 (raised by the driver; what clips may raise is in the result)
            kind = "ImportError" if isinstance(error, ImportError) else type(error).__name__
            text = str(error) if kind == "ImportError" else traceback.format_exc()
            answer = Answer(error=(kind, f"{text} (on node {node_name()})"))
        return {"number": row["number"], "data": pickle.dumps(answer)}

    def describe(self) -> Any:
        with self._one:
            return self._opened().describe()

    def _opened(self) -> JobWorker[Any, Any]:
        # Each time, since Ray calls in several threads and torch counts a thread's threads.
        self._place.enter(self._place.threads)
        if self._hands is None:
            self._hands = self._job.open(self._device, self._scratch)
        return self._hands

    def _files(self) -> dict[str, bytes]:
        """What was written, which is then gone here."""
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
    "TRIES",
    "Actor",
    "Answer",
    "Ledger",
    "NodeAffinitySchedulingStrategy",
    "Place",
    "exceptions",
    "ray",
    "read_row",
    "unpacked",
]
