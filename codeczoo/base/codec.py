"""`BaseCodec`: all that codecs have in common. A family adds its network and two hooks on dense tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from codeczoo.base.audio import Audio, clean, stack
from codeczoo.base.codes import PAD, Codes
from codeczoo.base.device import matmul_precision
from codeczoo.base.inputs import collate, read_clips
from codeczoo.base.keymap import KeyMap
from codeczoo.base.passes import Context, decode_in_windows, encode_in_windows, groups_within
from codeczoo.base.ragged import valid_mask
from codeczoo.base.stream import State, Stream
from codeczoo.base.variant import Variant

PIECE = 1 << 21  # frames whose codes are looked at together
# Seconds of audio that go through a network at once when nothing is said, by device.
# (CUDA: DAC's widest activation, 96 channels at 44.1 kHz, stays below 2 ** 31 values, where kernels begin to differ.)
SECONDS_PER_PASS = {"cpu": 30.0, "mps": 60.0, "cuda": 240.0}


@dataclass(frozen=True)
class CodecInfo:
    """What a codec is. Rates in Hz, bitrates in bit/s, times in seconds."""

    name: str
    family: str
    sample_rate: int
    channels: tuple[int, ...]
    frame_rate: float | None
    hop_length: int | None
    num_codebooks: int
    max_codebooks: int
    codebook_sizes: tuple[int, ...]
    bitrate: float | None
    bitrates: tuple[float, ...]
    causal: bool
    latency: float | None
    parameters: int
    supports_decode: bool
    code_licence: str
    weights_licence: str
    weights: str
    paper: str
    description: str


class Encoded(NamedTuple):
    """What a family's encoder hook returns. Values behind an item's length are unspecified."""

    codes: Tensor  # [B, K, N] int64
    lengths: Tensor  # [B] frames
    side: Mapping[str, Tensor] = {}  # [B, ...] each


class Decoded(NamedTuple):
    """What a family's decoder hook returns. Values behind an item's length are unspecified."""

    waveform: Tensor  # [B, C, T]
    lengths: Tensor  # [B] samples


class BaseCodec(nn.Module):
    """A neural (or other) audio codec.

    A family sets the class attributes below, fills the instance attributes in `__init__`, and implements `_encode`
    and `_decode`: dense tensors with lengths, on the device, at the codec's rate; nothing about files, rates or lists.
    A causal family also implements `_stream_*` (see `base.stream`).
    """

    Config: ClassVar[Callable[..., Any]]  # the dataclass of the network's numbers
    key_maps: ClassVar[tuple[KeyMap, ...]] = ()
    readers: ClassVar[Mapping[str, Callable[[Path], Mapping[str, Any]]]] = {}  # of other file forms, by suffix
    supports_decode: ClassVar[bool] = True
    why_no_decode: ClassVar[str] = ""

    sample_rate: int
    channels: tuple[int, ...] = (1,)  # channel counts that the network takes
    hop_length: int | None  # samples a frame; None where frames are not a clock
    codebook_sizes: tuple[int, ...]
    strides: tuple[int, ...] = ()  # frames a code, by codebook; () = all ones
    codebook_choices: tuple[int, ...]  # numbers of codebooks that may be asked for
    causal: bool = False
    latency: float | None = None  # seconds from a sample to the code that holds it, algorithmic
    encode_context: Context | None = None  # receptive field of the encoder in samples; None = not finite
    decode_context: Context | None = None  # of the decoder, in frames
    inexact_passes: tuple[str, ...] = ()  # of "encode" and "decode": where a long clip in passes is not its whole
    whole_seconds: float = 0.0  # where passes are not exact: what goes in one at least, unless the caller says less

    def __init__(self, config: Any, variant: Variant) -> None:
        super().__init__()
        self.config = config
        self.variant = variant
        self.precision = "exact"
        self.max_seconds_per_pass: float | None = None
        self.default_codebooks: int | None = variant.num_codebooks
        self.weights_source: str | None = None  # where the weights came from; None = not loaded, or none needed
        self.weights_hash: str | None = None  # sha256 of that file, in hex; of several: of their hashes
        self._anchor: Tensor
        self.register_buffer("_anchor", torch.zeros(()), persistent=False)  # knows device and dtype

    # -- hooks of a family ----------------------------------------------------------------------

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        """[B, C, T] at the codec's rate, zeros behind each item's length → codes."""
        raise NotImplementedError

    def _decode(self, codes: Tensor, lengths: Tensor, side: Mapping[str, Tensor], num_samples: Tensor) -> Decoded:
        """[B, K, N], zeros behind each item's length → waveform. `num_samples` [B] is -1 where it is not known;
        most families have no use for it."""
        raise NotImplementedError

    def check_metadata(self, metadata: Mapping[str, Any]) -> None:
        """A look at the plain values beside a checkpoint's tensors (`config.json` under "config"): a ValueError if
        they are of another model."""

    def check_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """A look at a checkpoint's tensors, by published key: a ValueError if they are clearly of another model."""

    def _stream_encode_start(self, batch_size: int) -> State:
        raise NotImplementedError

    def _stream_encode(self, waveform: Tensor, state: State, num_codebooks: int) -> tuple[Tensor, Tensor | None, State]:
        raise NotImplementedError

    def _stream_encode_end(
        self, rest: Tensor, lengths: Tensor, state: State, num_codebooks: int
    ) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError

    def _stream_encode_runs(self, state: State) -> bool:
        return True

    def _stream_encode_run(self, waveform: Tensor, state: State, num_codebooks: int) -> tuple[Tensor, State]:
        codes, _, state = self._stream_encode(waveform, state, num_codebooks)
        return codes, state

    def _stream_decode_start(self, batch_size: int) -> State:
        raise NotImplementedError

    def _stream_decode(self, codes: Tensor, state: State) -> tuple[Tensor, Tensor | None, State]:
        raise NotImplementedError

    def _stream_decode_runs(self, state: State) -> bool:
        return True

    def _stream_decode_run(self, codes: Tensor, state: State) -> tuple[Tensor, State]:
        waveform, _, state = self._stream_decode(codes, state)
        return waveform, state

    def _stream_decode_end(self, state: State) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError

    # -- what it is -----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.variant.name

    @property
    def device(self) -> torch.device:
        return self._anchor.device

    @property
    def dtype(self) -> torch.dtype:
        return self._anchor.dtype

    @property
    def frame_rate(self) -> float | None:
        """Frames a second."""
        return self.sample_rate / self.hop_length if self.hop_length else None

    @property
    def num_codebooks(self) -> int:
        """Codebooks that `encode` uses when it is told nothing."""
        return self.default_codebooks or self.codebook_choices[-1]

    def bitrate_of(self, num_codebooks: int) -> float | None:
        """Nominal bit/s of the first `num_codebooks` codebooks; None where frames are not a clock."""
        if self.frame_rate is None:
            return None
        strides = self.strides or (1,) * len(self.codebook_sizes)
        pairs = list(zip(self.codebook_sizes, strides, strict=True))[:num_codebooks]
        return self.frame_rate * sum(math.log2(size) / stride for size, stride in pairs)

    @property
    def info(self) -> CodecInfo:
        rates = [self.bitrate_of(k) for k in self.codebook_choices]
        return CodecInfo(
            name=self.name,
            family=self.variant.family,
            sample_rate=self.sample_rate,
            channels=self.channels,
            frame_rate=self.frame_rate,
            hop_length=self.hop_length,
            num_codebooks=self.num_codebooks,
            max_codebooks=len(self.codebook_sizes),
            codebook_sizes=self.codebook_sizes,
            bitrate=self.nominal_bitrate,
            bitrates=tuple(rate for rate in rates if rate is not None),
            causal=self.causal,
            latency=self.latency,
            parameters=sum(p.numel() for p in self.parameters()),
            supports_decode=self.supports_decode,
            code_licence=self.variant.code_licence,
            weights_licence=self.variant.weights_licence,
            weights=str(self.variant.weights or "none needed"),
            paper=self.variant.paper,
            description=self.variant.description,
        )

    @property
    def nominal_bitrate(self) -> float | None:
        """Bit/s at the default number of codebooks."""
        return self.bitrate_of(self.num_codebooks)

    def __repr__(self) -> str:
        rate = f"{self.nominal_bitrate / 1000:g} kbit/s, " if self.nominal_bitrate else ""
        return f"{type(self).__name__}({self.name!r}: {self.sample_rate} Hz, {rate}{self.device}, {self.dtype})"

    # -- use ------------------------------------------------------------------------------------

    def choose_codebooks(self, num_codebooks: int | None = None, bitrate: float | None = None) -> int:
        """The number of codebooks behind either way of asking.

        Raises:
            ValueError: both, or one that the codec lacks; the message lists what it has.
        """
        if num_codebooks is not None and bitrate is not None:
            raise ValueError("give num_codebooks or bitrate, not both")
        choices = self.codebook_choices
        if num_codebooks is not None:
            if isinstance(num_codebooks, bool) or not isinstance(num_codebooks, Integral):
                raise TypeError(f"num_codebooks must be a whole number; it is {num_codebooks!r}")
            if num_codebooks not in choices:
                has = f"1 to {choices[-1]}" if choices == tuple(range(1, choices[-1] + 1)) else f"{choices}"
                raise ValueError(
                    f"{self.name} has {len(self.codebook_sizes)} codebooks and encodes with {has} of them; "
                    f"num_codebooks={num_codebooks} was asked for"
                )
            return int(num_codebooks)
        if bitrate is not None:
            if isinstance(bitrate, bool) or not isinstance(bitrate, Real):
                raise TypeError(f"bitrate must be a number of bit/s; it is {bitrate!r}")
            for k in choices:
                rate = self.bitrate_of(k)
                if rate is not None and abs(rate - bitrate) <= 0.01 * rate:
                    return k
            rates = ", ".join(f"{self.bitrate_of(k):g}" for k in choices if self.bitrate_of(k))
            raise ValueError(
                f"{self.name} has the bitrates {rates or 'of its own'} bit/s; bitrate={bitrate!r} was asked for"
            )
        return self.num_codebooks

    @torch.no_grad()
    def encode(
        self,
        audio: Any,
        sample_rate: int | None = None,
        num_codebooks: int | None = None,
        bitrate: float | None = None,
    ) -> Codes:
        """Audio of any form, rate, channel count and length → `Codes`, the same for each clip as if it were alone.

        Args:
            audio: path(s) or open files, NumPy or torch [T], [C, T], [B, C, T], a list of those, an `Audio`, or a dict
                or decoder of Hugging Face datasets.
            sample_rate: in Hz, of bare arrays.
            num_codebooks, bitrate: the rate (bit/s); None = the codec's default.

        Raises:
            TypeError, ValueError: audio that cannot be taken, or a rate that the codec lacks.
        """
        count = self.choose_codebooks(num_codebooks, bitrate)
        batch = self.prepare(audio, sample_rate)
        with matmul_precision(self.precision):
            parts = [self._encode_part(batch[rows], count) for rows in self._groups(batch.lengths, 1)]
        return parts[0] if len(parts) == 1 else Codes.cat(parts)

    @torch.no_grad()
    def decode(self, codes: Codes | Tensor) -> Audio:
        """`Codes`, or a bare integer tensor [B, K, N], → audio at the codec's rate, each clip at its own length.

        Raises:
            NotImplementedError: the codec is a tokenizer without a decoder.
            TypeError, ValueError: not codes, codes of another codec, out of range or of the wrong shape.
        """
        self._require_decoder()
        codes = self._check_codes(codes).to(self.device)
        with matmul_precision(self.precision):
            parts = [self._decode_part(codes[rows]) for rows in self._groups(codes.lengths, self.hop_length or 1)]
        if len(parts) == 1:
            return parts[0]
        return stack([clip for part in parts for clip in part.split()], self.sample_rate)

    def reconstruct(
        self,
        audio: Any,
        sample_rate: int | None = None,
        num_codebooks: int | None = None,
        bitrate: float | None = None,
    ) -> Audio:
        """There and back: the audio as the codec leaves it, at the input's own rate, lengths and channel count.

        A codec of fewer channels than the input codes the mix, which then stands in every channel. Clips of one call
        must share their rate and channel count, because one `Audio` holds them.

        Raises:
            NotImplementedError, TypeError, ValueError: as `encode` and `decode`.
        """
        self._require_decoder()
        original = collate(read_clips(audio, sample_rate))
        return self.restore(self.decode(self.encode(original, None, num_codebooks, bitrate)), original)

    def _require_decoder(self) -> None:
        if not self.supports_decode:
            raise NotImplementedError(f"{self.name} cannot decode: {self.why_no_decode}")

    def restore(self, decoded: Audio, original: Audio) -> Audio:
        """`decoded` at the rate, lengths and channel count of `original`."""
        return decoded.like(original)

    def forward(self, audio: Any, sample_rate: int | None = None) -> Audio:
        return self.reconstruct(audio, sample_rate)

    def stream(self, batch_size: int = 1, num_codebooks: int | None = None, bitrate: float | None = None) -> Stream:
        """A stream of `batch_size` clips, fed chunk by chunk; equal to the whole clip.

        Raises:
            ValueError: the codec is not causal.
        """
        if not self.causal:
            raise ValueError(
                f"{self.name} is not causal: its codes depend on later samples, so it cannot stream; "
                "encode() handles audio of any length in bounded memory"
            )
        return Stream(self, batch_size, self.choose_codebooks(num_codebooks, bitrate))

    def prepare(self, audio: Any, sample_rate: int | None = None) -> Audio:
        """Audio of any form as the network takes it: one batch, on the device, at the codec's rate and channels."""
        clips = [
            clip._replace(waveform=clip.waveform.to(self.device, self.dtype)) for clip in read_clips(audio, sample_rate)
        ]
        counts = {len(clip.waveform) for clip in clips}
        # More channels than the codec has: what it takes is their mix.
        channels = max(count if count in self.channels else min(self.channels) for count in counts)
        if channels > 1:
            clips = [
                clip._replace(waveform=clip.waveform.mean(0, keepdim=True))
                if len(clip.waveform) not in (1, channels)
                else clip
                for clip in clips
            ]
        return collate(clips, sample_rate=self.sample_rate, channels=channels)

    # -- one part of a batch --------------------------------------------------------------------

    def _seconds_per_pass(self) -> float:
        return self.max_seconds_per_pass or max(SECONDS_PER_PASS.get(self.device.type, 30.0), self.whole_seconds)

    def _seconds_whole(self) -> float:
        """Seconds of one clip that go through the network in one piece. Where passes are not exact they are the same
        on every device, so that codes are too."""
        if self.max_seconds_per_pass is None and self.inexact_passes and self.whole_seconds:
            return self.whole_seconds
        return self._seconds_per_pass()

    def _groups(self, lengths: Tensor, samples_each: int) -> list[slice]:
        """Rows that go through the network together, so that a pass stays within `max_seconds_per_pass`."""
        each = self.sample_rate / samples_each
        return groups_within(lengths.tolist(), self._seconds_per_pass() * each, self._seconds_whole() * each)

    def _encode_part(self, batch: Audio, num_codebooks: int) -> Codes:
        longest = batch.waveform.shape[-1]
        samples = int(self._seconds_whole() * self.sample_rate)
        if longest <= samples:
            encoded = self._encode(batch.waveform, batch.lengths, num_codebooks)
        else:
            encoded = self._encode_long(batch.waveform, batch.lengths, num_codebooks, samples)
        codes, lengths = encoded.codes, encoded.lengths.to(batch.device)
        strides = (self.strides or (1,) * len(self.codebook_sizes))[:num_codebooks]
        counts = -(-lengths[:, None] // torch.tensor(strides, device=lengths.device))
        codes = codes[..., : int(lengths.max())]
        if bool((counts < codes.shape[-1]).any()):
            valid = torch.arange(codes.shape[-1], device=codes.device) < counts[..., None]
            codes = codes.masked_fill(~valid, PAD)
        return Codes(
            codes=codes,
            lengths=lengths,
            num_samples=batch.lengths,
            sample_rate=self.sample_rate,
            codec=self.name,
            codebook_sizes=self.codebook_sizes[:num_codebooks],
            frame_rate=self.frame_rate,
            strides=strides,
            side=encoded.side,
        )

    def _decode_part(self, codes: Codes) -> Audio:
        frames = max(int(self._seconds_whole() * self.sample_rate / (self.hop_length or 1)), 1)
        dense = codes.codes if bool((codes.counts == codes.codes.shape[-1]).all()) else codes.codes.clamp(min=0)
        if dense.shape[-1] <= frames or not self.hop_length:
            decoded = self._decode(dense, codes.lengths, codes.side, codes.num_samples)
        else:
            decoded = self._decode_long(dense, codes.lengths, codes.side, codes.num_samples, frames)
        wanted = torch.where(codes.num_samples < 0, decoded.lengths, codes.num_samples)
        longest = int(wanted.max())
        if longest > int(decoded.lengths.max()) + self.sample_rate:
            raise ValueError(
                f"{self.name}: these codes are of at most {int(decoded.lengths.max())} samples, and their num_samples "
                f"says {longest}"
            )
        waveform = clean(decoded.waveform, torch.minimum(wanted, decoded.lengths), self.sample_rate).waveform
        # Some decoders end a few samples short of the last frame; those samples are zeros.
        if waveform.shape[-1] < longest:
            waveform = nn.functional.pad(waveform, (0, longest - waveform.shape[-1]))
        return Audio(waveform, wanted, self.sample_rate)

    def _encode_long(self, waveform: Tensor, lengths: Tensor, num_codebooks: int, samples: int) -> Encoded:
        """One clip longer than a pass: through streaming state where causal, else in windows with context."""
        if self.causal:
            return Stream(self, len(waveform), num_codebooks).encode_whole(waveform, lengths, samples)
        if self.encode_context is None:
            raise NotImplementedError(f"{self.name} has no finite receptive field and no _encode_long of its own")
        return encode_in_windows(self, waveform, lengths, num_codebooks, samples, self.encode_context)

    def _decode_long(
        self, codes: Tensor, lengths: Tensor, side: Mapping[str, Tensor], num_samples: Tensor, frames: int
    ) -> Decoded:
        """As `_encode_long`, for codes."""
        if self.causal:
            return Stream(self, len(codes), codes.shape[1]).decode_whole(codes, lengths, frames)
        if self.decode_context is None:
            raise NotImplementedError(f"{self.name} has no finite receptive field and no _decode_long of its own")
        return decode_in_windows(self, codes, lengths, side, num_samples, frames, self.decode_context)

    def _check_codes(self, codes: Codes | Tensor) -> Codes:
        """`codes` as `Codes` of this codec, every entry in range."""
        if isinstance(codes, Tensor):
            codes = self.wrap(codes)
        if not isinstance(codes, Codes):
            several = "; Codes.cat() joins several" if isinstance(codes, list | tuple) else ""
            raise TypeError(
                f"decode takes Codes or an integer tensor [B, K, N]; it was given {type(codes).__name__}{several}"
            )
        if not self.accepts_codes_of(codes.codec):
            raise ValueError(f"these codes were made by {codes.codec}; {self.name} cannot decode them")
        count = codes.num_codebooks
        if not 1 <= count <= len(self.codebook_sizes):
            raise ValueError(f"{self.name} has {len(self.codebook_sizes)} codebooks; these codes have {count}")
        if len(codes) == 0:
            raise ValueError(f"{self.name}: there are no codes to decode: the batch is empty")
        if codes.codes.shape[-1] == 0 or int(codes.lengths.min()) == 0:
            raise ValueError(f"{self.name}: there are no frames to decode in item {int(codes.lengths.argmin())}")
        sizes = torch.tensor(self.codebook_sizes[:count], device=codes.device)[:, None]
        # Stretch by stretch: an index of every sample of an hour, for codecs that have a code a sample, is half a GB.
        for start in range(0, codes.codes.shape[-1], PIECE):
            part = codes.codes[..., start : start + PIECE]
            own = torch.arange(start, start + part.shape[-1], device=codes.device) < codes.counts[..., None]
            wrong = ((part < 0) | (part >= sizes)) & own
            if bool(wrong.any()):
                b, k, n = (int(i) for i in wrong.nonzero()[0])
                raise ValueError(
                    f"{self.name}: code {int(part[b, k, n])} at item {b}, codebook {k}, frame {start + n} is out of "
                    f"range: that codebook has entries 0 to {int(sizes[k, 0]) - 1} "
                    f"({int(wrong.sum())} codes are out of range)"
                )
        return codes

    def accepts_codes_of(self, codec: str) -> bool:
        """Whether codes made by the variant of that name decode here: the same weights under another name."""
        from codeczoo.base.variant import variants

        other = variants().get(codec)
        return codec == self.name or (other is not None and other.root == self.variant.root)

    def wrap(self, codes: Tensor, lengths: Tensor | None = None, side: Mapping[str, Tensor] | None = None) -> Codes:
        """A bare integer tensor [B, K, N] as `Codes` of this codec; `lengths` [B] in frames, None = all are full."""
        if codes.is_floating_point() or codes.dtype == torch.bool or codes.is_complex():
            raise TypeError(f"codes must be integers; their type is {codes.dtype}")
        if codes.ndim != 3:
            raise ValueError(f"codes must be [B, K, N]; their shape is {tuple(codes.shape)}")
        batch, count, frames = codes.shape
        if not 1 <= count <= len(self.codebook_sizes):
            raise ValueError(
                f"codes must be [B, K, N] with K at most {len(self.codebook_sizes)} for {self.name}; "
                f"their shape is {tuple(codes.shape)}"
            )
        full = torch.full((batch,), frames, device=codes.device)
        return Codes(
            codes=codes,
            lengths=full if lengths is None else lengths,
            num_samples=torch.full((batch,), -1, device=codes.device),
            sample_rate=self.sample_rate,
            codec=self.name,
            codebook_sizes=self.codebook_sizes[:count],
            frame_rate=self.frame_rate,
            strides=self.strides[:count],
            side=side or {},
        )


def dense_or_none(lengths: Tensor, longest: int) -> Tensor | None:
    """None when every item is full: the blocks of `nn` then skip all work for ragged batches."""
    return None if bool((lengths == longest).all()) else lengths


__all__ = ["BaseCodec", "CodecInfo", "Decoded", "Encoded", "dense_or_none", "valid_mask"]
