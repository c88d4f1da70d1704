"""`BaseCodec`: what every codec does. Its network and the hooks on dense tensors come from the family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from codeczoo.base.audio import Audio, AudioLike, clean, stack
from codeczoo.base.codes import PAD, Codes
from codeczoo.base.device import matmul_precision
from codeczoo.base.inputs import collate, read_clips
from codeczoo.base.long_clips import decode_in_windows, decode_through_state, encode_in_windows, encode_through_state
from codeczoo.base.network import CodecNetwork, Decoded, Encoded
from codeczoo.base.ragged import groups_within
from codeczoo.base.resampling import resampled_length
from codeczoo.base.stream import Stream

Batch = TypeVar("Batch", Audio, Codes)

PIECE = 1 << 18  # frames whose codes are looked at together
# Seconds of audio that go through a network at once when nothing is said, by device.
# (CUDA: DAC's widest activation, 96 channels at 44.1 kHz, stays below 2 ** 31 values, where kernels begin to differ.)
SECONDS_PER_PASS = {"cpu": 30.0, "mps": 60.0, "cuda": 240.0}


class BaseCodec(CodecNetwork):
    """A neural (or other) audio codec: what all of them do, on top of what a family gives."""

    # -- use ------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(
        self,
        audio: AudioLike,
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
            parts = [self._encode_part(part, count) for part in self._parts(batch, batch.waveform.shape[-1], 1)]
        return parts[0] if len(parts) == 1 else Codes.cat(parts)

    @torch.no_grad()
    def decode(self, codes: Codes | Tensor) -> Audio:
        """`Codes`, or a bare integer tensor [B, K, N], → audio at `output_sample_rate`, each clip at its own
        length.

        Raises:
            NotImplementedError: the codec is a tokenizer without a decoder.
            TypeError, ValueError: not codes, codes of another codec, out of range or of the wrong shape.
        """
        self._require_decoder()
        codes = self._check_codes(codes).to(self.device)
        with matmul_precision(self.precision):
            hop = self.hop_length or 1
            parts = [self._decode_part(part) for part in self._parts(codes, codes.codes.shape[-1], hop)]
        if len(parts) == 1:
            return parts[0]
        return stack([clip for part in parts for clip in part.split()], self.output_sample_rate)

    def reconstruct(
        self,
        audio: AudioLike,
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
        return self.match_input(self.decode(self.encode(original, None, num_codebooks, bitrate)), original)

    def _require_decoder(self) -> None:
        if not self.supports_decode:
            raise NotImplementedError(self.variant.decode_unsupported_reason)

    def match_input(self, decoded: Audio, original: Audio) -> Audio:
        """`decoded` at the rate, lengths and channel count of `original`."""
        return decoded.matched_to(original)

    def forward(self, audio: AudioLike, sample_rate: int | None = None) -> Audio:
        return self.reconstruct(audio, sample_rate)

    def stream(
        self,
        batch_size: int = 1,
        num_codebooks: int | None = None,
        bitrate: float | None = None,
        cuda_graph: bool = False,
    ) -> Stream:
        """A stream of `batch_size` clips, fed chunk by chunk; equal to the whole clip. Where only the decoder is causal
        (`info.streams`), it takes codes and no audio.

        Args:
            batch_size: clips that run side by side.
            num_codebooks, bitrate: as in `encode`.
            cuda_graph: on CUDA, capture the step as a graph: the same values with a fraction of the time to start its
                kernels, for a capture at the first chunk of each length. Without effect on other devices.

        Raises:
            ValueError: the codec is not causal.
        """
        if not self.streams:
            self._require_streaming("encode")
        return Stream(self, batch_size, self.choose_codebooks(num_codebooks, bitrate), cuda_graph)

    def _require_streaming(self, side: str) -> None:
        if side not in self.streams:
            raise ValueError(
                f"{self.name} is not causal: its codes depend on later samples, so "
                f"{'only its decoder streams' if self.streams else 'it cannot stream'}; "
                "encode() handles audio of any length in bounded memory"
            )

    # -- one part of a batch --------------------------------------------------------------------

    def _seconds_per_pass(self) -> float:
        return self.max_chunk_seconds or max(SECONDS_PER_PASS.get(self.device.type, 30.0), self.min_chunk_seconds)

    def _seconds_whole(self) -> float:
        """Seconds of one clip that go through the network in one piece. Where passes are not exact they are the same
        on every device, so that codes are too."""
        if self.max_chunk_seconds is None and self.approximate_when_long and self.min_chunk_seconds:
            return self.min_chunk_seconds
        return self._seconds_per_pass()

    def _groups(self, lengths: Tensor, samples_each: int) -> list[slice]:
        """Rows that go through the network together, so that a pass stays within `max_chunk_seconds`."""
        each = self.sample_rate / samples_each
        return groups_within(lengths.tolist(), self._seconds_per_pass() * each, self._seconds_whole() * each)

    def _parts(self, batch: Batch, size: int, samples_each: int) -> Iterator[Batch]:
        """The groups of a batch, each cut to the longest of its rows. `size`: its steps, of so many samples each."""
        lengths = batch.lengths.cpu()
        groups = self._groups(lengths, samples_each)
        if len(groups) == 1 and int(lengths.max()) == size:
            yield batch  # to take all of its rows would be to ask the device for their lengths again
        else:
            yield from (batch[rows] for rows in groups)

    def _encode_part(self, batch: Audio, num_codebooks: int) -> Codes:
        longest = batch.waveform.shape[-1]
        samples = int(self._seconds_whole() * self.sample_rate)
        if longest <= samples:
            encoded = self._encode(batch.waveform, batch.lengths, num_codebooks)
        else:
            encoded = self._encode_long(batch.waveform, batch.lengths, num_codebooks, samples)
        codes, lengths = encoded.codes, encoded.lengths.to(batch.device)
        strides = (self.strides or (1,) * len(self.codebook_sizes))[:num_codebooks]
        frames = lengths.tolist()
        codes = codes[..., : max(frames)]
        if min(frames) < codes.shape[-1] or max(strides) > 1:
            counts = lengths[:, None]
            if max(strides) > 1:
                counts = -(-counts // torch.tensor(strides, device=lengths.device))
            codes = codes.masked_fill(torch.arange(codes.shape[-1], device=codes.device) >= counts[..., None], PAD)
        return Codes(
            codes=codes,
            lengths=lengths,
            num_samples=batch.lengths,
            sample_rate=self.sample_rate,
            codec=self.name,
            codebook_sizes=self.codebook_sizes[:num_codebooks],
            frame_rate=self.frame_rate,
            strides=strides,
            side_info=encoded.side_info,
        )

    def _decode_part(self, codes: Codes) -> Audio:
        frames = max(int(self._seconds_whole() * self.sample_rate / (self.hop_length or 1)), 1)
        # Behind an item's own codes stands PAD. On a CPU a copy costs more than to ask whether there is any.
        full = codes.device.type == "cpu" and bool((codes.counts == codes.codes.shape[-1]).all())
        dense = codes.codes if full else codes.codes.clamp(min=0)
        rate, num_samples = self.output_sample_rate, codes.num_samples
        if rate != self.sample_rate:
            num_samples = torch.where(num_samples < 0, -1, resampled_length(num_samples, self.sample_rate, rate))
        if dense.shape[-1] <= frames or not self.hop_length:
            decoded = self._decode(dense, codes.lengths, codes.side_info, num_samples)
        else:
            decoded = self._decode_long(dense, codes.lengths, codes.side_info, num_samples, frames)
        wanted = torch.where(num_samples < 0, decoded.lengths, num_samples)
        longest, most = torch.stack([wanted.max(), decoded.lengths.max()]).tolist()
        if longest > most + rate:
            raise ValueError(
                f"{self.name}: these codes are of at most {most} samples, and their num_samples says {longest}"
            )
        waveform = clean(decoded.waveform, torch.minimum(wanted, decoded.lengths), rate).waveform
        # Some decoders end a few samples short of the last frame; those samples are zeros.
        if waveform.shape[-1] < longest:
            waveform = nn.functional.pad(waveform, (0, longest - waveform.shape[-1]))
        return Audio(waveform, wanted, rate)

    def _encode_long(self, waveform: Tensor, lengths: Tensor, num_codebooks: int, samples: int) -> Encoded:
        """One clip longer than a pass: through streaming state where causal, else in windows with context."""
        if "encode" in self.streams:
            return encode_through_state(self, waveform, lengths, num_codebooks, samples)
        if self.encode_context is None:
            raise NotImplementedError(f"{self.name} has no finite receptive field and no _encode_long of its own")
        return encode_in_windows(self, waveform, lengths, num_codebooks, samples, self.encode_context)

    def _decode_long(
        self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor, frames: int
    ) -> Decoded:
        """As `_encode_long`, for codes."""
        if "decode" in self.streams:
            return decode_through_state(self, codes, lengths, frames)
        if self.decode_context is None:
            raise NotImplementedError(f"{self.name} has no finite receptive field and no _decode_long of its own")
        return decode_in_windows(self, codes, lengths, side_info, num_samples, frames, self.decode_context)

    def _check_codes(self, codes: Codes | Tensor) -> Codes:
        """`codes` as `Codes` of this codec, every entry in range."""
        if isinstance(codes, Tensor):
            codes = self.codes_from_tensor(codes)
        if not isinstance(codes, Codes):
            several = "; Codes.cat() joins several" if isinstance(codes, list | tuple) else ""
            raise TypeError(
                f"decode takes Codes or an integer tensor [B, K, N]; it was given {type(codes).__name__}{several}"
            )
        if not self.is_compatible_with(codes.codec):
            raise ValueError(f"these codes were made by {codes.codec}; {self.name} cannot decode them")
        count = codes.num_codebooks
        if not 1 <= count <= len(self.codebook_sizes):
            raise ValueError(f"{self.name} has {len(self.codebook_sizes)} codebooks; these codes have {count}")
        if len(codes) == 0:
            raise ValueError(f"{self.name}: there are no codes to decode: the batch is empty")
        if codes.codes.shape[-1] == 0 or int(codes.lengths.min()) == 0:
            raise ValueError(f"{self.name}: there are no frames to decode in item {int(codes.lengths.argmin())}")
        sizes: Any = self.codebook_sizes[0]
        if set(self.codebook_sizes[:count]) != {sizes}:
            sizes = torch.tensor(self.codebook_sizes[:count], device=codes.device)[:, None]
        first, count_wrong = None, 0
        # Stretch by stretch: an index of every sample of an hour, for codecs that have a code a sample, is half a GB.
        for start in range(0, codes.codes.shape[-1], PIECE):
            part = codes.codes[..., start : start + PIECE]
            own = torch.arange(start, start + part.shape[-1], device=codes.device) < codes.counts[..., None]
            wrong = ((part < 0) | (part >= sizes)) & own
            if bool(wrong.any()):
                count_wrong += int(wrong.sum())
                if first is None:
                    b, k, n = (int(i) for i in wrong.nonzero()[0])
                    first = b, k, start + n
        if first is not None:
            b, k, n = first
            raise ValueError(
                f"{self.name}: code {int(codes.codes[b, k, n])} at item {b}, codebook {k}, frame {n} is out of range: "
                f"that codebook has entries 0 to {self.codebook_sizes[k] - 1} ({count_wrong} codes are out of range)"
            )
        return codes

    def is_compatible_with(self, codec: str) -> bool:
        """Whether codes made by the codec of that name decode here: this one, or another name of the same weights."""
        return codec in self.variant.same_weights

    def codes_from_tensor(
        self, codes: Tensor, lengths: Tensor | None = None, side_info: Mapping[str, Tensor] | None = None
    ) -> Codes:
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
            side_info=side_info or {},
        )
