"""One implementation in a process of its own, for `beside.py`: its threads, its memory and its libraries are its own.

The parent has a `Side`; the child, `python -m perf.sides`, answers its requests over its standard streams. A call is
timed inside the child, so that nothing of the way between them is in a time. codec.cpp's child never imports torch.
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

Run = dict[str, float]  # seconds by clock: "wall", "cpu"
OPS = ("encode", "decode")


@dataclass(frozen=True)
class Call:
    """One operation of an implementation.

    Attributes:
        take: an array → the form in which the implementation is given it; not timed.
        run: what is timed.
        give: what it returns → an array; not timed.
    """

    take: Callable[[np.ndarray], Any]
    run: Callable[[Any], Any]
    give: Callable[[Any], np.ndarray]


# -- the parent's end -----------------------------------------------------------------------------


class Side:
    """A child with one implementation loaded.

    Args:
        name: "ours", "codec.cpp", or the package of a case of `published/`.
        variant: which codec, as `load_codec` knows it.
        threads: of the child.
        paths: "library" and "gguf" of codec.cpp; of the others "weights", where `beside.saved` has put them (without it
            they are made anew), and the "checkout" of what has no package.

    Raises:
        RuntimeError: the child could not load it, or failed later; with the child's own words.
    """

    def __init__(self, name: str, variant: str, threads: int, **paths: str) -> None:
        self.name = name
        counts = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS")}
        root = str(Path(__file__).parents[1])
        self._child = subprocess.Popen(
            [sys.executable, "-m", "perf.sides"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=root,
            env={**os.environ, **counts, "PYTHONPATH": root},
        )
        try:
            self._ask("load", name, variant, threads, paths)
        except BaseException:
            self.close()
            raise

    def give(self, op: str, array: np.ndarray) -> None:
        """What the next runs of `op` are given: float32 [B, C, T], or codes [B, K, N]."""
        self._ask("give", op, array)

    def run(self, op: str) -> Run:
        """One timed run; seconds of wall time and of the child's processor time."""
        run: Run = self._ask("run", op)
        return run

    def memory(self, op: str) -> dict[str, float]:
        """One run, not timed: the process's resident bytes before it ("rest") and at the most within it ("peak")."""
        found: dict[str, float] = self._ask("memory", op)
        return found

    def result(self, op: str) -> np.ndarray:
        """Of the last run: codes int64 [B, K, N], or float32 [B, C, T]."""
        array: np.ndarray = self._ask("result", op)
        return array

    def close(self) -> None:
        """End the child."""
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.close()
        self._child.stdout.close()
        self._child.wait()

    def _ask(self, *request: object) -> Any:
        assert self._child.stdin is not None and self._child.stdout is not None
        try:
            send(self._child.stdin, request)
            kind, answer = pickle.load(self._child.stdout)
        except (EOFError, BrokenPipeError):
            raise RuntimeError(f"{self.name}: its process ended with {self._child.wait()}") from None
        if kind == "error":
            raise RuntimeError(f"{self.name}: {answer}")
        return answer


def send(stream: BinaryIO, message: object) -> None:
    pickle.dump(message, stream, protocol=5)
    stream.flush()


# -- the child's end ------------------------------------------------------------------------------


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the parent closes its end."""
    calls: dict[str, Call] = {}
    given: dict[str, Any] = {}
    made: dict[str, Any] = {}

    def run(op: str) -> Run:
        made.pop(op, None)
        wall, cpu = time.perf_counter(), time.process_time()
        made[op] = calls[op].run(given[op])
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}

    def load(name: str, variant: str, threads: int, paths: dict[str, str]) -> None:
        calls.update(open_side(name, variant, threads, paths))
        give_back()

    def memory(op: str) -> dict[str, float]:
        made.pop(op, None)
        rest = reset_peak()
        made[op] = calls[op].run(given[op])
        return {"rest": rest, "peak": peak_resident()}

    does: dict[str, Callable[..., Any]] = {
        "load": load,
        "give": lambda op, array: given.update({op: calls[op].take(array)}),
        "run": run,
        "memory": memory,
        "result": lambda op: calls[op].give(made[op]),
    }
    while True:
        try:
            verb, *arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = ("answer", does[verb](*arguments))
        except Exception as error:  # noqa: BLE001 - told to the parent, who names the side
            answer = ("error", f"{type(error).__name__}: {error}")
        send(answers, answer)


def open_side(name: str, variant: str, threads: int, paths: dict[str, str]) -> dict[str, Call]:
    """The calls of one implementation, by operation."""
    if name == "codec.cpp":
        return codec_cpp(paths["library"], paths["gguf"], threads)
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    weights = paths.get("weights")
    return ours(variant, weights) if name == "ours" else published(name, variant, weights, paths.get("checkout"))


def codec_cpp(library: str, gguf: str, threads: int) -> dict[str, Call]:
    from perf.codec_cpp import CodecCpp

    engine = CodecCpp(library, gguf, threads)
    return {
        "encode": Call(lambda x: x, engine.encode, lambda codes: codes.astype(np.int64)),
        "decode": Call(lambda codes: codes.astype(np.int32), engine.decode, lambda audio: audio),
    }


def ours(variant: str, weights: str | None) -> dict[str, Call]:
    import torch

    from perf.beside import golden_codec

    codec = golden_codec(variant, weights)[0]
    return {
        "encode": Call(torch.from_numpy, lambda x: codec.encode(x, codec.sample_rate), lambda made: made.codes.numpy()),
        "decode": Call(torch.from_numpy, codec.decode, lambda audio: audio.waveform.numpy()),
    }


def published(package: str, variant: str, weights: str | None, checkout: str | None) -> dict[str, Call]:
    import torch

    from perf.beside import case_of, golden_codec
    from perf.published import Given
    from perf.published.interface import hub_names

    case = case_of(package, variant)
    codec, state, manifest = golden_codec(variant, weights)
    if package == "transformers" and case.manifest != "manifest.json":  # its adapter reads that naming
        state = hub_names(codec)
    theirs = case.build(Given(state, codec, manifest.get("config", {}), Path(checkout) if checkout else None))
    del state
    for tensor in (*codec.parameters(), *codec.buffers()):  # adapters keep ours for its numbers, not for its weights
        tensor.data = torch.empty(0)
    run = torch.inference_mode()
    calls = {
        "encode": Call(torch.from_numpy, run(theirs.encode), lambda codes: theirs.to_ours(codes).numpy()),
    }
    if theirs.decode is not None:
        calls["decode"] = Call(
            lambda codes: theirs.from_ours(codec.codes_from_tensor(torch.from_numpy(codes))),
            run(theirs.decode),
            lambda audio: audio.reshape(audio.shape[0], -1, audio.shape[-1]).numpy(),
        )
    return calls


# -- memory ---------------------------------------------------------------------------------------


def give_back() -> None:
    """What was only needed while loading, to the system (glibc keeps it otherwise)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def reset_peak() -> float:
    """Forget the peak so far, where the system can (Linux); the resident bytes now."""
    give_back()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return float("nan")
    return status_bytes("VmRSS")


def peak_resident() -> float:
    """The most resident bytes since `reset_peak`; elsewhere than on Linux, of the whole process."""
    try:
        return status_bytes("VmHWM")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def status_bytes(key: str) -> float:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), flags=re.MULTILINE)
    if found is None:
        raise OSError(f"/proc/self/status has no {key}")
    return float(found.group(1)) * 1024


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print must not come between
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
