"""`CodecBatches`: batches of any size and clips of any length through the hooks of a codec's network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import cached_property, partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from codeczoo.base.audio import Audio, clean, stack
from codeczoo.base.codes import PAD, Codes
from codeczoo.base.exporting import exporting
from codeczoo.base.latents import Latents
from codeczoo.base.long_clips import (
    decode_in_chunks,
    decode_through_state,
    frames_in_chunks,
    frames_through_state,
    join_codes,
)
from codeczoo.base.network import CodecNetwork, Decoded, Encoded, Frames, FrameSource
from codeczoo.base.ragged import groups_within
from codeczoo.base.resampling import resampled_length
from codeczoo.base.side_by_side import can_run_beside, run_beside
from codeczoo.base.strategy import Strategy, by_rule, fitted, the_fixed_one, tiles_of
from codeczoo.base.tuning import tuned_strategy

Result = TypeVar("Result")
Batch = TypeVar("Batch", Audio, Codes, Latents)

# Seconds of audio that go through a network at once, all groups together, unless `max_chunk_seconds` is set, by device.
# (CUDA: DAC's widest activation, 96 channels at 44.1 kHz, stays below 2 ** 31 values, where kernels begin to differ.)
CHUNK_SECONDS = {"cpu": 30.0, "mps": 60.0, "cuda": 240.0}

# The codecs, by id(), that this thread has asked for gradients.
WITH_GRADIENTS: ContextVar[frozenset[int]] = ContextVar("codecs with gradients", default=frozenset())


class CodecBatches(CodecNetwork):
    """A codec's network, fed with batches of any size and with clips of any length."""

    # -- sizes ----------------------------------------------------------------------------------

    def _chunk_seconds(self) -> float:
        """Seconds of audio that go through the network at once."""
        return self.max_chunk_seconds or max(CHUNK_SECONDS.get(self.device.type, 30.0), self.min_chunk_seconds)

    def _whole_clip_seconds(self) -> float:
        """The longest clip, in seconds, that goes through the network whole. Codecs that are approximate in chunks use
        the same limit on every device, so that their codes do not depend on it."""
        if self.max_chunk_seconds is None and self.approximate_when_long and self.min_chunk_seconds:
            return self.min_chunk_seconds
        return self._chunk_seconds()

    def _frames_at_once(self) -> int:
        """As `_whole_clip_seconds`, in frames."""
        return max(int(self._whole_clip_seconds() * self.sample_rate / (self.hop_length or 1)), 1)

    def strategy(self, batch_size: int = 1, seconds: float = 1.0, operation: str = "encode") -> Strategy:
        """How a batch would go through the network with the present number of threads (`torch.set_num_threads`): how
        much at once, and how many groups of clips side by side. It changes time and memory, not codes.

        Args:
            batch_size: clips. seconds: of the longest. operation: "encode" or "decode".

        Example:
            print(codec.strategy(batch_size=32))  # groups of 8 s, 2 side by side on 1 thread each (rule)
        """
        if operation not in ("encode", "decode"):
            raise ValueError(f"operation must be 'encode' or 'decode'; it is {operation!r}")
        if batch_size < 1 or not seconds > 0:
            raise ValueError(f"a batch has clips of some seconds; {batch_size} of {seconds} s were asked for")
        return self._strategy(batch_size, seconds, operation == "encode", recorded=False)

    def _strategy(self, rows: int, longest: float, encoding: bool, recorded: bool) -> Strategy:
        """`recorded`: gradients may be wanted. `longest`: in seconds."""
        most = self._chunk_seconds()
        if self._anchor_alone:
            return Strategy(most)
        threads = 1
        if self.device.type == "cpu" and not recorded and not exporting() and can_run_beside():
            threads = torch.get_num_threads()
        chosen = the_fixed_one() or tuned_strategy(
            self.variant.root or self.name, self.device, self.dtype, self.precision, encoding, rows, longest
        )
        if chosen is None:
            chosen = by_rule(rows, longest, most, threads, self._recurrent)
        if threads == 1 and chosen.threads is not None:
            chosen = Strategy(most, tiles=chosen.tiles, source=chosen.source)
        return fitted(chosen, rows, longest, most, threads)

    @cached_property
    def _recurrent(self) -> bool:
        return any(isinstance(module, nn.RNNBase) for module in self.modules())

    @cached_property
    def _anchor_alone(self) -> bool:
        """Whether there is no network: a library codes the clips, or a rule without weights."""
        return next(self.parameters(), None) is None

    def _groups(self, lengths: Tensor, samples_each: int, encoding: bool = True) -> list[slice]:
        """Rows that go through the network together, `_chunk_seconds` at most with padding. `samples_each`: samples
        in one step of `lengths`."""
        return self._plan(lengths, samples_each, encoding)[0]

    def _steps_inside(self, lengths: Tensor, samples_each: int) -> Tensor:
        """Steps that clips of `lengths` have in the network: a family that fills them up says so here."""
        return lengths

    def _plan(self, lengths: Tensor, samples_each: int, encoding: bool) -> tuple[list[slice], Strategy]:
        """The groups of `_groups`, and how they run."""
        each, steps = self.sample_rate / samples_each, self._steps_inside(lengths, samples_each).tolist()
        strategy = self._strategy(len(steps), max(steps) / each, encoding, self._recorded())
        limit = strategy.seconds * each * (1 + 1e-9)  # as many clips as it was made for, whatever was rounded
        return groups_within(steps, limit, self._whole_clip_seconds() * each), strategy

    def _by_groups(
        self,
        run: Callable[[Batch], Result],
        batch: Batch,
        size: int,
        samples_each: int,
        encoding: bool,
        lengths: Tensor | None = None,
    ) -> list[Result]:
        """What `run` gives for each group of rows, each cut to its longest row; side by side where that is faster.

        Args:
            size: steps of the whole batch. lengths: the steps by which the rows are grouped, if they are not the
                batch's own.
        """
        own = batch.lengths.cpu()
        groups, strategy = self._plan(own if lengths is None else lengths.cpu(), samples_each, encoding)
        with tiles_of(strategy):
            if strategy.threads is not None and (len(groups) > 1 or strategy.threads < torch.get_num_threads()):
                count = min(strategy.beside, len(groups))
                return run_beside(lambda rows: run(batch[rows]), groups, count, strategy.threads)
            if len(groups) == 1 and int(own.max()) == size:
                return [run(batch)]  # to index all rows would read their lengths from the device again
            return [run(batch[rows]) for rows in groups]

    def _joined(self, decoded: Sequence[Audio]) -> Audio:
        """What the groups of `_by_groups` decode to, as one batch."""
        if len(decoded) == 1:
            return decoded[0]
        return stack([clip for audio in decoded for clip in audio.split()], self.output_sample_rate)

    def _gradients(self) -> torch.set_grad_enabled:
        """Whether PyTorch records what follows: inside `codec.gradients()`, unless the caller has switched that off."""
        return torch.set_grad_enabled(self._recorded())

    def _recorded(self) -> bool:
        return torch.is_grad_enabled() and id(self) in WITH_GRADIENTS.get()

    # -- audio → codes --------------------------------------------------------------------------

    def _encode_batch(self, batch: Audio, num_codebooks: int) -> Codes:
        samples = int(self._whole_clip_seconds() * self.sample_rate)
        if batch.waveform.shape[-1] <= samples:
            encode = self._encode if self.graphs is None else partial(self.graphs.encode, self)
            encoded = encode(batch.waveform, batch.lengths, num_codebooks)
        else:
            encoded = self._encode_long(batch.waveform, batch.lengths, num_codebooks, samples)
        return self._as_codes(encoded, batch.lengths, num_codebooks)

    def _encode_long(self, waveform: Tensor, lengths: Tensor, num_codebooks: int, samples: int) -> Encoded:
        """One clip of more than `samples`, in chunks: through streaming state where causal, else with context."""
        if self._has_latents:
            found = [self._quantize(frames, num_codebooks) for frames in self._latents_long(waveform, lengths, samples)]
            codes = join_codes([one.codes for one in found], self._strides(num_codebooks))
            frame_count = torch.stack([one.lengths for one in found]).sum(0)
            return Encoded(codes, frame_count, {name: x for one in found for name, x in one.side_info.items()})
        if "encode" in self.streams:
            chunks = frames_through_state(
                self,
                waveform,
                lengths,
                samples,
                lambda x, state: self._stream_encode_warmup(x, state, num_codebooks),
                lambda x, own, state: self._stream_encode_flush(x, own, state, num_codebooks),
            )
        elif self.encode_context is not None:
            run = lambda x, own: self._encode(x, own, num_codebooks).codes  # noqa: E731
            chunks = frames_in_chunks(self, waveform, lengths, samples, self.encode_context, run)
        else:
            raise NotImplementedError(
                f"{self.name} has no finite receptive field: it must define encode_context or _encode_long"
            )
        codes = torch.cat(list(chunks), dim=-1)
        return Encoded(codes, lengths.new_tensor([codes.shape[-1]]))

    def _strides(self, num_codebooks: int) -> tuple[int, ...]:
        return (self.strides or (1,) * len(self.codebook_sizes))[:num_codebooks]

    def _as_codes(self, encoded: Encoded, num_samples: Tensor, num_codebooks: int) -> Codes:
        """What a hook found, with PAD behind each item."""
        codes, lengths = encoded.codes, encoded.lengths.to(num_samples.device)
        strides = self._strides(num_codebooks)
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
            num_samples=num_samples,
            sample_rate=self.sample_rate,
            codec=self.name,
            codebook_sizes=self.codebook_sizes[:num_codebooks],
            frame_rate=self.frame_rate,
            strides=strides,
            side_info=encoded.side_info,
            side_sizes=self.side_sizes,
            weights=self.weights_id,
        )

    # -- audio → latents → codes ----------------------------------------------------------------

    def _latents_batch(self, batch: Audio) -> Latents:
        samples, waveform = int(self._whole_clip_seconds() * self.sample_rate), batch.waveform
        if waveform.requires_grad:
            waveform = waveform.clone()  # the network writes zeros behind each item
        if waveform.shape[-1] <= samples:
            frames = self._latents(waveform, batch.lengths)
        else:
            chunks = list(self._latents_long(waveform, batch.lengths, samples))
            values = torch.cat([chunk.values for chunk in chunks], dim=-1)
            side_info = {name: value for chunk in chunks for name, value in chunk.side_info.items()}
            frames = Frames(values, torch.stack([chunk.lengths for chunk in chunks]).sum(0), side_info)
        return self._as_latents(frames, batch.lengths, self.weights_id)

    def _latents_long(self, waveform: Tensor, lengths: Tensor, samples: int) -> Iterator[Frames]:
        """One clip of more than `samples`, in consecutive chunks (whole strides of the codebooks each): through
        streaming state where causal, else with context. Side values stand in any one of them."""
        if "encode" in self.streams:
            warmup, flush = self._stream_latents_warmup, self._stream_latents_flush
            chunks = frames_through_state(self, waveform, lengths, samples, warmup, flush)
        elif self.encode_context is not None:
            run = lambda x, own: self._latents(x, own).values  # noqa: E731
            chunks = frames_in_chunks(self, waveform, lengths, samples, self.encode_context, run)
        else:
            raise NotImplementedError(
                f"{self.name} has no finite receptive field: it must define encode_context or _latents_long"
            )
        for values in chunks:
            if values.shape[-1]:  # a stream may hold back all of a chunk
                yield Frames(values, lengths.new_tensor([values.shape[-1]]))

    def _as_latents(self, frames: Frames, num_samples: Tensor, weights: str | None) -> Latents:
        """What a hook found, with zeros behind each item."""
        lengths = frames.lengths.to(num_samples.device)
        counts = lengths.tolist()
        values = self._in_own_type(frames.values[..., : max(counts)])
        if min(counts) < values.shape[-1]:
            behind = torch.arange(values.shape[-1], device=values.device) >= lengths[:, None, None]
            values = values.clone().masked_fill_(behind, 0)  # laid out in memory as before: sums depend on it
        return Latents(
            values=values,
            lengths=lengths,
            num_samples=num_samples,
            sample_rate=self.sample_rate,
            codec=self.name,
            frame_rate=self.frame_rate,
            side_info=frames.side_info,
            weights=weights,
        )

    def _quantize_batch(self, latents: Latents, num_codebooks: int) -> Codes:
        frames, at_once = Frames(latents.values, latents.lengths, latents.side_info), self._frames_at_once()
        if latents.values.shape[-1] <= at_once:
            encoded = self._quantize(frames, num_codebooks)
        else:
            encoded = self._quantize_long(frames, num_codebooks, at_once)
        return self._as_codes(encoded, latents.num_samples, num_codebooks)

    def _quantize_long(self, frames: Frames, num_codebooks: int, at_once: int) -> Encoded:
        """The latents of one clip, about `at_once` frames at a time."""
        coarsest = max(self._strides(len(self.codebook_sizes)))
        blocks = frames.values.split(-(-at_once // coarsest) * coarsest, dim=-1)
        found = [
            self._quantize(Frames(block, frames.lengths.new_tensor([block.shape[-1]]), frames.side_info), num_codebooks)
            for block in blocks
        ]
        codes = join_codes([one.codes for one in found], self._strides(num_codebooks))
        return Encoded(codes, frames.lengths, found[0].side_info)

    # -- codes → audio --------------------------------------------------------------------------

    def _dense(self, codes: Codes) -> Tensor:
        """Networks take no PAD. On a CPU, to ask whether there is any takes less time than the copy that replaces
        it."""
        full = codes.device.type == "cpu" and bool((codes.counts == codes.codes.shape[-1]).all())
        return codes.codes if full else codes.codes.clamp(min=0)

    def _decoded_samples(self, num_samples: Tensor) -> Tensor:
        """`num_samples` [B] at the rate of the decoder."""
        rate = self.output_sample_rate
        if rate == self.sample_rate:
            return num_samples
        return torch.where(num_samples < 0, -1, resampled_length(num_samples, self.sample_rate, rate))

    def _decode_batch(self, codes: Codes) -> Audio:
        dense, num_samples = self._dense(codes), self._decoded_samples(codes.num_samples)
        if dense.shape[-1] <= self._frames_at_once() or not self.hop_length:
            decode = self._decode if self.graphs is None else partial(self.graphs.decode, self)
            decoded = decode(dense, codes.lengths, codes.side_info, num_samples)
        else:
            frames = self._frames_at_once()
            decoded = self._decode_long(dense, codes.lengths, codes.side_info, num_samples, frames)
        return self._as_audio(decoded, num_samples, "codes")

    def _decode_long(
        self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor, frames: int
    ) -> Decoded:
        """As `_encode_long`, for the codes of one clip of more than `frames`."""
        if self._has_vectors:

            def source(first: int, last: int) -> Frames:
                return self._vectors(codes[..., first:last], lengths.new_tensor([last - first]), side_info)

            return self._synthesize_long(source, lengths, num_samples, frames)
        if "decode" in self.streams:
            step = lambda first, last, state: self._stream_decode_warmup(codes[..., first:last], state)  # noqa: E731
            return decode_through_state(self, lengths, frames, step)
        if self.decode_context is None:
            raise NotImplementedError(
                f"{self.name} has no finite receptive field: it must define decode_context or _decode_long"
            )

        def run(first: int, last: int) -> Decoded:
            return self._decode(codes[..., first:last], lengths.new_tensor([last - first]), side_info, num_samples)

        return decode_in_chunks(self, int(lengths[0]), num_samples, frames, self.decode_context, run)

    def _synthesize_batch(self, latents: Latents) -> Audio:
        num_samples, at_once = self._decoded_samples(latents.num_samples), self._frames_at_once()
        values = latents.values
        if values.shape[-1] <= at_once:
            frames = Frames(values.clone(), latents.lengths, latents.side_info)  # the network may write into it
            decoded = self._synthesize(frames, num_samples)
        else:

            def source(first: int, last: int) -> Frames:
                own = latents.lengths.new_tensor([last - first])
                return Frames(values[..., first:last].clone(), own, latents.side_info)

            decoded = self._synthesize_long(source, latents.lengths, num_samples, at_once)
        return self._as_audio(decoded, num_samples, "latents")

    def _synthesize_long(self, source: FrameSource, lengths: Tensor, num_samples: Tensor, frames: int) -> Decoded:
        """One clip of more than `frames`, from what its decoder takes, in chunks: through streaming state where causal,
        else with context."""
        if "decode" in self.streams:
            return decode_through_state(
                self,
                lengths,
                frames,
                lambda first, last, state: self._stream_synthesize_warmup(source(first, last).values, state),
            )
        if self.decode_context is None:
            raise NotImplementedError(
                f"{self.name} has no finite receptive field: it must define decode_context or _synthesize_long"
            )
        run = lambda first, last: self._synthesize(source(first, last), num_samples)  # noqa: E731
        return decode_in_chunks(self, int(lengths[0]), num_samples, frames, self.decode_context, run)

    def _as_audio(self, decoded: Decoded, num_samples: Tensor, what: str) -> Audio:
        """What a hook decoded, each item cut to its own samples."""
        rate = self.output_sample_rate
        wanted = torch.where(num_samples < 0, decoded.lengths, num_samples)
        longest, most = torch.stack([wanted.max(), decoded.lengths.max()]).tolist()
        if longest > most + rate:
            raise ValueError(
                f"{self.name}: these {what} decode to at most {most} samples, and their num_samples says {longest}"
            )
        waveform = clean(self._in_own_type(decoded.waveform), torch.minimum(wanted, decoded.lengths), rate).waveform
        # Some decoders end a few samples short of the last frame; those samples are zeros.
        if waveform.shape[-1] < longest:
            waveform = nn.functional.pad(waveform, (0, longest - waveform.shape[-1]))
        return Audio(waveform, wanted, rate)
