"""What every codec promises, with the weights that it really has, on the embedded speech: ragged = alone, stream =
whole, in passes = whole, one device = another.

In float32 a batch sums in another order than a clip alone, so that a code may fall to the other side of a tie. A
network that mixes up clips or chunks agrees in a few of a hundred.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from codeczoo.base.audio import Audio
from codeczoo.base.codec import BaseCodec
from codeczoo.data.embedded import embedded_clips
from codeczoo.verify.checks import Check

SPEECH = ("speech_en_male_24k", "speech_en_female_16k", "speech_de_female_22k")
SECONDS = (2.0, 1.3, 0.4)  # of the clips of a ragged batch
PASS_SECONDS = 0.9
EQUAL_CODES = 0.98  # the least share
AUDIO_TOLERANCE = 5e-3  # of the peak; what leaks from clip to clip is ten times as much


def speech(codec: BaseCodec) -> list[Tensor]:
    """The embedded speech [1, T] at the codec's rate."""
    paths = {path.stem: path for path in embedded_clips()}
    clips = (Audio.load(paths[name]).resample(codec.sample_rate) for name in SPEECH)
    return [clip.waveform[0, :1] for clip in clips]


def promises(codec: BaseCodec) -> Iterator[Check]:
    """The checks on one device."""
    clips = speech(codec)
    yield ragged(codec, [clip[:, : int(s * codec.sample_rate)] for clip, s in zip(clips, SECONDS, strict=True)])
    clip = clips[0][:, : int(SECONDS[0] * codec.sample_rate)]
    yield from streamed(codec, clip)
    yield from in_passes(codec, clip)


def ragged(codec: BaseCodec, clips: Sequence[Tensor]) -> Check:
    """Codes of a ragged batch, and audio of them, against those of each clip alone."""
    batch = codec.encode(list(clips), codec.sample_rate)
    alone = [codec.encode(clip, codec.sample_rate) for clip in clips]
    pairs = [(batch[i].codes, one.codes) for i, one in enumerate(alone)]
    if not codec.supports_decode:
        return _codes("ragged batch = alone", pairs)
    audio = codec.decode(batch).split()
    error = max(_distance(audio[i], codec.decode(batch[i]).waveform[0]) for i in range(len(clips)))
    return _codes("ragged batch = alone", pairs, error)


def streamed(codec: BaseCodec, clip: Tensor) -> Iterator[Check]:
    """Chunks of a tenth of a second, three frames at least, against the whole."""
    hop, rate = codec.hop_length, codec.frame_rate
    if not codec.streams or not hop or not rate:
        yield Check.skipped("stream = whole", "it does not stream")
        return
    whole = codec.encode(clip, codec.sample_rate)
    frames = max(3, round(rate / 10))
    if "encode" in codec.streams:
        stream = codec.stream()
        end = clip.shape[-1] // hop * hop
        waveform = codec.prepare(clip, codec.sample_rate).waveform
        parts = [stream.encode(waveform[..., i : min(i + frames * hop, end)]) for i in range(0, end, frames * hop)]
        parts.append(stream.flush(waveform[..., end:]))
        yield _codes("stream = whole", [(torch.cat([part[0].codes for part in parts], -1), whole[0].codes)])
    if "decode" in codec.streams and not whole.side_info:
        stream = codec.stream()
        audio = [stream.decode(whole.codes[..., i : i + frames]) for i in range(0, whole.codes.shape[-1], frames)]
        audio.append(stream.flush_decoder())
        heard = torch.cat([part.split()[0] for part in audio], -1)
        expected = codec.decode(whole.codes).waveform[0]
        yield _audio("stream of codes = whole", _distance(heard, expected))


def in_passes(codec: BaseCodec, clip: Tensor) -> Iterator[Check]:
    """A clip in passes of 0.9 s against the clip in one."""
    whole = codec.encode(clip, codec.sample_rate)
    kept = codec.max_chunk_seconds
    try:
        codec.max_chunk_seconds = PASS_SECONDS
        if "encode" in codec.approximate_when_long:
            yield Check.skipped("passes = whole", "it attends to the whole clip; long clips are approximate")
        else:
            yield _codes("passes = whole", [(codec.encode(clip, codec.sample_rate).codes, whole.codes)])
        if codec.supports_decode and "decode" not in codec.approximate_when_long:
            apart = codec.decode(whole).waveform
            codec.max_chunk_seconds = kept
            yield _audio("decoded in passes = whole", _distance(apart, codec.decode(whole).waveform))
    finally:
        codec.max_chunk_seconds = kept


def devices(codec: BaseCodec, on_cpu: BaseCodec) -> Check:
    """Codes of one device against those of the CPU."""
    pairs = [
        (codec.encode(clip, codec.sample_rate).codes.cpu(), on_cpu.encode(clip, codec.sample_rate).codes)
        for clip in speech(codec)
    ]
    return _codes(f"{codec.device.type} = cpu", pairs)


def equal_share(one: Tensor, other: Tensor) -> float:
    """Of codes; 0 if there is not the same number of them."""
    return float((one == other).double().mean()) if one.shape == other.shape else 0.0


def _codes(name: str, pairs: Sequence[tuple[Tensor, Tensor]], error: float | None = None) -> Check:
    share = min(equal_share(one, other) for one, other in pairs)
    found = f"{share:.1%} of the codes equal"
    right = share >= EQUAL_CODES
    expected = f"{EQUAL_CODES:.0%} or more"
    if error is not None:
        found += f", audio within {error:.1e} of its peak"
        expected += f", {AUDIO_TOLERANCE:.0e}"
        right &= error <= AUDIO_TOLERANCE
    return Check.of(name, right, found, expected)


def _audio(name: str, error: float) -> Check:
    return Check.of(name, error <= AUDIO_TOLERANCE, f"within {error:.1e} of the peak", f"{AUDIO_TOLERANCE:.0e}")


def _distance(one: Tensor, other: Tensor) -> float:
    """The largest difference, of the peak; infinite if the lengths differ or a value is not finite."""
    if one.shape != other.shape or not (one.isfinite().all() and other.isfinite().all()):
        return float("inf")
    return float((one - other).abs().max()) / max(float(other.abs().max()), 1e-9)
