"""Reader processes that read a few batches ahead of the device. A reader that dies is replaced; only time is lost.

Each reader has its own connection, so the batch that it died of is known, and a message that a kill cut short
damages no other. (torch's DataLoader shares one queue among its workers and reports a death by an exception from a
signal handler, which interrupts the main thread anywhere: in a codec, or while a line is written.)
"""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from codeczoo.base import pickling
from codeczoo.base.errors import first_line
from codeczoo.base.memory import release_memory_between
from codeczoo.data.batching import Batch
from codeczoo.data.open import Source
from codeczoo.data.read import ReadBatch, join_reads, read_batch

log = logging.getLogger(__name__)

BATCHES_PER_READER = 2  # read ahead
BATCH_TRIES = 2  # before the clips of a batch are read one by one
CLIP_TRIES = 3  # before a clip is recorded as one that readers die of


def read_ahead(
    source: Source, batches: Iterable[Batch], workers: int, *, estimates: Sequence[str] = (), pin: bool = False
) -> Iterator[ReadBatch]:
    """Batches in order, each with its clips, read by `workers` processes (0 = by this one).

    A reader that dies (killed, or crashed by a file) is replaced, and its batch is read again. A clip that readers die
    of CLIP_TRIES times, or that does not get through to this process, is recorded as a failure. Between batches freed
    memory is returned to the system.
    """
    return release_memory_between(_read_ahead(source, batches, workers, estimates, pin))


def _read_ahead(
    source: Source, batches: Iterable[Batch], workers: int, estimates: Sequence[str], pin: bool
) -> Iterator[ReadBatch]:
    if not workers:
        for batch in batches:
            read = read_batch(source, batch, estimates)
            yield _pinned(read) if pin else read
        return
    readers = _Readers(source, tuple(estimates), workers, pin)
    waiting: deque[Future[ReadBatch]] = deque()
    try:
        for batch in batches:
            waiting.append(readers.submit(batch))
            if len(waiting) > BATCHES_PER_READER * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        readers.close()


class _Readers:
    """A pool of threads, each of which talks to one reader process."""

    def __init__(self, source: Source, estimates: tuple[str, ...], workers: int, pin: bool) -> None:
        self._source, self._estimates, self._pin = source, estimates, pin
        self._threads = ThreadPoolExecutor(workers, "codeczoo-readers")
        self._of_thread = threading.local()
        self._readers: set[_Reader] = set()
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, batch: Batch) -> Future[ReadBatch]:
        return self._threads.submit(self._read, batch)

    def _read(self, batch: Batch) -> ReadBatch:
        read = self._read_with_retries(batch, BATCH_TRIES)
        if read is None:
            read = join_reads(batch, [self._read_one_clip(replace(batch, entries=(entry,))) for entry in batch.entries])
        return _pinned(read) if self._pin else read

    def _read_one_clip(self, batch: Batch) -> ReadBatch:
        """Read a batch of one clip; if its readers die, the clip is a failure with that reason."""
        read = self._read_with_retries(batch, CLIP_TRIES)
        if read is not None:
            return read
        return ReadBatch.failed(batch, f"the process that read it died, each of {CLIP_TRIES} times")

    def _read_with_retries(self, batch: Batch, tries: int) -> ReadBatch | None:
        """Read `batch` with up to `tries` processes; None if each of them died, or if several clips do not get through
        together."""
        for _ in range(tries):
            if self._closed:
                raise CancelledError
            reader = self._reader()
            try:
                answer = reader.ask(batch)
                if isinstance(answer, ReadBatch):
                    return answer
                return ReadBatch.failed(batch, answer) if len(batch.entries) == 1 else None
            except Exception as error:
                log.debug("%s", type(error).__name__, exc_info=True)
                status = reader.end()
                with self._lock:
                    self._readers.discard(reader)
                self._of_thread.reader = None
            if not self._closed:
                log.warning("a reader died (status %s); what it read is read again", status)
        return None

    def _reader(self) -> _Reader:
        reader: _Reader | None = getattr(self._of_thread, "reader", None)
        if reader is None:
            # Under the lock, so that no reader starts while `close` ends those that run.
            with self._lock:
                reader = self._of_thread.reader = _Reader(self._source, self._estimates)
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


def _pinned(read: ReadBatch) -> ReadBatch:
    """The batch in pinned memory, if there is enough of it."""
    try:
        return read.pin_memory()
    except RuntimeError as error:
        log.warning("a batch is copied to the device without pinned memory: %s", first_line(error))
        return read


class _Reader:
    """One process."""

    def __init__(self, source: Source, estimates: tuple[str, ...]) -> None:
        # Not forked from this process: another thread may hold a lock (of libsndfile, say) at that moment, and the
        # child would wait for it forever.
        context: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        if sys.platform == "linux":
            context.set_forkserver_preload(["codeczoo.data.read"])
        self._connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_serve, args=(theirs, source, estimates), name="codeczoo-reader", daemon=True
        )
        self._process.start()
        theirs.close()  # then the process's death closes the connection

    def ask(self, batch: Batch) -> ReadBatch | str:
        """The batch, or the reason why it could not be sent. Raises EOFError or OSError if the process is dead,
        MemoryError if there is no room here, and what unpickling half a message raises."""
        self._connection.send_bytes(pickle.dumps(batch, protocol=5))
        return pickle.loads(self._connection.recv_bytes())

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> int | None:
        self._process.kill()
        self._process.join()
        self._connection.close()
        return self._process.exitcode


def _serve(connection: Connection, source: Source, estimates: tuple[str, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C and ends its readers
    torch.set_num_threads(1)
    while True:
        try:
            batch = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):  # the run is over
            return
        try:
            answer = pickling.dumps(read_batch(source, batch, estimates))
        except Exception as error:
            log.debug("%s", type(error).__name__, exc_info=True)
            answer = pickle.dumps(first_line(error))
        try:
            connection.send_bytes(answer)
        except OSError:  # the run was killed
            return
