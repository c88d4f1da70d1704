"""A worker process of the pool: it runs one metric library at a time, and may crash.

Run as a script, by path, in a fresh interpreter: it imports neither codeczoo nor torch, so that it starts in a tenth
of a second and is small, and it never runs anything but the functions in `TASKS`. A request is a pickled
`(task, arguments, options)` on standard input, the reply a pickled `(kind, value)` on standard output, where kind is
`value`, `undefined` (the value is a reason), `missing` (a library is there and does not import) or `error` (a message).
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import platform
import sys
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray

ORDER, ALPHA = 39, 0.466  # of mel-cepstra: the last coefficient, the warping


class Undefined(Exception):  # noqa: N818 (it is an answer, not an error)
    """The metric has no value for this clip; the argument is the reason."""


def pesq(reference: Array, estimate: Array, rate: int, mode: str) -> float:
    """P.862.2 (`wb`) or P.862 with P.862.1's mapping (`nb`) of two signals [T], by the ITU's C code."""
    from pesq import BufferTooShortError, NoUtterancesError
    from pesq import pesq as itu_pesq

    try:
        return float(itu_pesq(rate, reference, estimate, mode))
    except NoUtterancesError:
        raise Undefined("no_utterance") from None
    except BufferTooShortError:
        raise Undefined("too_short") from None


def praat_pitch(waveform: Array, rate: float, step: float, floor: float, ceiling: float, voicing: float) -> Array:
    """F0 in Hz of every frame, 0 where unvoiced, by Praat's autocorrelation method; waveform [T] or [C, T]."""
    import parselmouth

    sound = parselmouth.Sound(waveform, rate)
    try:
        pitch = sound.to_pitch_ac(time_step=step, pitch_floor=floor, pitch_ceiling=ceiling, voicing_threshold=voicing)
    except parselmouth.PraatError as error:
        if "must not be less than" in str(error):  # than three periods of the floor
            raise Undefined("too_short") from None
        raise
    return np.asarray(pitch.selected_array["frequency"])


def praat_pitches(reference: Array, estimate: Array, rate: float, **options: float) -> tuple[Array, Array]:
    """`praat_pitch` of both."""
    return praat_pitch(reference, rate, **options), praat_pitch(estimate, rate, **options)


def superb_f0_correlation(reference: Array, estimate: Array) -> float:
    """Codec-SUPERB's `f0corr` of two signals [C, T] at 16 kHz, which it takes to be at 22 050 Hz."""
    contours = []
    for waveform in (reference, estimate):
        f0 = praat_pitch(waveform, 22_050, step=256 / 22_050, floor=50, ceiling=1100, voicing=0.6)
        voiced = f0[f0 > 0]
        if not len(voiced):
            raise Undefined("unvoiced")
        cents = 1200 * np.log2(voiced / 440)
        contours.append(cents - np.median(cents))
    if min(map(len, contours)) < 2:
        raise Undefined("too_few_voiced")
    x, y = (contour[path].astype(np.float32) for contour, path in zip(contours, _warp(*contours), strict=True))
    x, y = x - x.mean(), y - y.mean()
    spread = math.sqrt(float(x @ x) * float(y @ y))
    if spread == 0:
        raise Undefined("constant_pitch")
    return min(max(float(x @ y) / spread, -1.0), 1.0)


def _warp(x: Array, y: Array) -> tuple[Array, Array]:
    """Dynamic time warping: the indices into x and y of the cheapest path from both ends to both starts.

    Of equally cheap predecessors the diagonal one is taken, then the one that moves in y.
    """
    cost = np.abs(x[:, None] - y[None])
    # Cell (i, j) of the sums is held at [i + j, i], so that one anti-diagonal after the other is one vector.
    n, m = cost.shape
    total = np.full((n + m + 1, n + 1), np.inf)
    came = np.zeros((n + m + 1, n + 1), dtype=np.int8)
    total[0, 0] = 0
    for diagonal in range(2, n + m + 1):
        i = np.arange(max(1, diagonal - m), min(n, diagonal - 1) + 1)
        before = np.stack([total[diagonal - 2, i - 1], total[diagonal - 1, i], total[diagonal - 1, i - 1]])
        before += cost[i - 1, diagonal - i - 1]
        came[diagonal, i] = before.argmin(0)
        total[diagonal, i] = before.min(0)
    i, j = n, m
    path = [(i, j)]
    while (i, j) != (1, 1):
        move = came[i + j, i]
        i, j = i - (move != 1), j - (move != 2)
        path.append((i, j))
    indices = np.array(path) - 1
    return indices[:, 0], indices[:, 1]


def mel_cepstral_distortion(reference: Array, estimate: Array, rate: int) -> float:
    """VERSA's MCD in dB of two signals [T]: WORLD's envelope, mel-cepstra with c0, no alignment."""
    x, y = (_mel_cepstrum(waveform, rate) for waveform in (reference, estimate))
    frames = min(len(x), len(y))
    distance = np.sqrt(2 * np.square(x[:frames] - y[:frames]).sum(1))
    return float(10 / math.log(10) * distance.mean())


