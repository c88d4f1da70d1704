"""DNSMOS: what listeners would say of the speech, the background and the whole, without a reference.

Papers: "DNSMOS P.835" (arXiv 2110.01763) and "DNSMOS" (P.808; arXiv 2010.15258). The trained networks are ONNX files in
the package speechmos, which brings nothing else along; onnxruntime runs them.

A clip is doubled until it has 9.01 s, and windows of 9.01 s are scored every second; a clip's value is the mean over
its windows. The windows of a batch go through the networks together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codeczoo.nn.mel import mel_filters

RATE = 16000  # Hz
SECONDS = 9.01
WINDOW = 144_160  # samples
NAMES = ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "dnsmos_p808")
FILES = {"P.835": "dnsmos_models/sig_bak_ovr.onnx", "P.808": "dnsmos_models/model_v8.onnx"}
# What the networks give → the scale of opinions, highest power first: speech, background, overall.
POLYNOMIALS = (
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)
N_FFT, HOP, MELS = 321, 160, 120
WINDOWS_AT_ONCE = 16


class DNSMOS:
    """Both networks, loaded from their files."""

    def __init__(self, paths: dict[str, str], device: torch.device) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        there = set(onnxruntime.get_available_providers())
        wanted = ["CUDAExecutionProvider"] * (device.type == "cuda") + ["CPUExecutionProvider"]
        providers = [name for name in wanted if name in there]
        self.sessions = {
            name: onnxruntime.InferenceSession(path, options, providers=providers) for name, path in paths.items()
        }

    def __call__(self, clips: Sequence[np.ndarray]) -> list[tuple[float, ...]]:
        """Clips of float32 samples [T] at 16 kHz → for each its four values, in the order of `NAMES`."""
        windows, owners = [], []
        for owner, clip in enumerate(clips):
            found = windows_of(clip)
            windows += found
            owners += [owner] * len(found)
        values = np.concatenate(
            [self._score(np.stack(windows[i : i + WINDOWS_AT_ONCE])) for i in range(0, len(windows), WINDOWS_AT_ONCE)]
        )
        means = [values[[at for at, owner in enumerate(owners) if owner == i]].mean(0) for i in range(len(clips))]
        return [tuple(float(value) for value in mean) for mean in means]

    def _score(self, windows: np.ndarray) -> np.ndarray:
        """[W, 144160] → [W, 4] float64."""
        raw = self._run("P.835", windows).astype(np.float64)
        opinions = [np.polyval(polynomial, raw[:, i]) for i, polynomial in enumerate(POLYNOMIALS)]
        p808 = self._run("P.808", log_mel(torch.from_numpy(windows[:, :-HOP])).numpy())
        return np.stack([*opinions, p808[:, 0].astype(np.float64)], axis=1)

    def _run(self, name: str, values: np.ndarray) -> Any:
        return self.sessions[name].run(None, {"input_1": np.ascontiguousarray(values, np.float32)})[0]


def windows_of(clip: np.ndarray) -> list[np.ndarray]:
    """The windows of one clip [T] with at least one sample: it is doubled until one window fits.

    Upstream computes where a window ends in floating point. Those that start at 7 to 23 s come out one sample short and
    are left out; so they are here, because these are the values that the name stands for.
    """
    while len(clip) < WINDOW:
        clip = np.concatenate([clip, clip])
    ends = [int((i + SECONDS) * RATE) for i in range(int(len(clip) // RATE - SECONDS) + 1)]
    windows = [clip[i * RATE : end] for i, end in enumerate(ends)]
    return [window for window in windows if len(window) == WINDOW]


def log_mel(waveform: Tensor) -> Tensor:
    """[W, T] → [W, 1 + T // 160, 120]: decibels below the window's own peak, 80 at most, as (dB + 40) / 40."""
    window = torch.hann_window(N_FFT, dtype=waveform.dtype)
    spectrum = torch.stft(waveform, N_FFT, HOP, window=window, pad_mode="constant", return_complex=True)
    power = spectrum.abs().square().mT @ mel_filters(RATE, N_FFT, MELS).to(waveform.dtype)
    decibels = 10 * power.clamp(min=1e-10).log10()
    decibels = decibels - decibels.amax((1, 2), keepdim=True)
    return (decibels.clamp(min=-80.0) + 40) / 40
