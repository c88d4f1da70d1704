"""How a clip goes through a codec and what is compared: codeczoo's way, and Codec-SUPERB's as of May 2026; and sets of
metrics that are reported together.

docs/benchmark.md lists the choices of each.
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
from codeczoo.benchmark.applications import CODEC_SUPERB, Step
from codeczoo.metrics import DEFAULT_METRICS, metric_names
from codeczoo.metrics.networks.recogniser import HUBERT

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class CodecOutput:
    """Both sides of the comparison, and the codes between them."""

    reference: Audio
    estimate: Audio | None  # None: a tokenizer without a decoder
    codes: Codes | None  # None: a reconstruction that the data set holds

    def __getitem__(self, rows: Sequence[int]) -> CodecOutput:
        return CodecOutput(
            self.reference[rows],
            None if self.estimate is None else self.estimate[rows],
            None if self.codes is None else self.codes[rows],
        )


Stage = Callable[[str], None]  # called with "encode" and with "decode" when each begins
Code = Callable[[BaseCodec, Audio, Stage], CodecOutput]


@dataclass(frozen=True)
class Protocol:
    """How clips are coded and compared.

    Attributes:
        name: the value of `--protocol`, also in the results.
        code: encodes and decodes a batch of clips of one rate and channel count.
        compare: takes a batch and the reconstructions that a data set holds of it.
        metrics: computed when none are asked for.
        max_seconds: longer clips fail, with this limit as the reason. None = no limit.
        resampler: for the record.
        steps: applications that a complete run is put to.
        asr: the recogniser, where none is asked for; None = Whisper large v3.
    """

    name: str
    code: Code
    compare: Callable[[Audio, Sequence[Clip]], CodecOutput]
    metrics: tuple[str, ...]
    max_seconds: float | None = None
    resampler: str = "windowed sinc (Hann, width 6, roll-off 0.99)"
    steps: tuple[Step, ...] = ()
    asr: str | None = None


# -- zoo: codeczoo's own -----------------------------------------------------------------------------


def _code(codec: BaseCodec, original: Audio, stage: Stage) -> CodecOutput:
    """Encode at the codec's rate and channel count; compare at the clip's own."""
    stage("encode")
    codes = codec.encode(original)
    if not codec.supports_decode:
        return CodecOutput(original, None, codes)
    stage("decode")
    return CodecOutput(original, codec.match_input(codec.decode(codes), original), codes)


def _compare(original: Audio, estimates: Sequence[Clip]) -> CodecOutput:
    """Compare at the clip's own rate; where channel counts differ, each channel with the reconstruction's mix."""
    clips = [
        clip if len(clip.waveform) == original.channels else clip._replace(waveform=clip.waveform.mean(0, keepdim=True))
        for clip in estimates
    ]
    return CodecOutput(original, collate(clips, original.sample_rate, original.channels), None)


# -- superb-2026-05: Codec-SUPERB's choices, defects included ----------------------------------------

# Families whose wrapper does not resample: the clip's samples are taken as samples at the codec's rate, so the codec
# hears another speed and pitch, and its output is compared with the clip sample by sample.
NOT_RESAMPLED = ("dac", "funcodec")
# A variant whose wrapper resamples to another rate than the network's: that of a file in its package.
RATE_OF_WRAPPER = {"sqcodec_24k_12kbps": 16_000}
PEAK_OF_ACADEMICODEC = 0.95  # to which its wrapper normalises; the level is not restored
MAX_SECONDS_OF_SUPERB = 120.0


def _superb_code(codec: BaseCodec, original: Audio, stage: Stage) -> CodecOutput:
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
            return CodecOutput(mono, None, codes)
        stage("decode")
        back = codec.decode(codes)
    # The number of samples of the clip itself, not of what the codec was given: the bitrate is per second of the clip.
    codes = replace(codes, num_samples=_at(mono.lengths, mono.sample_rate, rate))
    back = (
        replace(back, sample_rate=mono.sample_rate)
        if family in NOT_RESAMPLED
        else _soxr(replace(back, sample_rate=wrapper_rate * back.sample_rate // rate), mono.sample_rate)
    )
    return CodecOutput(mono, back, codes)


def _compressed(codec: BaseCodec, taken: Audio, stage: Stage) -> tuple[Codes, Audio]:
    """DAC's file mode, one clip at a time: loudness and windows are chosen clip by clip."""
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


def _superb_compare(original: Audio, estimates: Sequence[Clip]) -> CodecOutput:
    """Compare without resampling. Codec-SUPERB drops a clip of another rate; here it is a failure with that reason."""
    for clip in estimates:
        if clip.sample_rate != original.sample_rate:
            raise ValueError(
                f"the reconstruction is at {clip.sample_rate} Hz and the clip at {original.sample_rate} Hz, "
                "which this protocol does not compare"
            )
    return CodecOutput(original.mix(1), collate(estimates, channels=1), None)


def _soxr(audio: Audio, rate: int) -> Audio:
    """Resample as librosa does by default: soxr, high quality, clip by clip, on the CPU."""
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


# -- sets of metrics ---------------------------------------------------------------------------------

# What papers on codecs report of LibriSpeech's test-clean. Their tables differ; these are the numbers that most have.
PAPER_SPEECH = (
    "utmos",
    "dnsmos_ovrl",
    "dnsmos_p808",
    "sim_wavlm",
    "wer",
    "dwer",
    "pesq_wb",
    "pesq_nb",
    "stoi",
    "mel",
    "stft",
)
# The signal side of Codec-SUPERB by the published definitions, and the recognised words of its application side.
CODEC_SUPERB_METRICS = (*metric_names("superb/*"), "wer", "dwer")


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("zoo", _code, _compare, DEFAULT_METRICS),
        Protocol(
            "superb-2026-05",
            _superb_code,
            _superb_compare,
            tuple(metric_names("superb/*")),
            MAX_SECONDS_OF_SUPERB,
            "soxr HQ, one clip at a time",
        ),
        Protocol("paper-speech", _code, _compare, PAPER_SPEECH, asr=HUBERT),
        Protocol("codec-superb-full", _code, _compare, CODEC_SUPERB_METRICS, steps=CODEC_SUPERB),
    )
}


def find_protocol(name: str) -> Protocol:
    """Raises a KeyError that lists the protocols."""
    if name not in PROTOCOLS:
        raise KeyError(f"there is no protocol {name!r}; there are: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
