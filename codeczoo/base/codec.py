"""`BaseCodec`: what every codec does. Its network and the hooks on dense tensors come from the family."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from codeczoo.base.audio import Audio, AudioLike
from codeczoo.base.codes import Codes, describe_weights
from codeczoo.base.codes_forms import CodesLike, dense_codes
from codeczoo.base.deprecated import Renamed, decode_latent, encode_latent, refusal_of
from codeczoo.base.inputs import collate, read_clips
from codeczoo.base.inside import CodecInside
from codeczoo.base.stream import Stream

CHECK_BLOCK_FRAMES = 1 << 18  # frames whose codes are checked at once
# What `dir(codec)` and tab completion offer, beside the network's modules and the methods that the family adds: names
# for users of a codec, and the usual ones of a module. All other public names are for authors of codecs.
USER_NAMES = frozenset(
    """
    encode decode reconstruct stream warm_up prepare match_input codes_from_tensor is_compatible_with
    from_pretrained save_pretrained push_to_hub export_onnx
    info name sample_rate channels hop_length frame_rate num_codebooks codebook_sizes codebook_choices
    nominal_bitrate bitrate_of causal latency supports_decode
    device dtype precision arithmetic graphs max_chunk_seconds strategy weights_source weights_hash weights_id
    """.split()  # noqa: SIM905
)
# Names that only a codec with latents offers.
INSIDE_NAMES = frozenset(
    """
    latents quantize vectors synthesize straight_through latents_from_tensor codebooks gradients latent_dim vector_dim
    """.split()  # noqa: SIM905
)
MODULE_NAMES = frozenset(
    """
    to cpu cuda float double half bfloat16 compile forward eval train training requires_grad_ zero_grad
    state_dict load_state_dict parameters named_parameters buffers named_buffers
    modules named_modules children named_children
    """.split()  # noqa: SIM905
)


class BaseCodec(CodecInside):
    """A neural (or other) audio codec: what all of them do, with the network that a family gives.

    codec = load_codec("mimi")
    codes = codec.encode(["a.wav", "b.flac"])   # Codes: [B, K, N] with lengths
    audio = codec.decode(codes)                 # Audio: each clip at its own length
    """

    wrap = Renamed("codes_from_tensor")
    restore = Renamed("match_input")
    accepts_codes_of = Renamed("is_compatible_with")
    refusal_of = classmethod(refusal_of)
    encode_latent, decode_latent = encode_latent, decode_latent

    # -- use ------------------------------------------------------------------------------------

    def encode(
        self,
        audio: AudioLike,
        sample_rate: int | None = None,
        num_codebooks: int | None = None,
        bitrate: float | None = None,
    ) -> Codes:
        """Audio of any form, rate, channel count and length → `Codes`, for each clip the same as if it were alone.

        Args:
            audio: see `AudioLike`: path(s) or open files, NumPy or torch [T], [C, T], [B, C, T], a list of those, an
                `Audio`, or a dict or decoder of Hugging Face datasets.
            sample_rate: in Hz, of bare arrays.
            num_codebooks, bitrate: the rate (bit/s); None = the codec's default.

        Raises:
            TypeError, ValueError: audio that cannot be taken, or a rate that the codec lacks.
        """
        count = self.choose_codebooks(num_codebooks, bitrate)
        with torch.no_grad():
            batch = self.prepare(audio, sample_rate)
            with self._arithmetic(encoding=True):
                run = lambda rows: self._encode_batch(rows, count)  # noqa: E731
                encoded = self._by_groups(run, batch, batch.waveform.shape[-1], 1, encoding=True)
        return encoded[0] if len(encoded) == 1 else Codes.cat(encoded)

    def decode(self, codes: CodesLike, *, allow_other_weights: bool = False) -> Audio:
        """`Codes`, or bare integers [B, K, N], → audio at `output_sample_rate`, each clip at its own length.

        Args:
            codes: `Codes`; or an integer tensor or array [B, K, N], or what else `codes_from_tensor` takes. The K
                codebooks of bare integers are the first ones: integers cannot tell that they are others.
            allow_other_weights: decode codes although other weights made them (see `Codes.weights`).

        Raises:
            NotImplementedError: the codec is a tokenizer without a decoder.
            TypeError, ValueError: not codes, codes of another codec or of other weights, out of range or of the wrong
                shape.
        """
        self._require_decoder()
        codes = self._check_codes(codes, allow_other_weights).to(self.device)
        with self._gradients(), self._arithmetic(encoding=False):
            size, each = codes.codes.shape[-1], self.hop_length or 1
            return self._joined(self._by_groups(self._decode_batch, codes, size, each, encoding=False))

    def reconstruct(
        self,
        audio: AudioLike,
        sample_rate: int | None = None,
        num_codebooks: int | None = None,
        bitrate: float | None = None,
    ) -> Audio:
        """Encode and decode: the audio as the codec leaves it, at the input's rate, lengths and channel count.

        A codec of fewer channels than the input encodes the mix, which then stands in every channel. Clips of one call
        must share their rate and channel count, because one `Audio` holds them.

        Raises:
            NotImplementedError, TypeError, ValueError: as `encode` and `decode`.
        """
        self._require_decoder()
        original = collate(read_clips(audio, sample_rate))
        return self.match_input(self.decode(self.encode(original, None, num_codebooks, bitrate)), original)

    def warm_up(self, seconds: float = 10.0, batch_size: int = 8, num_codebooks: int | None = None) -> int:
        """Encode and decode a batch of noise, so that the first call of a user's is as fast as any: libraries choose
        their kernels, and with `load_codec(compile=True)` the graphs for so many clips of so many seconds, dense and
        ragged, are captured. (Batches of fewer clips, or of shorter ones alone, have graphs of their own, which are
        captured when they come for the second time; call this once for each kind of batch.)

        Returns:
            how many graphs were captured: 0 without `compile=True`, on other devices than CUDA, and where a batch is
            too large to gain (docs/graphs.md).

        Raises:
            ValueError: no seconds, or no clips; as `encode`.

        Example:
            codec = load_codec("mimi", compile=True)
            codec.warm_up(seconds=10, batch_size=8)
        """
        if not 0 < seconds < math.inf:
            raise ValueError(f"seconds must be greater than zero; they are {seconds!r}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more; it is {batch_size!r}")
        count, rate = self.choose_codebooks(num_codebooks), self.sample_rate
        before = set(self.graphs.buckets if self.graphs else ())
        noise = torch.randn(math.ceil(seconds * rate), generator=torch.Generator().manual_seed(0)).mul_(0.1)
        clips = [noise.expand(min(self.channels), -1)] * batch_size
        shorter = clips[0][:, : max(len(noise) - (self.hop_length or 1), 1)]
        with self.graphs.at_once() if self.graphs is not None else nullcontext():
            for batch in (clips, [*clips[1:], shorter])[: 1 if self.graphs is None else 2]:
                codes = self.encode(batch, rate, num_codebooks=count)
                if self.supports_decode:
                    self.decode(codes)
        return len(set(self.graphs.buckets if self.graphs else ()) - before)

    def _require_decoder(self) -> None:
        if not self.supports_decode:
            raise NotImplementedError(self.variant.decode_unsupported_reason)

    def match_input(self, decoded: Audio, original: Audio) -> Audio:
        """`decoded` at the rate, lengths and channel count of `original`."""
        return decoded.matched_to(original)

    def forward(self, audio: AudioLike, sample_rate: int | None = None) -> Audio:
        """`reconstruct`, so that a codec is a module like others."""
        return self.reconstruct(audio, sample_rate)

    def stream(
        self,
        batch_size: int = 1,
        num_codebooks: int | None = None,
        bitrate: float | None = None,
        cuda_graph: bool = False,
        allow_other_weights: bool = False,
    ) -> Stream:
        """A stream of `batch_size` clips, fed chunk by chunk; equal to the whole clip. Where only the decoder is causal
        (`info.streams`), it takes codes and no audio.

        Args:
            batch_size: clips that run side by side.
            num_codebooks, bitrate: as in `encode`.
            cuda_graph: on CUDA, capture the step as a graph: the same values in less time, because hundreds of kernels
                are started with one call. The first chunk of each length takes the time of a capture. No effect on
                other devices.
            allow_other_weights: as in `decode`.

        Raises:
            ValueError: the codec is not causal.
        """
        if not self.streams:
            self._require_streaming("encode")
        return Stream(
            self,
            batch_size,
            self.choose_codebooks(num_codebooks, bitrate),
            check_codes=partial(self._check_codes, allow_other_weights=allow_other_weights),
            to_codes=partial(self.codes_from_tensor, weights=self.weights_id),
            cuda_graph=cuda_graph,
        )

    # -- codes ----------------------------------------------------------------------------------

    def _check_codes(self, codes: CodesLike, allow_other_weights: bool = False) -> Codes:
        """`codes` as `Codes` of this codec, every entry in range."""
        if not isinstance(codes, Codes):
            codes = self.codes_from_tensor(codes)
        if not self.is_compatible_with(codes.codec):
            raise ValueError(f"these codes were made by {codes.codec}; {self.name} cannot decode them")
        theirs, ours = codes.weights, self.weights_id
        if None not in (theirs, ours) and theirs != ours and not allow_other_weights:
            raise ValueError(
                f"{self.name}: these codes were made with other weights ({describe_weights(theirs)}) than the codec "
                f"has ({describe_weights(ours)}). Load the codec with those weights (weights=), or decode all the same "
                "with allow_other_weights=True (on the command line: --allow-other-weights)"
            )
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
        # In blocks: for codecs that have a code a sample, an index of every sample of an hour takes half a GB.
        for start in range(0, codes.codes.shape[-1], CHECK_BLOCK_FRAMES):
            block = codes.codes[..., start : start + CHECK_BLOCK_FRAMES]
            own = torch.arange(start, start + block.shape[-1], device=codes.device) < codes.counts[..., None]
            wrong = ((block < 0) | (block >= sizes)) & own
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
        for name, size in self.side_sizes.items():
            value = codes.side_info.get(name)
            if value is not None and bool(((value < 0) | (value >= size)).any()):
                raise ValueError(
                    f"{self.name}: side value {name!r} has entries 0 to {size - 1}; "
                    f"these codes hold {int(value.min())} to {int(value.max())}"
                )
        return codes

    def is_compatible_with(self, codec: str) -> bool:
        """Whether codes made by the codec of that name decode here: this one, or another name of the same weights."""
        return codec in self.variant.same_weights

    def codes_from_tensor(
        self,
        codes: Tensor | np.ndarray | Sequence[Any],
        lengths: Tensor | None = None,
        side_info: Mapping[str, Tensor] | None = None,
        weights: str | None = None,
    ) -> Codes:
        """Bare integers as `Codes` of this codec.

        Args:
            codes: [B, K, N], a tensor, an array or lists of numbers; or a list of B clips [K, N_b]; or, of a
                multi-scale codec, a list of K levels [B, N_k], as SNAC's published package gives them. Their codebooks
                are the first K.
            lengths: [B] in frames; None = all items are full.
            side_info: see `Codes`.
            weights: those that made the codes (see `Codes.weights`); None = not known, as of any bare tensor.

        Raises:
            TypeError, ValueError: not integers, or of another shape.
        """
        codes, found = dense_codes(codes, self.strides)
        if lengths is None:
            lengths = found
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
            side_sizes=self.side_sizes,
            weights=weights,
        )

    # -- as a folder, and on the hub -------------------------------------------------------------
    # (`weights` and `registry` are rooms above this one: they are imported when they are asked for.)

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> Self:
        """A codec from what `save_pretrained` or `push_to_hub` wrote, or from the authors' own repository.

        Args:
            source: a folder, or a repository of the hub: "owner/name".
            options: those of `load_codec`: device, precision, compile, dtype, num_codebooks, bitrate,
                max_chunk_seconds, revision, cache_dir, local_files_only.

        Raises:
            FileNotFoundError: no such folder or repository.
            ValueError: it holds no codec of this version of codeczoo, or weights that do not fit.
            TypeError: it holds a codec of another class than this one.
        """
        return import_module("codeczoo.registry").from_pretrained(source, cls, **options)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the codec into a folder: weights as safetensors, config.json and a model card. Files that are there
        under these names are replaced.

        Raises:
            ValueError: the codec has no weights.
        """
        import_module("codeczoo.weights.pretrained").save_pretrained(self, folder)

    def push_to_hub(
        self,
        repo: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
        token: str | None = None,
    ) -> str:
        """Upload what `save_pretrained` writes to a repository of the hub ("owner/name"), which is made if it is not
        there; gives the commit's address.

        Args:
            private: whether a repository that is made is; None = as the owner's default.
            revision: a branch that exists; None = main. token: None = that of `hf auth login`.

        Raises:
            ValueError: the codec has no weights.
            huggingface_hub.errors.HfHubHTTPError: not logged in, or no right to write there.
        """
        push = import_module("codeczoo.weights.pretrained").push_to_hub
        return push(self, repo, private=private, revision=revision, commit_message=commit_message, token=token)

    # -- for other engines -----------------------------------------------------------------------

    def export_onnx(
        self,
        folder: str | Path,
        *,
        num_codebooks: int | None = None,
        bitrate: float | None = None,
        sides: Sequence[str] | None = None,
        check: bool | None = None,
    ) -> dict[str, Any]:
        """Write encoder.onnx (waveform [B, C, T] → codes [B, K, N]) and decoder.onnx (codes → waveform) into a folder.

        Batch and time are free. Side information of a codec is further outputs and inputs. What stands in the files'
        metadata, and which families can be written: docs/onnx.md.

        Args:
            num_codebooks, bitrate: as in `encode`: the graphs have that number of codebooks.
            sides: of "encoder" and "decoder"; None = those that the codec has.
            check: run the files with onnxruntime at three lengths, and write nothing that disagrees with the codec;
                None = where onnxruntime is installed.

        Returns:
            side → its largest differences from the codec (`codeczoo.onnx.check.Agreement`), None where not checked.

        Raises:
            NotImplementedError: the family cannot be written as ONNX, with the reason.
            ImportError: no extra [onnx].
            ValueError: not float32 on the CPU; a file that would disagree with the codec.

        Example:
            load_codec("mimi", device="cpu").export_onnx("mimi_onnx", num_codebooks=8)
        """
        return import_module("codeczoo.onnx.export").export_onnx(
            self, folder, num_codebooks=num_codebooks, bitrate=bitrate, sides=sides, check=check
        )

    # -- looking --------------------------------------------------------------------------------

    def __dir__(self) -> Iterable[str]:
        shown = USER_NAMES | MODULE_NAMES | self._modules.keys() | set(_methods_of_the_family(type(self)))
        shown |= INSIDE_NAMES if self._has_latents else set()
        return [name for name in super().__dir__() if name.startswith("_") or name in shown]


def _methods_of_the_family(kind: type[BaseCodec]) -> Iterator[str]:
    """Names of the methods and properties that a family adds to `BaseCodec`."""
    for family_class in kind.__mro__[: kind.__mro__.index(BaseCodec)]:
        for name, value in vars(family_class).items():
            if isinstance(value, FunctionType | property) and not hasattr(BaseCodec, name):
                yield name
