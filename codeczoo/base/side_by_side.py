"""Groups of a batch side by side on a CPU, each on threads of its own.

A network that runs on two threads meets at the end of every layer; two networks on one thread each never wait for each
other. PyTorch keeps its number of threads by thread (OpenMP does), so that workers compute on fewer than their caller,
whose number stays as it is.
"""

from __future__ import annotations

import functools
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

import torch

AWAKE = 0.2  # seconds after which a caller that waits looks for Ctrl-C: not every system wakes it

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_beside(work: Callable[[Item], Result], items: Sequence[Item], count: int, threads: int) -> list[Result]:
    """`[work(item) for item in items]`, of which `count` at a time, each on `threads` threads of the CPU.

    `work` sees the caller's context variables, gradient mode and autocast. The first item, in their order, that raises
    is the one whose error is raised, whatever it is; those that have not begun by then are left out. Nothing runs any
    more when this returns, also after a KeyboardInterrupt.
    """
    results: dict[int, Result] = {}
    failures: dict[int, BaseException] = {}
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for i in range(len(items)):
        todo.put(i)
    stop, settings = threading.Event(), _settings()

    def worker() -> None:
        with _under(settings):
            while not stop.is_set():
                try:
                    i = todo.get_nowait()
                except queue.Empty:
                    return
                try:
                    results[i] = work(items[i])
                except BaseException as error:  # noqa: BLE001 (raised where the caller waits)
                    failures[i] = error
                    stop.set()

    futures: list[Future[None]] = []
    try:
        try:
            pool = _pool(count, threads)
            for _ in range(count):
                futures.append(pool.submit(copy_context().run, worker))
        except RuntimeError:  # no more threads can be had, as when the interpreter ends
            if not futures:
                return [work(item) for item in items]
        while wait(futures, timeout=AWAKE).not_done:
            pass
    finally:
        stop.set()
        for future in futures:
            future.cancel()
        wait(futures)
    for future in futures:
        future.result()
    if failures:
        raise failures[min(failures)]
    return [results[i] for i in range(len(items))]


def can_run_beside() -> bool:
    """Whether this thread may hand work to others: threads have their own numbers of threads (OpenMP), and nothing
    that PyTorch keeps for this thread alone (a `torch.device` context, a mode that counts or traces) is left behind."""
    return _numbers_are_by_thread() and not _modes() and not torch.compiler.is_compiling()


@functools.cache
def _numbers_are_by_thread() -> bool:
    return "ATen parallel backend: OpenMP" in torch.__config__.parallel_info()


def _modes() -> int:
    """How many modes are entered in this thread."""
    names = ("_len_torch_function_stack", "_len_torch_dispatch_stack")
    return sum(getattr(torch._C, name, lambda: 0)() for name in names)


# -- settings of a thread -------------------------------------------------------------------------------------------


def _settings() -> dict[str, Any]:
    """PyTorch's settings of this thread."""
    return {
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": {
            "enabled": torch.is_autocast_enabled("cpu"),
            "dtype": torch.get_autocast_dtype("cpu"),
            "cache_enabled": torch.is_autocast_cache_enabled(),
        },
    }


@contextmanager
def _under(settings: dict[str, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        if settings["inference"]:
            stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.set_grad_enabled(settings["gradients"]))
        stack.enter_context(torch.autocast("cpu", **settings["autocast"]))
        yield


# -- the workers ----------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_pools: dict[int, tuple[int, ThreadPoolExecutor]] = {}  # threads of each worker → how many workers, and they


def _pool(count: int, threads: int) -> ThreadPoolExecutor:
    """At least `count` workers on `threads` threads each. They are kept: they cost nothing while they wait."""
    with _lock:
        size, pool = _pools.get(threads, (0, None))
        if pool is None or size < count:
            pool = _started(count, threads)
            _pools[threads] = (count, pool)
        return pool


def _started(count: int, threads: int) -> ThreadPoolExecutor:
    """Workers that have set their number of threads. Setting it also changes what later threads of the process begin
    with; that is set back at once."""
    usual: list[int] = []

    def start() -> None:
        usual.append(torch.get_num_threads())  # the process's own; a thread that has asked once is not asked again
        everyone.wait()
        torch.set_num_threads(threads)
        everyone.wait()

    everyone = threading.Barrier(count)
    pool = ThreadPoolExecutor(count, thread_name_prefix="codeczoo", initializer=start)
    try:
        wait([pool.submit(int) for _ in range(count)])
    except RuntimeError:
        everyone.abort()
        raise
    back = threading.Thread(target=torch.set_num_threads, args=(usual[0],))
    back.start()
    back.join()
    return pool


def _forget() -> None:
    """In a process that was forked: the workers are not there."""
    global _lock
    _lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
