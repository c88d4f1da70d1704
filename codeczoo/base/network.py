"""`CodecNetwork`: what a family of codecs defines: the facts of its network, and hooks on dense tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from torch import Tensor

from codeczoo.base.deprecated import Renamed
from codeczoo.base.device import arithmetic_of, matmul_precision
from codeczoo.base.info import CodecInfo
from codeczoo.base.model import Model

if TYPE_CHECKING:
    from codeczoo.base.cuda_graph import State
    from codeczoo.base.graphs import Graphs
    from codeczoo.base.variant import Variant


class Context(NamedTuple):
    """How far a network sees to each side of one output: samples for an encoder, frames for a decoder."""

    left: int
    right: int


class Frames(NamedTuple):
    """What `_latents` and `_vectors` return, and `_quantize` and `_synthesize` take. Values behind an item's length are
    unspecified."""

    values: Tensor  # [B, D, N]
    lengths: Tensor  # [B] frames
    side_info: Mapping[str, Tensor] = {}  # [B, ...] each


# Frames `first` to `last` of one clip, [1, D, last - first], in memory of their own: where a long clip is decoded, they
# are made when they are asked for.
FrameSource = Callable[[int, int], Frames]


def values_in_chunks(source: FrameSource, total: int, frames: int) -> Iterator[Tensor]:
    """The values of a source, `frames` at a time."""
    for start in range(0, total, frames):
        yield source(start, min(start + frames, total)).values


class Encoded(NamedTuple):
    """What `_quantize` and `_encode` return. Values behind an item's length are unspecified."""

    codes: Tensor  # [B, K, N] int64
    lengths: Tensor  # [B] frames
    side_info: Mapping[str, Tensor] = {}  # [B, ...] each


class Decoded(NamedTuple):
    """What `_synthesize` and `_decode` return. Values behind an item's length are unspecified."""

    waveform: Tensor  # [B, C, T]
    lengths: Tensor  # [B] samples


