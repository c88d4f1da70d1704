"""Processes that read, a few batches ahead of the device; one that dies costs nothing but its time.

Each has a connection of its own, so it is known which batch a reader died of, and the message that a kill cut short is
nobody else's. (torch's DataLoader shares one queue among its workers and tells of a death by an exception from a signal
handler, which strikes the main thread wherever it is: in the middle of a codec, or of a line that is being written.)
"""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from codeczoo.base.memory import release_memory_between
from codeczoo.data.batching import Batch
from codeczoo.data.open import Source
from codeczoo.data.read import ReadBatch, join_reads, read_batch

log = logging.getLogger(__name__)

AHEAD = 2  # batches that each reader is ahead
TRIES = 2  # of a batch, before its clips are read one by one
TRIES_ALONE = 3  # of one clip, before it is said to be what readers die of


def read_ahead(
    source: Source, batches: Iterable[Batch], workers: int, *, estimates: Sequence[str] = (), pin: bool = False
) -> Iterator[ReadBatch]:
    """Batches in order, each with its clips, read by `workers` processes (0 = by this one).

    A reader that dies (killed, or crashed by a file) is replaced, and its batch is read again. A clip over which
    readers die again and again is named as a failure. Between two batches freed memory goes back to the system.
    """
    return release_memory_between(_read_ahead(source, batches, workers, estimates, pin))


def _read_ahead(
    source: Source, batches: Iterable[Batch], workers: int, estimates: Sequence[str], pin: bool
) -> Iterator[ReadBatch]:
    if not workers:
        for batch in batches:
            read = read_batch(source, batch, estimates)
            yield read.pin_memory() if pin else read
        return
    readers = _Readers(source, tuple(estimates), workers, pin)
    waiting: deque[Future[ReadBatch]] = deque()
    try:
        for batch in batches:
            waiting.append(readers.submit(batch))
            if len(waiting) > AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        readers.close()


class _Readers:
    """Threads of this process that have one reader each."""

    def __init__(self, source: Source, estimates: tuple[str, ...], workers: int, pin: bool) -> None:
        self._source, self._estimates, self._pin = source, estimates, pin
        self._threads = ThreadPoolExecutor(workers, "codeczoo-readers")
        self._mine = threading.local()
        self._readers: set[_Reader] = set()
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, batch: Batch) -> Future[ReadBatch]:
        return self._threads.submit(self._read, batch)

    def _read(self, batch: Batch) -> ReadBatch:
        read = self._tried(batch, TRIES)
        if read is None:
            read = join_reads(batch, [self._alone(replace(batch, entries=(entry,))) for entry in batch.entries])
        return read.pin_memory() if self._pin else read

    def _alone(self, batch: Batch) -> ReadBatch:
        """Of one clip."""
        read = self._tried(batch, TRIES_ALONE)
        if read is not None:
            return read
        reason = f"the process that read it died, each of {TRIES_ALONE} times"
        (entry,) = batch.entries
        return ReadBatch(batch.index, (replace(entry, key=None),), (), {entry.id: reason})

    def _tried(self, batch: Batch, tries: int) -> ReadBatch | None:
        """None where so many readers died."""
        for _ in range(tries):
            if self._closed:
                raise CancelledError
            reader = self._reader()
            try:
                return reader.ask(batch)
            except (EOFError, OSError, pickle.UnpicklingError):
                status = reader.end()
                with self._lock:
                    self._readers.discard(reader)
                self._mine.reader = None
            if not self._closed:
                log.warning("a reader died (status %s); what it read is read again", status)
        return None

    def _reader(self) -> _Reader:
        reader: _Reader | None = getattr(self._mine, "reader", None)
        if reader is None:
            # One at a time, and none once `close` has looked at who is there.
            with self._lock:
                reader = self._mine.reader = _Reader(self._source, self._estimates)
                self._readers.add(reader)
        return reader

    def close(self) -> None:
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for reader in self._readers:
                reader.kill()
        self._threads.shutdown()
        for reader in self._readers:
            reader.end()


class _Reader:
    """One process."""

    def __init__(self, source: Source, estimates: tuple[str, ...]) -> None:
        # Not forked from this process: other threads of it may hold a lock just then, of libsndfile say, which the
        # child would wait for without end.
        context: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        if sys.platform == "linux":
            context.set_forkserver_preload(["codeczoo.data.read"])
        self._connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_serve, args=(theirs, source, estimates), name="codeczoo-reader", daemon=True
        )
        self._process.start()
        theirs.close()  # so that its death is the end of the connection

    def ask(self, batch: Batch) -> ReadBatch:
        """Raises EOFError or an OSError when the process is gone, else what `_serve` says."""
        self._connection.send_bytes(pickle.dumps(batch, protocol=5))
        answer = pickle.loads(self._connection.recv_bytes())
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> int | None:
        self._process.kill()
        self._process.join()
        self._connection.close()
        return self._process.exitcode


def _serve(connection: Connection, source: Source, estimates: tuple[str, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends its readers
    torch.set_num_threads(1)
    while True:
        try:
            batch = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):  # the run is over
            return
        answer: ReadBatch | Exception
        try:
            answer = read_batch(source, batch, estimates)
        except ImportError as error:
            answer = ImportError(str(error))
        except Exception:  # noqa: BLE001 (no clip's fault; it ends the run)
            answer = RuntimeError(traceback.format_exc())
        connection.send_bytes(pickle.dumps(answer, protocol=5))
