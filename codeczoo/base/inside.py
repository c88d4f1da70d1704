"""`CodecInside`: what lies between a codec's networks: latents, vectors, codebooks, and gradients through all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from codeczoo.base.audio import Audio, AudioLike
from codeczoo.base.batches import WITH_GRADIENTS, CodecBatches, Result
from codeczoo.base.codes import Codes, describe_weights
from codeczoo.base.latents import Latents
from codeczoo.base.network import Frames


class CodecInside(CodecBatches):
    """The inside of a codec.

    encode(audio) = quantize(latents(audio)) and decode(codes) = synthesize(vectors(codes)), to the bit.
    """

    def latents(self, audio: AudioLike, sample_rate: int | None = None) -> Latents:
        """Audio → what the codec quantises: `Latents` [B, latent_dim, N], for each clip the same as if it were alone.

        Args:
            audio, sample_rate: as in `encode`.

        Raises:
            NotImplementedError: the codec has no latents.
            TypeError, ValueError: as `encode`.
        """
        self._require_latents()
        with self._gradients():
            batch = self.prepare(audio, sample_rate)
            with self._arithmetic(encoding=True):
                found = self._by_groups(self._latents_batch, batch, batch.waveform.shape[-1], 1, encoding=True)
        return found[0] if len(found) == 1 else Latents.cat(found)

    def quantize(
        self,
        latents: Latents | Tensor,
        num_codebooks: int | None = None,
        bitrate: float | None = None,
        *,
        allow_other_weights: bool = False,
    ) -> Codes:
        """`Latents`, or a bare tensor [B, latent_dim, N] → `Codes`. Codes have no gradient; see `straight_through`.

        Args:
            num_codebooks, bitrate: as in `encode`.
            allow_other_weights: as in `decode`.

        Raises:
            NotImplementedError: the codec has no latents.
            TypeError, ValueError: not latents of this codec, or values that are not finite; a rate that it lacks.
        """
        self._require_latents()
        count = self.choose_codebooks(num_codebooks, bitrate)
        latents = self._check_latents(latents, self.latent_dim, "latents", allow_other_weights)
        if not bool(torch.isfinite(latents.values).all()):
            item = int((~torch.isfinite(latents.values)).flatten(1).any(1).nonzero()[0])
            raise ValueError(f"{self.name}: the latents of item {item} hold NaN or infinity; they have no codes")
        with torch.no_grad(), self._arithmetic(encoding=True):
            found = self._by_encoded_groups(lambda rows: self._quantize_batch(rows, count), latents)
        return found[0] if len(found) == 1 else Codes.cat(found)

    def vectors(
        self, codes: Codes | Tensor, *, per_codebook: bool = False, allow_other_weights: bool = False
    ) -> Latents:
        """`Codes`, or a bare integer tensor [B, K, N], → what the decoder takes: `Latents` [B, vector_dim, N].

        Args:
            per_codebook: the rows of `codebooks` that the codes choose, [B, K, dim, N], zeros behind each item's codes,
                before any projection or sum. Codebooks that have fewer codes than frames have theirs at the left.
            allow_other_weights: as in `decode`.

        Raises:
            NotImplementedError: the codec has no codebooks, or (but `per_codebook`) no decoder.
            TypeError, ValueError: as `decode`.
        """
        if per_codebook:
            return self._rows_of_codebooks(self._check_codes(codes, allow_other_weights).to(self.device))
        self._require_vectors()
        codes = self._check_codes(codes, allow_other_weights).to(self.device)

        def run(rows: Codes) -> Latents:
            frames = self._vectors(self._dense(rows), rows.lengths, rows.side_info)
            return self._as_latents(frames, rows.num_samples, codes.weights)

        with self._gradients(), self._arithmetic(encoding=False):
            found = self._by_groups(run, codes, codes.codes.shape[-1], self.hop_length or 1, encoding=False)
        return found[0] if len(found) == 1 else Latents.cat(found)

    def _rows_of_codebooks(self, codes: Codes) -> Latents:
        with self._gradients():
            tables = self.codebooks[: codes.num_codebooks]
            dense = codes.codes.clamp(min=0)
            rows = [F.embedding(dense[:, k], table).mT for k, table in enumerate(tables)]
            values = torch.stack(rows, dim=1).masked_fill(~codes.mask[:, :, None], 0)
        return Latents(
            values=values,
            lengths=codes.lengths,
            num_samples=codes.num_samples,
            sample_rate=self.sample_rate,
            codec=self.name,
            frame_rate=self.frame_rate,
            weights=codes.weights,
        )

    def synthesize(self, latents: Latents | Tensor, *, allow_other_weights: bool = False) -> Audio:
        """`Latents` of `vectors`, or a bare tensor [B, vector_dim, N], → audio, as `decode` gives it.

        Where `latent_dim` and `vector_dim` are equal this also takes the latents of `latents`, as they are before
        quantisation; what that sounds like depends on the codec.

        Raises:
            NotImplementedError: the codec has no decoder, or none that takes vectors.
            TypeError, ValueError: not what its decoder takes.
        """
        self._require_vectors()
        latents = self._check_latents(latents, self.vector_dim, "vectors", allow_other_weights)
        with self._gradients(), self._arithmetic(encoding=False):
            size, each = latents.values.shape[-1], self.hop_length or 1
            return self._joined(self._by_groups(self._synthesize_batch, latents, size, each, encoding=False))

    def straight_through(
        self,
        latents: Latents | Tensor,
        num_codebooks: int | None = None,
        bitrate: float | None = None,
        *,
        allow_other_weights: bool = False,
    ) -> Latents:
        """`vectors(quantize(latents))`, whose gradient (inside `gradients()`) passes each choice of a code as if the
        chosen row were the value that it was chosen for. Projections and bounds around the choice keep their own.

        Args, Raises: as `quantize` and `vectors`.
        """
        self._require_latents()
        self._require_vectors()
        count = self.choose_codebooks(num_codebooks, bitrate)
        latents = self._check_latents(latents, self.latent_dim, "latents", allow_other_weights)

        def run(rows: Latents) -> Latents:
            frames = Frames(rows.values, rows.lengths, rows.side_info)
            return self._as_latents(self._straight_through(frames, count), rows.num_samples, rows.weights)

        with self._gradients(), self._arithmetic(encoding=True):
            found = self._by_encoded_groups(run, latents)
        return found[0] if len(found) == 1 else Latents.cat(found)

    @property
    def codebooks(self) -> list[Tensor]:
        """Each codebook as a table [size, dim], on the codec's device; those that follow from a rule (finite scalars,
        signs) are written out. What follows the rows on their way to the decoder (a projection, a sum) is the codec's
        own: docs/latents.md.

        Raises:
            NotImplementedError: the codec has no codebooks.
        """
        self._require_latents()
        return self._codebooks()

    # -- gradients ------------------------------------------------------------------------------

    @contextmanager
    def gradients(self) -> Iterator[None]:
        """Inside, PyTorch records `latents`, `vectors`, `straight_through`, `synthesize` and `decode` of this codec for
        `backward()`, in this thread, whether its parameters are frozen or not, in training or evaluation mode.

            with codec.gradients():
                audio = codec.synthesize(latents.with_values(values))
                loss = (audio.waveform - target).abs().mean()
            loss.backward()

        Parameters are frozen when a codec is loaded: `codec.requires_grad_()` for gradients of theirs. Codes have none.
        Values may differ from those outside in the last bit.

        Raises:
            RuntimeError: inside `torch.inference_mode`, in which nothing can be recorded.
        """
        if torch.is_inference_mode_enabled():
            raise RuntimeError("torch.inference_mode records nothing for gradients: leave it before codec.gradients()")
        token = WITH_GRADIENTS.set(WITH_GRADIENTS.get() | {id(self)})
        try:
            with torch.enable_grad():
                yield
        finally:
            WITH_GRADIENTS.reset(token)

    # -- checks ---------------------------------------------------------------------------------

    def latents_from_tensor(
        self,
        values: Tensor,
        lengths: Tensor | None = None,
        side_info: dict[str, Tensor] | None = None,
        weights: str | None = None,
    ) -> Latents:
        """A bare tensor [B, D, N] as `Latents` of this codec.

        Args:
            lengths: [B] in frames; None = all items are full.
            side_info: see `Latents`.
            weights: those that the values belong to; None = not known.
        """
        if not isinstance(values, Tensor) or not values.is_floating_point() or values.ndim != 3:
            told = f"{values.dtype} {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise TypeError(f"{self.name}: latents are a floating point tensor [B, D, N]; this is {told}")
        unknown = torch.full((len(values),), -1, device=values.device)
        return Latents(
            values=values,
            lengths=torch.full_like(unknown, values.shape[-1]) if lengths is None else lengths,
            num_samples=unknown,
            sample_rate=self.sample_rate,
            codec=self.name,
            frame_rate=self.frame_rate,
            side_info=side_info or {},
            weights=weights,
        )

    def _check_latents(self, latents: Latents | Tensor, dim: int, what: str, allow_other_weights: bool) -> Latents:
        """`latents` as `Latents` of this codec with `dim` values a frame, on its device."""
        if not isinstance(latents, Latents):
            latents = self.latents_from_tensor(latents)
        if not self.is_compatible_with(latents.codec):
            raise ValueError(f"these latents were made by {latents.codec}; {self.name} cannot take them")
        if latents.values.ndim != 3 or latents.values.shape[1] != dim:
            shape = tuple(latents.values.shape)
            raise ValueError(f"{self.name}: its {what} are [B, {dim}, N]; the shape of these is {shape}")
        if len(latents) == 0 or latents.values.shape[-1] == 0 or int(latents.lengths.min()) == 0:
            empty = int(latents.lengths.argmin()) if len(latents) else 0
            raise ValueError(f"{self.name}: there are no frames in item {empty} of these {what}")
        theirs, ours = latents.weights, self.weights_id
        if None not in (theirs, ours) and theirs != ours and not allow_other_weights:
            raise ValueError(
                f"{self.name}: these latents belong to other weights ({describe_weights(theirs)}) than the codec has "
                f"({describe_weights(ours)}). Load the codec with those weights (weights=), or insist with "
                "allow_other_weights=True"
            )
        kept = (self.dtype, torch.promote_types(self.dtype, torch.float32))
        latents = latents.to(self.device)
        return latents if latents.values.dtype in kept else latents.to(self.dtype)

    def _by_encoded_groups(self, run: Callable[[Latents], Result], latents: Latents) -> list[Result]:
        """`_by_groups`, of the rows that are encoded together."""
        samples = latents.num_samples
        if self.hop_length:
            samples = torch.where(samples < 0, latents.lengths * self.hop_length, samples)
        return self._by_groups(run, latents, latents.values.shape[-1], 1, True, samples)

    def _require_latents(self) -> None:
        if not self._has_latents:
            raise NotImplementedError(f"{self.name} has no latents: {self.latents_unsupported_reason}")

    def _require_vectors(self) -> None:
        if not self.supports_decode:
            raise NotImplementedError(self.variant.decode_unsupported_reason)
        if not self._has_vectors:
            raise NotImplementedError(f"{self.name} has no latents: {self.latents_unsupported_reason}")

    def _check_codes(self, codes: Codes | Tensor, allow_other_weights: bool = False) -> Codes:
        raise NotImplementedError  # BaseCodec's

    def is_compatible_with(self, codec: str) -> bool:
        raise NotImplementedError  # BaseCodec's
