"""EnCodec: SEANet with an LSTM and up to 32 levels of residual quantisation; one network for 24 kHz, one for 48 kHz.

Paper: "High Fidelity Neural Audio Compression" (arXiv 2210.13438). Upstream: facebookresearch/encodec, and the same
models in Hugging Face transformers; the checkpoints of both load. formats/ecdc.py reads and writes its `.ecdc` files.

encodec_24k: mono, causal, the whole clip at once. It streams, which upstream does not offer. Its convolutions mirror
the first samples of a clip, so that the first frame is ready with the seventh; from then on each frame is ready with
its last sample.

encodec_48k: stereo, with look-ahead and a GroupNorm over time. So it works on segments of 1 s that start every 0.99 s.
Each is brought to a level of 1, coded, decoded, brought back to its level and faded into its neighbours. The level goes
with the codes, as the side information `scale`. A clip ends with one or two shorter segments.

The default rate is 6 kbit/s, as in upstream's command line. (Upstream's API takes all codebooks, transformers the
fewest.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from codeczoo.base import (
    BaseCodec,
    Decoded,
    Frames,
    FrameSource,
    KeyMap,
    Variant,
    dense_or_none,
    pad_stack,
    release_memory_between,
)
from codeczoo.nn.rvq import ResidualVQ, codebook_rule
from codeczoo.nn.seanet import SEANetDecoder, SEANetEncoder, seanet_rules, seanet_rules_transformers
from codeczoo.nn.stream_warmup import State, StreamWarmup


@dataclass(frozen=True)
class EncodecConfig:
    """The network's numbers."""

    sample_rate: int = 24000  # Hz
    channels: int = 1
    filters: int = 32  # width of the first convolution
    strides: Sequence[int] = (2, 4, 5, 8)  # of the encoder
    dim: int = 128
    lstm_layers: int = 2
    num_codebooks: int = 32
    codebook_choices: Sequence[int] = (2, 4, 8, 16, 32)
    codebook_size: int = 1024
    causal: bool = True
    norm: bool = False  # GroupNorm after each convolution
    segment: int = 0  # samples; 0 = no segments
    segment_stride: int = 0  # samples from the start of a segment to the next one's


