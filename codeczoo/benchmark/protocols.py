"""How a clip is put through a codec and what is compared with what: ours, and Codec-SUPERB's as it was in May 2026.

docs/benchmark.md names the choices of each one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from codeczoo.base.audio import Audio, stack
from codeczoo.base.codec import BaseCodec
from codeczoo.base.codes import Codes
from codeczoo.base.inputs import Clip, collate
from codeczoo.metrics import DEFAULT_METRICS, metric_names

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Coded:
    """What is compared, and what was sent."""

    reference: Audio
    estimate: Audio | None  # None: a tokenizer without a decoder
    codes: Codes | None  # None: a reconstruction that the data set holds


Stage = Callable[[str], None]  # told of "encode" and "decode" as they begin
Code = Callable[[BaseCodec, Audio, Stage], Coded]


@dataclass(frozen=True)
class Protocol:
    """A way to measure.

    Attributes:
        name: as `--protocol` takes it, and as it stands in the results.
        code: a batch of clips of one rate and channel count, there and back.
        compare: a batch, and its reconstructions as a data set holds them → what is compared.
        metrics: computed when none are named.
        longest: seconds; longer clips are left out, by name. None = no limit.
        resampler: for the record.
    """

    name: str
    code: Code
    compare: Callable[[Audio, Sequence[Clip]], Coded]
    metrics: tuple[str, ...]
    longest: float | None = None
    resampler: str = "windowed sinc (Hann, width 6, roll-off 0.99)"


# -- zoo: what codeczoo holds to be right -------------------------------------------------------------


def _code(codec: BaseCodec, original: Audio, stage: Stage) -> Coded:
    """At the codec's rate and channels, and back at the clip's own."""
    stage("encode")
    codes = codec.encode(original)
    if not codec.supports_decode:
        return Coded(original, None, codes)
    stage("decode")
    return Coded(original, codec.match_input(codec.decode(codes), original), codes)


def _compare(original: Audio, estimates: Sequence[Clip]) -> Coded:
    """At the clip's own rate; where channel counts differ, the reconstruction's mix stands for each."""
    clips = [
        clip if len(clip.waveform) == original.channels else clip._replace(waveform=clip.waveform.mean(0, keepdim=True))
        for clip in estimates
    ]
    return Coded(original, collate(clips, original.sample_rate, original.channels), None)


# -- superb-2026-05: Codec-SUPERB's choices, its defects among them -----------------------------------

# Families whose wrapper does not resample: the clip's samples are taken as if they were at the codec's rate, so that
# the codec hears another speed and pitch, and what comes back is compared sample by sample.
NOT_RESAMPLED = ("dac", "funcodec")
# A variant whose wrapper resamples to another rate than the network's, because a file of its package says so.
RATE_OF_WRAPPER = {"sqcodec_24k_12kbps": 16_000}
PEAK_OF_ACADEMICODEC = 0.95  # to which its wrapper normalises; the level is not restored
LONGEST_OF_SUPERB = 120.0  # seconds


def _superb_code(codec: BaseCodec, original: Audio, stage: Stage) -> Coded:
    stage("encode")
    mono = original.mix(1)
    family, rate = codec.variant.family, codec.sample_rate
    wrapper_rate = RATE_OF_WRAPPER.get(codec.name, rate)
    taken = replace(mono, sample_rate=rate) if family in NOT_RESAMPLED else _soxr(mono, wrapper_rate)
    taken = replace(taken, sample_rate=rate)
    if family == "academicodec":
        peak = taken.waveform.abs().amax((1, 2), keepdim=True)
        taken = replace(taken, waveform=taken.waveform / torch.where(peak > 0, peak, 1) * PEAK_OF_ACADEMICODEC)
    if family == "dac":
        codes, back = _compressed(codec, taken, stage)
    else:
        codes = codec.encode(taken)
        if not codec.supports_decode:
            return Coded(mono, None, codes)
        stage("decode")
        back = codec.decode(codes)
    # num_samples speaks of the clip as it is, so that the bitrate is that of its own duration.
    codes = replace(codes, num_samples=_at(mono.lengths, mono.sample_rate, rate))
    back = (
        replace(back, sample_rate=mono.sample_rate)
        if family in NOT_RESAMPLED
        else _soxr(replace(back, sample_rate=wrapper_rate * back.sample_rate // rate), mono.sample_rate)
    )
    return Coded(mono, back, codes)


def _compressed(codec: BaseCodec, taken: Audio, stage: Stage) -> tuple[Codes, Audio]:
    """DAC's file mode, one clip at a time: each has its own loudness and its own windows."""
    from codeczoo.codecs.dac import DAC

    assert isinstance(codec, DAC)
    codes, back = [], []
    for clip in taken:
        stage("encode")
        file = codec.compress(clip)
        codes.append(codec.codes_from_tensor(file.codes))
        stage("decode")
        back.append(codec.decompress(file).split()[0])
    return Codes.cat(codes), stack(back, codec.sample_rate)


def _superb_compare(original: Audio, estimates: Sequence[Clip]) -> Coded:
    """As they are; another rate is a clip dropped there, and here a failure with that reason."""
    for clip in estimates:
        if clip.sample_rate != original.sample_rate:
            raise ValueError(
                f"the reconstruction is at {clip.sample_rate} Hz and the clip at {original.sample_rate} Hz, "
                "which this protocol does not compare"
            )
    return Coded(original.mix(1), collate(estimates, channels=1), None)


def _soxr(audio: Audio, rate: int) -> Audio:
    """Resampled as librosa does by default: soxr, high quality, each clip by itself, on the CPU."""
    if audio.sample_rate == rate:
        return audio
    try:
        import soxr
    except ImportError as error:
        raise ImportError("protocol superb-2026-05 resamples with soxr: pip install 'codeczoo[superb]'") from error

    def one(clip: Tensor) -> Tensor:
        samples: np.ndarray = soxr.resample(clip[0].double().cpu().numpy(), audio.sample_rate, rate, quality="HQ")
        wanted = -(-clip.shape[-1] * rate // audio.sample_rate)
        samples = samples[:wanted]
        return torch.nn.functional.pad(torch.from_numpy(samples).to(clip), (0, wanted - len(samples)))[None]

    return stack([one(clip) for clip in audio.split()], rate).to(audio.device)


def _at(lengths: Tensor, rate: int, wanted: int) -> Tensor:
    return -(-lengths * wanted // rate)


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("zoo", _code, _compare, DEFAULT_METRICS),
        Protocol(
            "superb-2026-05",
            _superb_code,
            _superb_compare,
            tuple(metric_names("superb/*")),
            LONGEST_OF_SUPERB,
            "soxr HQ, one clip at a time",
        ),
    )
}


def find_protocol(name: str) -> Protocol:
    """Raises a KeyError that names those there are."""
    if name not in PROTOCOLS:
        raise KeyError(f"there is no protocol {name!r}; there are: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