def _mel_cepstrum(waveform: Array, rate: int) -> Array:
    """[frames, ORDER + 1], every 5 ms."""
    import pyworld

    signal = np.convolve(waveform.astype(np.float64) * 32767, _high_pass(rate))[: len(waveform)]
    f0, times = pyworld.harvest(signal, rate, f0_floor=40.0, f0_ceil=800.0, frame_period=5)
    fft_size = 1024 if rate <= 24_000 else 2048 if rate <= 48_000 else 4096
    envelope = pyworld.cheaptrick(signal, f0, times, rate, fft_size=fft_size)
    cepstrum = np.fft.irfft(np.log(envelope))
    cepstrum[:, 0] /= 2
    return cepstrum @ _mel_warp(fft_size)


@lru_cache
def _mel_warp(size: int) -> Array:
    """[size, ORDER + 1]: cepstrum → mel-cepstrum, by the all-pass recursion of SPTK's `freqt`, which is linear."""
    warp = np.zeros((size, ORDER + 1))
    warp[0, 0] = 1
    for n in range(1, size):
        before, after = warp[n - 1], warp[n]
        after[0] = ALPHA * before[0]
        after[1] = (1 - ALPHA**2) * before[0] + ALPHA * before[1]
        for k in range(2, ORDER + 1):
            after[k] = before[k - 1] + ALPHA * (before[k] - after[k - 1])
    return warp


@lru_cache
def _high_pass(rate: int) -> Array:
    """255 taps from 70 Hz on: a Hamming-windowed sinc of unit gain at half the rate."""
    steps = np.arange(255) - 127
    cutoff = 70 / (rate // 2)
    taps = (np.sinc(steps) - cutoff * np.sinc(cutoff * steps)) * np.hamming(255)
    return taps / (taps * np.cos(np.pi * steps)).sum()


def visqol(reference: Array, estimate: Array, mode: str) -> float:
    """ViSQOL's MOS-LQO of two signals [T], at 48 kHz in `audio` mode and at 16 kHz in `speech` mode."""
    rate = {"audio": 48_000, "speech": 16_000}[mode]
    try:
        return float(_visqol(mode).measure_from_arrays(reference, estimate, rate).moslqo)
    except ValueError as error:
        if "minimum patch size" in str(error):
            raise Undefined("too_short") from None
        raise


@lru_cache
def _visqol(mode: str) -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode=mode, use_lattice_model=False)
    return api


TASKS: dict[str, Callable[..., Any]] = {
    "pesq": pesq,
    "praat_pitches": praat_pitches,
    "superb_f0_correlation": superb_f0_correlation,
    "mel_cepstral_distortion": mel_cepstral_distortion,
    "visqol": visqol,
}


LIBRARIES = ("pesq", "parselmouth", "pyworld", "visqol")  # that tasks import, each an extra of its own


def main() -> None:
    # What a library prints must not get between the replies.
    """Answer tasks from standard input until it ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    _leave_no_core()
    _flush_denormals()
    _send(replies, ("ready", None))
    while True:
        try:
            task, arguments, options = pickle.load(sys.stdin.buffer)
        except EOFError:  # the pool was closed
            return
        try:
            _send(replies, ("value", TASKS[task](*arguments, **options)))
        except Undefined as reason:
            _send(replies, ("undefined", str(reason)))
        except ModuleNotFoundError as error:
            absent = error.name in LIBRARIES
            _send(replies, ("undefined", "not_installed") if absent else ("missing", str(error)))
        except ImportError as error:
            _send(replies, ("missing", str(error)))
        except Exception as error:  # noqa: BLE001 (told to the pool, which puts it beside the clip's NaN)
            _send(replies, ("error", f"{type(error).__name__}: {error}"))


def _send(replies: Any, reply: tuple[str, Any]) -> None:
    pickle.dump(reply, replies, protocol=5)
    replies.flush()


def _leave_no_core() -> None:
    """Write no core file: crashes are expected."""
    if os.name == "posix":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _flush_denormals() -> None:
    """Let numbers below 1e-38 count as zero: PESQ's filters end in them, and spend a fifth of its time there.

    Its result does not change (a test compares all golden pairs). This is what torch.set_flush_denormal does; it is
    done on Linux and x86-64 only.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return
    import ctypes

    library = ctypes.CDLL(None)
    if not hasattr(library, "fesetenv"):
        return
    environment = (ctypes.c_uint32 * 16)()  # fenv_t: seven words, then MXCSR
    library.fegetenv(environment)
    environment[7] |= 0x8040  # flush results to zero, take operands as zero
    library.fesetenv(environment)


if __name__ == "__main__":
    main()