class Encodec(BaseCodec):
    """EnCodec at 24 kHz (Meta, 2022): a causal streaming codec for any sound, with up to 32 residual codebooks.

    Audio [B, 1, T] at 24 kHz ↔ codes [B, K, N] at 75 frames a second, K one of 2, 4, 8, 16, 32: 1.5 to 24 kbit/s.

        codec = load_codec("encodec_24k")
        audio = codec.decode(codec.encode("song.wav", bitrate=3000))
    """

    Config = EncodecConfig
    config: EncodecConfig
    hop_length: int

    def __init__(self, config: EncodecConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.channels = (config.channels,)
        self.hop_length = math.prod(config.strides)
        self.codebook_sizes = (config.codebook_size,) * config.num_codebooks
        self.codebook_choices = tuple(config.codebook_choices)
        self.causal = config.causal
        self.latency = self.hop_length / config.sample_rate
        self.latent_dim = self.vector_dim = config.dim

        options: dict[str, Any] = {"lstm_layers": config.lstm_layers, "causal": config.causal, "norm": config.norm}
        channels, dim, strides = config.channels, config.dim, tuple(config.strides)
        self.encoder = SEANetEncoder(channels, dim, config.filters, strides, **options)
        self.quantizer = ResidualVQ(config.num_codebooks, config.codebook_size, dim)
        self.decoder = SEANetDecoder(channels, dim, config.filters, strides[::-1], **options)
        self._encoder_stream = StreamWarmup(self.encoder, channels, self.hop_length)
        self._decoder_stream = StreamWarmup(self.decoder, dim)

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        latent, _ = self.encoder(waveform, dense_or_none(lengths, waveform.shape[-1]))
        return Frames(latent, self.encoder.out_length(lengths))

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        waveform, _ = self.decoder(frames.values, dense_or_none(frames.lengths, frames.values.shape[-1]))
        return Decoded(waveform, frames.lengths * self.hop_length)

    # -- streaming ------------------------------------------------------------------------------

    def _stream_encode_start(self, batch_size: int) -> State:
        return self._encoder_stream.initial_state(batch_size)

    def _stream_latents_warmup(self, waveform: Tensor, state: State) -> tuple[Tensor, Tensor | None, State]:
        return self._encoder_stream.warm_up(waveform, state)

    def _stream_encode_is_warm(self, state: State) -> bool:
        return self._encoder_stream.is_warm(state)

    def _stream_latents_step(self, waveform: Tensor, state: State) -> tuple[Tensor, State]:
        return self._encoder_stream.step(waveform, state)

    def _stream_latents_flush(self, rest: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, Tensor]:
        return self._encoder_stream.flush(rest, lengths, state)

    def _stream_decode_start(self, batch_size: int) -> State:
        return self._decoder_stream.initial_state(batch_size)

    def _stream_synthesize_warmup(self, vectors: Tensor, state: State) -> tuple[Tensor, Tensor | None, State]:
        return self._decoder_stream.warm_up(vectors, state)

    def _stream_decode_is_warm(self, state: State) -> bool:
        return self._decoder_stream.is_warm(state)

    def _stream_synthesize_step(self, vectors: Tensor, state: State) -> tuple[Tensor, State]:
        return self._decoder_stream.step(vectors, state)

    def _stream_decode_flush(self, state: State) -> tuple[Tensor, Tensor]:
        held, seen = state["held"], state["seen"]
        return self._decoder_stream.flush(held[..., :0], torch.zeros_like(seen), state)


class Segment(NamedTuple):
    """One segment of a clip: samples that the network sees without their neighbours."""

    row: int  # of the batch
    number: int  # in the clip
    frame: int  # where it begins in the clip's codes
    frames: int
    samples: int  # of audio in it; frames * hop where that is not known


def segments_of_clip(config: EncodecConfig, row: int, samples: int) -> list[Segment]:
    """The segments of a clip of `samples`. The last is shorter than the others, and so is the last but one if it
    reaches beyond the end of the clip."""
    segments: list[Segment] = []
    frame, hop = 0, math.prod(config.strides)
    for number, start in enumerate(range(0, samples, config.segment_stride)):
        own = min(config.segment, samples - start)
        segments.append(Segment(row, number, frame, -(-own // hop), own))
        frame += segments[-1].frames
    return segments


class SegmentedEncodec(Encodec):
    """EnCodec at 48 kHz (Meta, 2022): a stereo codec for music, in segments of 1 s that overlap by 1 %.

    Audio [B, 2, T] at 48 kHz ↔ codes [B, K, N] at 150 frames a second, K one of 2, 4, 8, 16 (3 to 24 kbit/s), and the
    side information `scale` [B, S], the level of each segment, NaN where a clip has fewer segments than another.

        codec = load_codec("encodec_48k")
        audio = codec.decode(codec.encode("song.wav"))

    Codes of the segments, up to 150 frames each, stand one after the other. Codes without `scale` decode at a scale of
    1: the sound, not its level. A clip of T samples has ceil(T / 47520) segments, so that it has about 1 % more codes
    than 150 a second. Upstream cannot decode its own codes of a clip that ends 161 to 320 samples after the start of a
    segment, because the segment before it reaches further; here the clip ends where its last segment does.
    """

    onnx_unsupported: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("encoder", "decoder"),
        "it cuts clips into segments of 1 s, a loop whose number of turns is the clip's",
    )

    def __init__(self, config: EncodecConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.latency = config.segment / config.sample_rate
        self.segment_frames = -(-config.segment // self.hop_length)

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        clips = [segments_of_clip(self.config, row, samples) for row, samples in enumerate(lengths.tolist())]
        counts = [sum(segment.frames for segment in clip) for clip in clips]
        values = waveform.new_zeros(len(clips), self.latent_dim, max(counts))
        scale = waveform.new_full((len(clips), max(map(len, clips))), torch.nan)
        for group, latent in self._encoded_segments(waveform, clips, scale):
            for segment, row in zip(group, latent, strict=True):
                values[segment.row, :, segment.frame : segment.frame + segment.frames] = row[:, : segment.frames]
        return Frames(values, lengths.new_tensor(counts), {"scale": scale})

    def _encoded_segments(
        self, waveform: Tensor, clips: Sequence[Sequence[Segment]], scale: Tensor
    ) -> Iterator[tuple[list[Segment], Tensor]]:
        """Segments that go through the network together, and their latents. Fills `scale` [B, S]."""
        for group in release_memory_between(self._segment_batches(clips)):
            starts = [segment.number * self.config.segment_stride for segment in group]
            samples = [
                waveform[segment.row, :, start : start + segment.samples]
                for segment, start in zip(group, starts, strict=True)
            ]
            x, own = pad_stack(samples)
            level = self.level(x, own)
            for segment, value in zip(group, level, strict=True):
                scale[segment.row, segment.number] = value
            yield group, self.encoder(x / level[:, None, None], dense_or_none(own, x.shape[-1]))[0]

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        return self._decoded_segments(lambda row, first, last: frames.values[row, :, first:last], frames, num_samples)

    def _decoded_segments(
        self, source: Callable[[int, int, int], Tensor], frames: Frames, num_samples: Tensor
    ) -> Decoded:
        """As `_synthesize`, with the values from `source`: row, first and last frame → [D, last - first]."""
        _, lengths, side_info = frames
        scale = side_info.get("scale")
        clips = [
            self.segments_of(row, frames, None if samples < 0 else samples, None if scale is None else scale[row])
            for row, (frames, samples) in enumerate(zip(lengths.tolist(), num_samples.tolist(), strict=True))
        ]
        stride, hop = self.config.segment_stride, self.hop_length
        ends = [(len(clip) - 1) * stride + clip[-1].frames * hop for clip in clips]
        out = self._anchor.new_zeros(len(clips), self.config.channels, max(ends))
        for group in release_memory_between(self._segment_batches(clips)):
            x, own = pad_stack([source(one.row, one.frame, one.frame + one.frames) for one in group])
            y, _ = self.decoder(x, dense_or_none(own, x.shape[-1]))
            for segment, decoded in zip(group, y, strict=True):
                decoded = decoded[:, : segment.frames * hop]
                if scale is not None:
                    decoded = decoded * scale[segment.row, segment.number]
                clip = clips[segment.row]
                self._fade_in(out[segment.row, :, : ends[segment.row]], decoded, segment, clip)
        return Decoded(out, lengths.new_tensor(ends))

    def level(self, x: Tensor, lengths: Tensor) -> Tensor:
        """[B, C, T], zeros behind each item → [B]: root mean square of the channels' mean."""
        return (x.mean(1).square().sum(-1) / lengths).sqrt() + 1e-8

    # Segments do not see each other, so that long clips are exact in bounded memory.

    def _latents_long(self, waveform: Tensor, lengths: Tensor, samples: int) -> Iterator[Frames]:
        clip = segments_of_clip(self.config, 0, int(lengths[0]))
        scale = waveform.new_full((1, len(clip)), torch.nan)
        for group, latent in self._encoded_segments(waveform, [clip], scale):
            values = torch.cat([row[:, : segment.frames] for segment, row in zip(group, latent, strict=True)], dim=-1)
            yield Frames(values[None], lengths.new_tensor([values.shape[-1]]), {"scale": scale})

    def _synthesize_long(self, source: FrameSource, lengths: Tensor, num_samples: Tensor, frames: int) -> Decoded:
        whole = source(0, 1)._replace(lengths=lengths)
        return self._decoded_segments(lambda row, first, last: source(first, last).values[0], whole, num_samples)

    # -- segments -------------------------------------------------------------------------------

    def segments_of(self, row: int, frames: int, samples: int | None, scale: Tensor | None) -> list[Segment]:
        """The segments of a clip of `frames`, whose number of samples may be unknown.

        If it is, all segments but the last are taken as full. Only a segment of 149 frames followed by one of 1 frame
        looks like a full one: the number of scales tells them apart.

        Raises:
            ValueError: the numbers do not belong together, or a scale is missing.
        """
        full, hop = self.segment_frames, self.hop_length
        count = None if scale is None else int(scale.isfinite().sum())
        if samples is not None:
            segments = segments_of_clip(self.config, row, samples)
        else:
            sizes = [full] * (frames // full) + [frames % full] * (frames % full > 0)
            if frames % full == 0 and count == len(sizes) + 1:
                sizes[-1:] = [full - 1, 1]
            ends = itertools.accumulate(sizes)
            segments = [
                Segment(row, i, end - n, n, n * hop) for i, (end, n) in enumerate(zip(ends, sizes, strict=True))
            ]
        total = sum(segment.frames for segment in segments)
        if total != frames:
            raise ValueError(f"{self.name}: {samples} samples make {total} frames; item {row} has {frames}")
        if scale is not None and (len(scale) < len(segments) or not bool(scale[: len(segments)].isfinite().all())):
            raise ValueError(f"{self.name}: item {row} has {len(segments)} segments and {count} scales")
        return segments

    def _segment_batches(self, clips: Sequence[Sequence[Segment]]) -> Iterator[list[Segment]]:
        """Full segments, in batches of at most `max_chunk_seconds`; then the shorter ones, which end their clips."""
        size = max(int(self._chunk_seconds() * self.sample_rate) // self.config.segment, 1)
        everything = [segment for clip in clips for segment in clip]
        whole = [segment for segment in everything if segment.samples == self.config.segment]
        short = [segment for segment in everything if segment.samples < self.config.segment]
        for kind in (whole, short):
            for i in range(0, len(kind), size):
                yield kind[i : i + size]

    def _fade_in(self, out: Tensor, decoded: Tensor, segment: Segment, clip: Sequence[Segment]) -> None:
        """Put a decoded segment in its place in the clip [C, T], faded into the segment before it."""
        stride, hop = self.config.segment_stride, self.hop_length
        place = out[:, segment.number * stride :][:, : decoded.shape[-1]]
        decoded = decoded[:, : place.shape[-1]]  # the last but one may reach beyond the end of the clip
        overlap = 0
        if segment.number:
            before = clip[segment.number - 1].frames * hop
            overlap = min(before - stride, place.shape[-1])
            # The published weights are a triangle over the length of the first segment; only their ratio matters.
            rises = torch.arange(1, overlap + 1, device=out.device, dtype=out.dtype)
            falls = clip[0].frames * hop + 1 - stride - rises
            share = rises / (rises + falls)
            place[:, :overlap] += (decoded[:, :overlap] - place[:, :overlap]) * share
        place[:, overlap:] = decoded[:, overlap:]


# -- key maps ---------------------------------------------------------------------------------------

TRAINING_KEYS = (r"quantizer\..+\.(embed_avg|cluster_size|inited)",)  # of training


def _authors(num_codebooks: int) -> KeyMap:
    return KeyMap(
        "encodec",
        (
            *seanet_rules("encoder", "encoder.model"),
            *seanet_rules("decoder", "decoder.model", (3, 6, 9, 12)),
            codebook_rule(r"quantizer\.codebooks", "quantizer.vq.layers.{}._codebook.embed", num_codebooks),
        ),
        TRAINING_KEYS,
    )


def _transformers(num_codebooks: int) -> KeyMap:
    return KeyMap(
        "encodec of transformers",
        (
            *seanet_rules_transformers("encoder", "encoder.layers"),
            *seanet_rules_transformers("decoder", "decoder.layers"),
            codebook_rule(r"quantizer\.codebooks", "quantizer.layers.{}.codebook.embed", num_codebooks),
        ),
        TRAINING_KEYS,
    )


Encodec.key_maps = (_authors(32), _transformers(32))
SegmentedEncodec.key_maps = (_authors(16), _transformers(16))