class CodecNetwork(Model):
    """What a family defines.

    A family sets the class attributes below, sets the instance attributes in `__init__`, and implements `_latents` and
    `_synthesize`, between which stands `self.quantizer` (`nn.quantizer.Quantizer`); where that is not enough,
    `_quantize` and `_vectors` too. The hooks take dense tensors with lengths, on the device, at the codec's rate. They
    know nothing of files, other rates or lists. A causal family also implements `_stream_latents_*` and
    `_stream_synthesize_*`, one whose decoder alone is causal the latter (see `base.stream`).

    A codec without latents implements `_encode` and `_decode` (and `_stream_encode_*`, `_stream_decode_*`) in their
    place.
    """

    supports_decode: ClassVar[bool] = True
    decode_unsupported_reason: ClassVar[str] = ""  # completes "NAME cannot decode: "
    # completes "NAME has no latents: "
    latents_unsupported_reason: ClassVar[str] = "its class defines no _latents and _synthesize"
    onnx_unsupported: ClassVar[Mapping[str, str]] = {}  # "encoder", "decoder" → why it cannot be written as ONNX
    onnx_leaves_out: ClassVar[str] = ""  # completes "NAME: ONNX leaves out "

    hop_length: int | None  # samples a frame; None where frames have no fixed duration
    codebook_sizes: tuple[int, ...]
    strides: tuple[int, ...] = ()  # frames a code, by codebook; () = all ones
    codebook_choices: tuple[int, ...]  # the numbers of codebooks that `encode` takes
    side_sizes: Mapping[str, int] = {}  # entries of the codebooks that side values index, by their names
    quantizer: Any  # between latents and codes; `_quantizers` where the sides have one each
    latent_dim: int = 0  # values a frame of what is quantised; 0 where there are no latents
    vector_dim: int = 0  # values a frame of what the decoder takes
    causal: bool = False
    causal_decoder: bool = False  # where the encoder looks ahead, whether the decoder does not
    latency: float | None = None  # seconds from a sample to the code that holds it, without computing time
    encode_context: Context | None = None  # receptive field of the encoder in samples; None = not finite
    decode_context: Context | None = None  # of the decoder, in frames
    # Directions ("encode", "decode") in which chunking a long clip changes the result.
    approximate_when_long: tuple[str, ...] = ()
    # Codecs that are not exact in chunks, or faster in longer ones: shortest chunk, in seconds, unless the caller sets
    # a smaller limit.
    min_chunk_seconds: float = 0.0

    graphs: Graphs | None = None  # of the hooks, as CUDA graphs; None = the hooks run as they are

    max_seconds_per_pass = Renamed("max_chunk_seconds")

    def __init__(self, config: Any, variant: Variant) -> None:
        super().__init__(config, variant)
        self.max_chunk_seconds: float | None = None
        self.default_codebooks: int | None = variant.num_codebooks

    # -- hooks ----------------------------------------------------------------------------------

    def _latents(self, waveform: Tensor, lengths: Tensor) -> Frames:
        """[B, C, T] at the codec's rate, zeros behind each item's length → what is quantised."""
        raise NotImplementedError

    def _quantize(self, frames: Frames, num_codebooks: int) -> Encoded:
        """What is quantised → codes."""
        return Encoded(self._quantizers()[0].quantize(frames.values, num_codebooks), frames.lengths, frames.side_info)

    def _vectors(self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor]) -> Frames:
        """[B, K, N], zeros behind each item's length → what the decoder takes."""
        return Frames(self._quantizers()[1].vectors(codes), lengths, side_info)

    def _synthesize(self, frames: Frames, num_samples: Tensor) -> Decoded:
        """What the decoder takes → waveform. `num_samples` [B], of decoded audio, is -1 where it is not known; most
        families ignore it."""
        raise NotImplementedError

    def _straight_through(self, frames: Frames, num_codebooks: int) -> Frames:
        """The values of `_vectors` of `_quantize`, with a gradient for `frames`."""
        values = self._quantizers()[0].straight_through(frames.values, num_codebooks)
        return Frames(values, frames.lengths, frames.side_info)

    def _codebooks(self) -> list[Tensor]:
        """See `codebooks`."""
        tables: list[Tensor] = self._quantizers()[1].tables()
        return tables

    def _quantizers(self) -> tuple[Any, Any]:
        """Those of the encoder and of the decoder."""
        return self.quantizer, self.quantizer

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        return self._quantize(self._frames_in_own_type(self._latents(waveform, lengths)), num_codebooks)

    def _decode(self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor) -> Decoded:
        return self._synthesize(self._frames_in_own_type(self._vectors(codes, lengths, side_info)), num_samples)

    def _graph_settings(self) -> Hashable:
        """What else than the arguments of the hooks changes what they give: settings of a user's."""
        return ()

    def _frames_in_own_type(self, frames: Frames) -> Frames:
        """Between two networks values have the codec's type, as `latents` and `vectors` give them."""
        return frames._replace(values=self._in_own_type(frames.values))

    @property
    def _has_latents(self) -> bool:
        """Whether the family defines what lies before its quantiser."""
        return type(self)._latents is not CodecNetwork._latents

    @property
    def _has_vectors(self) -> bool:
        """Whether the family defines what its decoder takes."""
        return type(self)._synthesize is not CodecNetwork._synthesize

    # -- arithmetic -----------------------------------------------------------------------------

    @property
    def arithmetic(self) -> str:
        """What `precision` means on this device: "float32", "tf32" or "bfloat16", and what stays in float32."""
        kind = arithmetic_of(self.precision, self.device.type)
        if kind != "bfloat16" or self.precision == "fastest":
            return kind
        parts = self.variant.float32_parts
        return f"{kind}; float32 in {'all that leads to codes' if parts is None else ', '.join(parts) or 'nothing'}"

    def _arithmetic(self, encoding: bool) -> AbstractContextManager[None]:
        """The arithmetic of what leads to codes, or of what follows them."""
        careful = encoding and self.precision == "fast" and self.variant.float32_parts is None
        return matmul_precision(self.precision, "" if careful else self.device.type)

    # -- hooks of streams -----------------------------------------------------------------------

    def _stream_encode_start(self, batch_size: int) -> State:
        return ()  # a side that does not stream has no state

    def _stream_latents_warmup(self, waveform: Tensor, state: State) -> tuple[Tensor, Tensor | None, State]:
        raise NotImplementedError

    def _stream_latents_flush(self, rest: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError

    def _stream_encode_is_warm(self, state: State) -> bool:
        return True

    def _stream_latents_step(self, waveform: Tensor, state: State) -> tuple[Tensor, State]:
        values, _, state = self._stream_latents_warmup(waveform, state)
        return values, state

    def _stream_encode_warmup(
        self, waveform: Tensor, state: State, num_codebooks: int
    ) -> tuple[Tensor, Tensor | None, State]:
        values, counts, state = self._stream_latents_warmup(waveform, state)
        return self._quantizers()[0].quantize(self._in_own_type(values), num_codebooks), counts, state

    def _stream_encode_step(self, waveform: Tensor, state: State, num_codebooks: int) -> tuple[Tensor, State]:
        if not self._has_latents:
            codes, _, state = self._stream_encode_warmup(waveform, state, num_codebooks)
            return codes, state
        values, state = self._stream_latents_step(waveform, state)
        return self._quantizers()[0].quantize(self._in_own_type(values), num_codebooks), state

    def _stream_encode_flush(
        self, rest: Tensor, lengths: Tensor, state: State, num_codebooks: int
    ) -> tuple[Tensor, Tensor | None]:
        values, counts = self._stream_latents_flush(rest, lengths, state)
        if values.shape[-1] == 0:  # not every quantiser takes no frames
            return lengths.new_zeros(len(values), num_codebooks, 0), counts
        return self._quantizers()[0].quantize(self._in_own_type(values), num_codebooks), counts

    def _stream_decode_start(self, batch_size: int) -> State:
        raise NotImplementedError

    def _stream_synthesize_warmup(self, vectors: Tensor, state: State) -> tuple[Tensor, Tensor | None, State]:
        raise NotImplementedError

    def _stream_synthesize_step(self, vectors: Tensor, state: State) -> tuple[Tensor, State]:
        waveform, _, state = self._stream_synthesize_warmup(vectors, state)
        return waveform, state

    def _stream_decode_warmup(self, codes: Tensor, state: State) -> tuple[Tensor, Tensor | None, State]:
        return self._stream_synthesize_warmup(self._in_own_type(self._quantizers()[1].vectors(codes)), state)

    def _stream_decode_is_warm(self, state: State) -> bool:
        return True

    def _stream_decode_step(self, codes: Tensor, state: State) -> tuple[Tensor, State]:
        if not self._has_vectors:
            waveform, _, state = self._stream_decode_warmup(codes, state)
            return waveform, state
        return self._stream_synthesize_step(self._in_own_type(self._quantizers()[1].vectors(codes)), state)

    def _stream_decode_flush(self, state: State) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError

    # -- facts ----------------------------------------------------------------------------------

    def _require_streaming(self, side: str) -> None:
        """Raise a ValueError if `side`, "encode" or "decode", cannot stream."""
        if side not in self.streams:
            raise ValueError(
                f"{self.name} is not causal: its codes depend on later samples, so "
                f"{'only its decoder streams' if self.streams else 'it cannot stream'}; "
                "encode() handles audio of any length in bounded memory"
            )

    @property
    def output_sample_rate(self) -> int:
        """Of decoded audio, in Hz: a family says so here if its decoder gives another rate than its encoder takes."""
        return self.sample_rate

    @property
    def output_hop_length(self) -> int | None:
        """Samples of decoded audio a frame."""
        return self.hop_length and self.hop_length * self.output_sample_rate // self.sample_rate

    @property
    def streams(self) -> tuple[str, ...]:
        """Of "encode" and "decode", what goes chunk by chunk."""
        return ("encode", "decode") if self.causal else ("decode",) if self.causal_decoder else ()

    @property
    def frame_rate(self) -> float | None:
        """Frames a second."""
        return self.sample_rate / self.hop_length if self.hop_length else None

    @property
    def num_codebooks(self) -> int:
        """Codebooks that `encode` uses by default."""
        return self.default_codebooks or self.codebook_choices[-1]

    def bitrate_of(self, num_codebooks: int) -> float | None:
        """Nominal bit/s of the first `num_codebooks` codebooks; None where frames have no fixed duration."""
        if self.frame_rate is None:
            return None
        strides = self.strides or (1,) * len(self.codebook_sizes)
        pairs = list(zip(self.codebook_sizes, strides, strict=True))[:num_codebooks]
        return self.frame_rate * sum(math.log2(size) / stride for size, stride in pairs)

    @property
    def info(self) -> CodecInfo:
        """All that is known of the codec; it prints as a table."""
        rates = [self.bitrate_of(k) for k in self.codebook_choices]
        parameters = sum(p.numel() for p in self.parameters())
        info = CodecInfo.of(
            self.variant,
            {
                "sample_rate": self.sample_rate,
                "output_sample_rate": self.output_sample_rate,
                "channels": self.channels,
                "frame_rate": self.frame_rate,
                "hop_length": self.hop_length,
                "num_codebooks": self.num_codebooks,
                "max_codebooks": len(self.codebook_sizes),
                "codebook_sizes": self.codebook_sizes,
                "bitrate": self.nominal_bitrate,
                "bitrates": tuple(rate for rate in rates if rate is not None),
                "causal": self.causal,
                "streams": self.streams,
                "latency": self.latency,
                "parameters": parameters,
                "supports_decode": self.supports_decode,
            },
        )
        on_meta = self.device.type == "meta"  # built for its facts alone
        return replace(info, arithmetic=None if on_meta or not parameters else self.arithmetic)

    @property
    def nominal_bitrate(self) -> float | None:
        """Bit/s at the default number of codebooks."""
        return self.bitrate_of(self.num_codebooks)

    @property
    def weights_id(self) -> str | None:
        """What `Codes.weights` says of codes made here: `weights_hash`, or "random, seed 0"; None where not known."""
        return self.weights_hash or self.weights_source  # only seeded noise has a source and no hash

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        """As `nn.Module.load_state_dict`. Where the weights came from is then not known, and they have no hash."""
        self.weights_source = self.weights_hash = None
        self._drop_graphs()
        return super().load_state_dict(state_dict, *args, **options)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._drop_graphs()  # a graph reads the weights where they were
        return super()._apply(fn, recurse)

    def _drop_graphs(self) -> None:
        if self.graphs is not None:
            self.graphs.clear()

    def __repr__(self) -> str:
        rate = f"{self.nominal_bitrate / 1000:g} kbit/s, " if self.nominal_bitrate else ""
        return f"{type(self).__name__}({self.name!r}: {self.sample_rate} Hz, {rate}{self.device}, {self.dtype})"

    def choose_codebooks(self, num_codebooks: int | None = None, bitrate: float | None = None) -> int:
        """The number of codebooks that `num_codebooks` or `bitrate` (bit/s) asks for; the default for neither.

        Raises:
            ValueError: both are given, or the codec lacks that rate; the message lists its rates.
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
                f"{self.name} has {f'the bitrates {rates} bit/s' if rates else 'no fixed bitrate'}; "
                f"bitrate={bitrate!r} was asked for"
            )
        return self.num_codebooks


def contexts_of(seconds: float, sample_rate: int, hop_length: int) -> tuple[Context, Context]:
    """The contexts of an encoder and of a decoder that see `seconds` to each side, rounded to whole frames."""
    frames = round(seconds * sample_rate / hop_length)
    return Context(frames * hop_length, frames * hop_length), Context(frames, frames)
