"""Settings of a probe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from codeczoo.executor.settings import WorkSettings


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(WorkSettings):
    """A probe.

    Attributes:
        codecs: their names; out: the folder of the results.
        weights: by codec: file, folder or "random"; without one the published ones.
        num_codebooks: None = each codec's own.
        snr: of the added noise, in dB; gain: in dB; shift: in samples.
        repeats: how often codes are decoded and encoded again.
        order: of the n-grams, at most.
        sample_frames: frames of the sample that mutual information and n-grams are computed of.
        shuffles: of the baseline of mutual information.
    """

    codecs: tuple[str, ...]
    out: str
    weights: Mapping[str, str] = field(default_factory=dict)
    num_codebooks: int | None = None
    snr: float = 40.0
    gain: float = 1.0
    shift: int = 1
    repeats: int = 5
    order: int = 3
    sample_frames: int = 1 << 20
    shuffles: int = 20

    def changes(self) -> dict[str, str]:
        """The changes of audio whose effect is measured: name → in words."""
        return {
            "shift": f"without its first {'sample' if self.shift == 1 else f'{self.shift} samples'}",
            "noise": f"white noise at {self.snr:g} dB SNR",
            "gain": f"{self.gain:+g} dB",
        }
