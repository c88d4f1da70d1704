"""`Stream`: a clip chunk by chunk, equal to the whole clip. Each item of the batch can be paused and restarted.

State is explicit: a tree of tensors whose first axis is the batch. So pausing an item is a `torch.where` with the state
before the step, restarting one is a `torch.where` with the initial state, and saving is a copy. A causal family has:

    _stream_encode_start(batch_size)                  -> state
    _stream_latents_warmup(waveform, state)           -> latents [B, D, n], counts, state     (waveform [B, C, m * hop])
    _stream_latents_flush(rest, lengths, state)       -> latents, counts                      (rest [B, C, R], R < hop)
    _stream_decode_start(batch_size)                  -> state
    _stream_synthesize_warmup(vectors, state)         -> waveform [B, C, m], counts, state    (vectors [B, D, n])
    _stream_decode_flush(state)                       -> waveform, counts

`counts` [B] is the number of valid frames (samples) of each item, at the left; None = all are valid. A network with
reflection padding delays its first outputs, so `counts` is smaller at first. Such a family also has:

    _stream_encode_is_warm(state)                     -> whether every item is past its start
    _stream_latents_step(waveform, state)             -> latents, state                       (all items are warm)
    _stream_decode_is_warm(state)                     -> whether every item is past its start
    _stream_synthesize_step(vectors, state)           -> waveform, state                      (all items are warm)

In other families every item is warm from the start. A step takes and returns tensors of fixed shapes, reads nothing
back from the device, and writes only what it returns, so it can be captured as a CUDA graph.

A family whose decoder alone is causal has the hooks of the decoder alone. Its streams take codes and refuse audio.

Codes are made of latents, and vectors of codes, by the quantiser, frame by frame. A codec without latents has
`_stream_encode_warmup` and `_stream_encode_flush` (and `_step`), which take num_codebooks last and give codes, and
`_stream_decode_warmup`, which takes codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from codeczoo.base.audio import Audio
from codeczoo.base.codes import PAD, Codes, describe_weights
from codeczoo.base.codes_forms import CodesLike, dense_codes
from codeczoo.base.cuda_graph import CapturedSteps, State, Step, where
from codeczoo.base.network import CodecNetwork
from codeczoo.base.sample_values import LOUD, check_peak, peak_of

UNKNOWN = -(1 << 60)  # samples taken; stays negative whatever is added


class Stream:
    """`batch_size` clips at the codec's own rate and channel count, fed in chunks. `codec.stream()` makes it.

        stream = codec.stream()
        codes = [stream.encode(chunk) for chunk in chunks]   # [1, C, T], T a multiple of the hop
        codes.append(stream.flush(rest))                     # less than a hop

    Its state is in `encoder_state` and `decoder_state`, trees of tensors; `state_dict` copies them. (With `cuda_graph`
    each step overwrites the trees of the step before it.)
    """

    def __init__(
        self,
        codec: CodecNetwork,
        batch_size: int,
        num_codebooks: int,
        *,
        check_codes: Callable[[CodesLike], Codes],
        to_codes: Callable[[Tensor, Tensor], Codes],
        cuda_graph: bool = False,
    ) -> None:
        """
        Args:
            check_codes: what `decode` is given, as `Codes` that the codec takes, or an error.
            to_codes: codes [B, K, N] and their lengths [B] as `Codes` of the codec.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number of at least 1; it is {batch_size!r}")
        self.codec = codec
        self.batch_size = batch_size
        self.num_codebooks = num_codebooks
        self._check_codes, self._to_codes = check_codes, to_codes
        self._active = torch.ones(batch_size, dtype=torch.bool, device=codec.device)
        self._any_paused = False  # so that the device need not be asked
        self.encoder_state: State = codec._stream_encode_start(batch_size)
        self.decoder_state: State = codec._stream_decode_start(batch_size)
        # Of each item, since it began: samples that came in, frames that went out. By them a flush says how long it is.
        self._taken = torch.zeros(batch_size, dtype=torch.int64, device=codec.device)
        self._given = torch.zeros_like(self._taken)
        # Whether every item is known to be warm, so that the device need not be asked again.
        self._encoder_is_warm = self._decoder_is_warm = False
        self._encoder_graphs, self._decoder_graphs = (CapturedSteps() if cuda_graph else None for _ in range(2))

    @property
    def active(self) -> Tensor:
        """[B] bool. Items where it is False are paused: their input is ignored, their output is empty, and their state
        stays. Assign a new mask, from any device, at any time."""
        return self._active

    @active.setter
    def active(self, mask: Tensor | Sequence[bool]) -> None:
        mask = torch.as_tensor(mask)
        if mask.dtype != torch.bool or mask.shape != (self.batch_size,):
            raise ValueError(f"active must be a bool mask [{self.batch_size}]; it is {mask.dtype} {list(mask.shape)}")
        self._active, self._any_paused = mask.to(self.codec.device), not bool(mask.all())

    @torch.no_grad()
    def encode(self, chunk: Audio | Tensor) -> Codes:
        """The next samples of every item, [B, C, T] with T a multiple of the hop → the codes that are complete.

        Raises:
            TypeError, ValueError: no such chunk; NaN or infinite samples in an active item. The state is then as
                before.
        """
        self.codec._require_streaming("encode")
        waveform = self._chunk(chunk)
        hop = self.codec.hop_length or 1
        if waveform.shape[-1] == 0 or waveform.shape[-1] % hop:
            raise ValueError(
                f"{self.codec.name} streams in multiples of {hop} samples; this chunk has {waveform.shape[-1]} "
                "(give the rest of a clip to flush(rest))"
            )
        counts = None
        self._encoder_is_warm = self._encoder_is_warm or self.codec._stream_encode_is_warm(self.encoder_state)
        with self.codec._arithmetic(encoding=True):
            if self._encoder_is_warm:
                step = lambda x, state: self.codec._stream_encode_step(x, state, self.num_codebooks)  # noqa: E731
                codes, self.encoder_state = self._run(step, waveform, self.encoder_state, self._encoder_graphs)
            else:
                codes, counts, state = self.codec._stream_encode_warmup(
                    waveform, self.encoder_state, self.num_codebooks
                )
                self.encoder_state = self._where_active(state, self.encoder_state)
        made = self._codes(codes, counts)
        self._taken = self._taken + torch.where(self.active, waveform.shape[-1], 0)
        self._given = self._given + made.lengths
        return made

    @torch.no_grad()
    def flush(self, rest: Audio | Tensor | None = None) -> Codes:
        """End every active item: the codes still held back, and those of `rest` (less than a hop of samples, [B, C, R],
        or an `Audio` with lengths). These items are then at their start again. Raises as `encode`.

        The codes' `num_samples` is what the clip has beyond the frames before, so that `Codes.concat` of all chunks
        has the clip's length.
        """
        self.codec._require_streaming("encode")
        lengths = None
        if isinstance(rest, Audio):
            lengths = rest.lengths.to(self.codec.device)
        waveform = self._chunk(rest if rest is not None else self._nothing())
        hop = self.codec.hop_length or 1
        if waveform.shape[-1] >= hop:
            raise ValueError(
                f"the rest of a clip is shorter than a hop of {hop} samples; this has {waveform.shape[-1]}: "
                "feed whole hops with encode() first"
            )
        if lengths is None:
            lengths = torch.full((self.batch_size,), waveform.shape[-1], device=self.codec.device)
        with self.codec._arithmetic(encoding=True):
            codes, counts = self.codec._stream_encode_flush(waveform, lengths, self.encoder_state, self.num_codebooks)
        start = self.codec._stream_encode_start(self.batch_size)
        self._encoder_is_warm = False
        self.encoder_state = self._where_active(start, self.encoder_state)
        left = self._taken + lengths - self._given * hop
        known = (self._taken >= 0) & (left >= 0) & self.active
        self._taken, self._given = (count.masked_fill(self.active, 0) for count in (self._taken, self._given))
        return replace(self._codes(codes, counts), num_samples=torch.where(known, left, -1))

    @torch.no_grad()
    def decode(self, codes: CodesLike) -> Audio:
        """The next frames of every item, [B, K, N] → the audio that is complete.

        Raises:
            TypeError, ValueError: no codes of this codec, or out of range in an active item. The state is then as
                before.
        """
        if isinstance(codes, Codes) and len(codes) == self.batch_size and not int(codes.lengths.max()):
            return self._audio(self._nothing(), None)  # of a stream's first chunks, of which it held all frames back
        checked = self._check_codes(self._without_paused(codes))
        if len(checked) != self.batch_size:
            raise ValueError(f"this stream has {self.batch_size} items; the codes have {len(checked)}")
        if bool(((checked.lengths != checked.codes.shape[-1]) & self.active.to(checked.device)).any()):
            raise ValueError("a stream decodes the same number of frames for every active item; pause the others")
        dense = checked.codes.clamp(min=0).to(self.codec.device)
        counts = None
        self._decoder_is_warm = self._decoder_is_warm or self.codec._stream_decode_is_warm(self.decoder_state)
        with self.codec._arithmetic(encoding=False):
            if self._decoder_is_warm:
                step = self.codec._stream_decode_step
                waveform, self.decoder_state = self._run(step, dense, self.decoder_state, self._decoder_graphs)
            else:
                waveform, counts, state = self.codec._stream_decode_warmup(dense, self.decoder_state)
                self.decoder_state = self._where_active(state, self.decoder_state)
        return self._audio(waveform, counts)

    @torch.no_grad()
    def flush_decoder(self) -> Audio:
        """End every active item: the audio still held back. These items are then at their start again."""
        with self.codec._arithmetic(encoding=False):
            waveform, counts = self.codec._stream_decode_flush(self.decoder_state)
        start = self.codec._stream_decode_start(self.batch_size)
        self._decoder_is_warm = False
        self.decoder_state = self._where_active(start, self.decoder_state)
        return self._audio(waveform, counts)

    drain = flush_decoder  # its former name

    def reset(self, items: Sequence[int] | Tensor | None = None) -> None:
        """Restart items: indices, a bool mask [B], or None for all."""
        mask = torch.zeros(self.batch_size, dtype=torch.bool, device=self.codec.device)
        if items is None:
            mask[:] = True
        else:
            index = torch.as_tensor(items, device=mask.device)
            if index.dtype == torch.bool and index.shape != mask.shape:
                raise ValueError(f"a mask of items must be [{self.batch_size}]; its shape is {tuple(index.shape)}")
            if index.dtype != torch.bool and len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(mask):
                raise IndexError(f"items {index.tolist()} are out of range: this stream has {self.batch_size} items")
            mask[index] = True
        self._encoder_is_warm = self._decoder_is_warm = False
        self._taken, self._given = (count.masked_fill(mask, 0) for count in (self._taken, self._given))
        self.encoder_state = where(mask, self.codec._stream_encode_start(self.batch_size), self.encoder_state)
        self.decoder_state = where(mask, self.codec._stream_decode_start(self.batch_size), self.decoder_state)

    def state_dict(self) -> dict[str, State]:
        """All state as a tree of tensors, copied; `torch.save` writes it, `load_state_dict` restores it."""
        copy = lambda tree: tree_map(torch.clone, tree)  # noqa: E731
        return {
            "encoder": copy(self.encoder_state),
            "decoder": copy(self.decoder_state),
            "active": self.active.clone(),
            "taken": self._taken.clone(),
            "given": self._given.clone(),
            "codec": self.codec.name,
            "weights": self.codec.weights_id,
        }

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on where the stream stood that `state` was taken of: of the same codec and weights, with as many items.

        Raises:
            ValueError: a state of another codec or of other weights or type, of another number of items, or none, or
                one with NaNs.
        """
        name = self.codec.name
        if not isinstance(state, Mapping) or not {"encoder", "decoder", "active"} <= state.keys():
            found = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(f"a stream's state has encoder, decoder and active; this has {found}")
        if len(state["active"]) != self.batch_size:
            raise ValueError(f"this stream has {self.batch_size} items; the state has {len(state['active'])}")
        if (theirs := state.get("codec", name)) != name:
            raise ValueError(f"this is the state of a stream of {theirs}; the stream is of {name}")
        theirs, ours = state.get("weights"), self.codec.weights_id
        if None not in (theirs, ours) and theirs != ours:
            raise ValueError(
                f"{name}: this is the state of a stream with other weights ({describe_weights(theirs)}) than the codec "
                f"has ({describe_weights(ours)})"
            )
        for side, own in (("encoder", self.encoder_state), ("decoder", self.decoder_state)):
            (leaves, tree), (mine, my_tree) = tree_flatten(state[side]), tree_flatten(own)
            kinds = [getattr(leaf, "dtype", type(leaf).__name__) for leaf in leaves]
            if tree != my_tree or kinds != [leaf.dtype for leaf in mine]:
                raise ValueError(
                    f"the {side}'s state does not fit {name} in {self.codec.dtype}: it is of another stream"
                )
            if any(leaf.is_floating_point() and bool(leaf.isnan().any()) for leaf in leaves):
                raise ValueError(f"there are NaNs in the {side}'s state: the stream would never get rid of them")
        move = lambda tree: tree_map(lambda t: t.to(self.codec.device, copy=True), tree)  # noqa: E731
        self._encoder_is_warm = self._decoder_is_warm = False
        self.encoder_state, self.decoder_state = move(state["encoder"]), move(state["decoder"])
        self.active = state["active"]
        # (States did not always say how much they had taken: the length of the clip is then not known.)
        unknown = torch.full_like(self._taken, UNKNOWN)
        self._taken, self._given = (move(state.get(name, unknown)) for name in ("taken", "given"))

    # -- helpers --------------------------------------------------------------------------------

    def _nothing(self) -> Tensor:
        return torch.zeros(self.batch_size, self.codec.channels[0], 0, device=self.codec.device, dtype=self.codec.dtype)

    def _chunk(self, chunk: Audio | Tensor) -> Tensor:
        if isinstance(chunk, Audio):
            if chunk.sample_rate != self.codec.sample_rate:
                raise ValueError(
                    f"a stream takes audio at the codec's own {self.codec.sample_rate} Hz; "
                    f"this has {chunk.sample_rate} Hz"
                )
            chunk = chunk.waveform
        if not isinstance(chunk, Tensor) or not chunk.is_floating_point():
            raise TypeError("a chunk is an Audio or a floating point tensor [B, C, T] at the codec's rate")
        if chunk.ndim == 2 and self.batch_size == 1:
            chunk = chunk[None]
        if chunk.ndim != 3 or len(chunk) != self.batch_size or chunk.shape[1] not in self.codec.channels:
            raise ValueError(
                f"a chunk must be [{self.batch_size}, {self.codec.channels[0]}, T]; its shape is {tuple(chunk.shape)}"
            )
        chunk = chunk.to(self.codec.dtype)
        # What is not finite once would be in the state for ever. (Where the chunk lies on a GPU, this waits for it.)
        peak = peak_of(chunk) if chunk.device.type == "cpu" else float(chunk.abs().amax()) if chunk.numel() else 0.0
        if not peak <= LOUD:
            active = self.active.tolist()
            for i, item in enumerate(chunk):
                if active[i]:  # the input of paused items is ignored
                    check_peak(peak_of(item), item, f"item {i}: " if self.batch_size > 1 else "")
            chunk = chunk.nan_to_num(0, 0, 0)
        return chunk.to(self.codec.device)

    def _without_paused(self, codes: CodesLike) -> CodesLike:
        """The codes with valid ones in the place of paused items, whose input is ignored."""
        if not self._any_paused or len(codes) != self.batch_size:
            return codes
        tensor, lengths = (codes.codes, codes.lengths) if isinstance(codes, Codes) else dense_codes(codes)
        active = self.active.to(tensor.device)
        tensor = tensor.masked_fill(~active[:, None, None], 0)
        if lengths is not None:
            lengths = torch.where(active, lengths, tensor.shape[-1])
        if isinstance(codes, Codes) and lengths is not None:
            return replace(codes, codes=tensor, lengths=lengths)
        return tensor if lengths is None or bool((lengths == tensor.shape[-1]).all()) else codes

    def _run(self, step: Step, x: Tensor, state: State, graphs: CapturedSteps | None) -> tuple[Tensor, State]:
        """A step of items that are all warm."""
        kind = (self.codec.precision, x.dtype)
        if graphs is None or torch.is_autocast_enabled(x.device.type) or not graphs.has_room(x, kind):
            output, after = step(x, state)
            return output, self._where_active(after, state)
        return graphs(step, x, state, self.active, kind)

    def _where_active(self, new: State, old: State) -> State:
        return where(self.active, new, old)

    def _counts(self, counts: Tensor | None, longest: int) -> Tensor:
        full = torch.full((self.batch_size,), longest, device=self.codec.device) if counts is None else counts
        return torch.where(self.active, full, 0)

    def _codes(self, codes: Tensor, counts: Tensor | None) -> Codes:
        lengths = self._counts(counts, codes.shape[-1])
        behind = torch.arange(codes.shape[-1], device=codes.device) >= lengths[:, None, None]
        return self._to_codes(codes.masked_fill(behind, PAD), lengths)

    def _audio(self, waveform: Tensor, counts: Tensor | None) -> Audio:
        lengths = self._counts(counts, waveform.shape[-1])
        behind = torch.arange(waveform.shape[-1], device=waveform.device) >= lengths[:, None, None]
        waveform = self.codec._in_own_type(waveform)
        return Audio(waveform.masked_fill(behind, 0), lengths, self.codec.output_sample_rate)
