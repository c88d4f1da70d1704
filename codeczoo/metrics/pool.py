"""A pool of processes for the metrics that libraries compute on the CPU, some of which can crash.

Each worker (`worker.py`) has one clip at a time, so a crash or a hang is that clip's alone: the worker is replaced, and
nothing else is lost. After a crash the clip is tried once more; if that comes again, its reply says so. Workers are
plain subprocesses, not `multiprocessing`'s: they run in a clean single-threaded environment, import no part of the
caller's program, and need no `if __name__ == "__main__"`.
"""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Any, NamedTuple, Self

from codeczoo.metrics.pair import Result

SCRIPT = Path(__file__).with_name("worker.py")
ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMBA_NUM_THREADS",
    ),
    "1",
)

CRASHED = "crashed"

Request = tuple[str, tuple[Any, ...], dict[str, Any]]  # a task, its arguments and its options


class PoolError(RuntimeError):
    """No worker can start: no clip is to blame."""


class Reply(NamedTuple):
    """The value of a task, or the reason why there is none."""

    value: Any
    reason: str | None


class PendingMetrics(NamedTuple):
    """Metrics in progress: the futures that they wait for, and the function that makes results of these."""

    futures: Sequence[Future[Reply]]
    finish: Callable[[], dict[str, Result]]


def channel_means(futures: Sequence[Sequence[Future[Reply]]]) -> Result:
    """Tasks [B][C] of one number each → the mean over each item's channels, or the first reason why there is none."""
    items = []
    for row in futures:
        replies = [future.result() for future in row]
        reason = next((reply.reason for reply in replies if reply.reason), None)
        items.append(Reply(None, reason) if reason else Reply(fmean(reply.value for reply in replies), None))
    return Result.of(items)


class WorkerPool:
    """Processes that stay for as long as the pool does; a context manager.

        with WorkerPool(8) as pool:
            for reference, estimate in batches:
                scores = evaluate(reference, estimate, 16000, pool=pool)

    Args:
        num_workers: processes; None = one for each core that this process may use. Each starts when first needed.
        timeout: seconds that one clip may take before its worker is ended and the clip gets the reason `timeout`;
            None = 300 (a library may first have to compile itself) and twenty times the clip's duration.

    Raises:
        ValueError: fewer than one worker, a timeout that is not positive.
    """

    def __init__(self, num_workers: int | None = None, timeout: float | None = None) -> None:
        if num_workers is not None and num_workers < 1:
            raise ValueError(f"num_workers must be at least 1; it is {num_workers}")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be a positive number of seconds; it is {timeout}")
        self.num_workers = num_workers or usable_cores()
        self.timeout = timeout
        self._threads = ThreadPoolExecutor(self.num_workers, thread_name_prefix="codeczoo-metrics")
        self._mine = threading.local()  # each thread's own worker
        self._workers: set[_Worker] = set()
        self._closed = False
        self._lock = threading.Lock()

    def submit(
        self,
        task: str,
        arguments: Sequence[Any],
        options: Mapping[str, Any] | None = None,
        *,
        seconds: float,
        last: bool = False,
        reason: str | None = None,
    ) -> Future[Reply]:
        """Submit one task of `worker.TASKS`.

        Args:
            arguments, options: what the task takes; NumPy arrays and plain values.
            seconds: the clip's duration, for the time limit.
            last: replace the worker after this task, because it may leave the process damaged.
            reason: why it need not even be tried; then that is the reply.

        Returns:
            A future of a `Reply`, which is `crashed` where two workers were lost over it, one after the other, and
            `timeout` where one had to be ended. It raises only what is no clip's fault: PoolError when no worker
            can start, ImportError when a library is
            there and does not import.
        """
        if reason is not None:
            done: Future[Reply] = Future()
            done.set_result(Reply(None, reason))
            return done
        limit = self.timeout or 300 + 20 * seconds
        return self._threads.submit(self._run, (task, tuple(arguments), dict(options or {})), limit, last)

    def _run(self, request: Request, limit: float, last: bool) -> Reply:
        reply = self._ask(request, limit, last)
        if reply.reason == CRASHED and not self._closed:
            # A kill from outside, or what an earlier clip damaged, strikes once; a library's own crash comes again.
            reply = self._ask(request, limit, last)
        return reply

    def _ask(self, request: Request, limit: float, last: bool) -> Reply:
        worker: _Worker | None = getattr(self._mine, "worker", None)
        if worker is None:
            worker = self._mine.worker = _start()
            with self._lock:
                self._workers.add(worker)
        reply = worker.ask(request, limit)
        if last or not worker.alive:
            worker.end()
            self._mine.worker = None
            with self._lock:
                self._workers.discard(worker)
        return reply

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that run now."""
        with self._lock:
            return sorted(worker.pid for worker in self._workers)

    def close(self) -> None:
        """End all workers; tasks that have not begun are cancelled."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            workers, self._workers = self._workers, set()
        for worker in workers:
            worker.end()
        self._threads.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Worker:
    """One process."""

    def __init__(self) -> None:
        path = [entry for entry in sys.path if entry]  # the caller's libraries may lie anywhere
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(SCRIPT)],
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self.pid = self._process.pid
        self.alive = True
        try:
            pickle.load(self._replies)
        except (EOFError, pickle.UnpicklingError):
            raise PoolError(
                f"a metric worker could not start: {sys.executable} ended with status {self._process.wait()}"
            ) from None

    def ask(self, request: Request, limit: float) -> Reply:
        late = threading.Event()

        def expire() -> None:
            late.set()
            self._process.kill()

        alarm = threading.Timer(limit, expire)
        alarm.start()
        try:
            pickle.dump(request, self._requests, protocol=5)
            self._requests.flush()
            kind, value = pickle.load(self._replies)
        except (OSError, EOFError, pickle.UnpicklingError):
            self.alive, kind, value = False, "undefined", CRASHED
        finally:
            alarm.cancel()
            alarm.join()
        if late.is_set():  # even if the answer came just then, the process is gone
            self.alive, kind, value = False, "undefined", "timeout"
        if kind == "missing":
            raise ImportError(f"a library that metrics need does not import: {value}")
        if kind == "value":
            return Reply(value, None)
        return Reply(None, value if kind == "undefined" else f"error: {value}")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._requests, self._replies):
            with suppress(OSError):  # a request may be left in the buffer
                pipe.close()


def _start() -> _Worker:
    """Start a worker; start another if it is killed before it reports that it is ready."""
    try:
        return _Worker()
    except PoolError:
        return _Worker()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_pool(num_workers: int | None = None) -> WorkerPool:
    """The pool shared by calls without a pool; it lives until the program ends."""
    return _shared_pool(num_workers or usable_cores(), os.getpid())


@lru_cache
def _shared_pool(num_workers: int, process: int) -> WorkerPool:
    del process  # a forked process has none of its parent's threads, so it needs a new pool
    pool = WorkerPool(num_workers)
    atexit.register(pool.close)
    return pool
