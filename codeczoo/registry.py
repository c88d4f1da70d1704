"""`load_codec`: a name in, a codec with its weights out."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from codeczoo.base.catalogue import codec_info, find_variant, list_codecs, register_codec, variants
from codeczoo.base.codec import BaseCodec
from codeczoo.base.deprecated import renamed_keyword
from codeczoo.base.graphs import use_graphs
from codeczoo.weights.load import load_model
from codeczoo.weights.pretrained import find_pretrained

__all__ = [
    "codec_info",
    "find_variant",
    "from_pretrained",
    "list_codecs",
    "load_codec",
    "register_codec",
    "variants",
]

Kind = TypeVar("Kind", bound=BaseCodec)


@renamed_keyword("max_seconds_per_pass", "max_chunk_seconds")
def load_codec(
    name: str,
    weights: str | Path | Mapping[str, Tensor] | None = None,
    *,
    weights_entry: str | None = None,
    device: str | torch.device | None = None,
    precision: str = "exact",
    compile: bool = False,
    dtype: torch.dtype | str = torch.float32,
    num_codebooks: int | None = None,
    bitrate: float | None = None,
    max_chunk_seconds: float | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    seed: int = 0,
) -> BaseCodec:
    """A codec, ready to use.

    Args:
        name: of a variant ("mimi", "dac_44k"), an alias of it or its hub repository id; see `list_codecs()`.
        weights: None = the published ones, from the hub, cached; a file, folder or zip archive in any published naming
            and format; a dict of tensors or arrays; "random" = seeded noise, for speed tests only.
        weights_entry: which entry of `weights`, where several fit: "ema" of {"model": ..., "ema": ...}. (As text,
            "PATH::ema" says both.) An entry that alone fits is found without, behind any prefix.
        device: None = the environment variable CODECZOO_DEVICE, else CUDA > MPS > CPU.
        precision: "exact" = float32 with TF32 off, also under the caller's `torch.autocast`; "fast" = TF32 on CUDA, and
            bfloat16 on a CPU that has it, but in parts of the network that would change too many codes; "fastest" =
            bfloat16 in all of it. `codec.info.arithmetic` says what that came to; docs/precision.md what it costs.
        compile: on CUDA, run the network as captured graphs, one for each size of batch (docs/graphs.md): the same
            codes in less time where clips are short and few, for memory that is kept. `codec.warm_up()` captures
            them at once. No effect on other devices, which is said once.
        dtype: of weights and arithmetic, by itself or by name; "float64" for reference runs.
        num_codebooks, bitrate: the rate that `encode` uses when it is told none (bitrate in bit/s; give one of them).
        max_chunk_seconds: how much audio goes through the network at once; bounds memory, never changes codes
            where the receptive field is finite.
        revision: of the hub repository, instead of the pinned one.
        cache_dir: of huggingface_hub; local_files_only: never ask the network (as HF_HUB_OFFLINE=1).
        seed: of weights="random".

    Raises:
        KeyError: no such codec (the message says which come near).
        ValueError: a device that is not there, a rate that the codec lacks, weights that do not fit.
        FileNotFoundError: weights that cannot be found or had.
    """
    codec = load_model(
        find_variant(name),
        weights,
        weights_entry=weights_entry,
        device=device,
        precision=precision,
        dtype=dtype,
        revision=revision,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        seed=seed,
    )
    assert isinstance(codec, BaseCodec)
    return _as_asked(codec, num_codebooks, bitrate, max_chunk_seconds, compile)


def from_pretrained(
    source: str | Path,
    kind: type[Kind],
    *,
    device: str | torch.device | None = None,
    precision: str = "exact",
    compile: bool = False,
    dtype: torch.dtype = torch.float32,
    num_codebooks: int | None = None,
    bitrate: float | None = None,
    max_chunk_seconds: float | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Kind:
    """`BaseCodec.from_pretrained`: a codec of class `kind` from a folder or a repository of the hub. The other
    arguments are those of `load_codec`."""
    hub: dict[str, Any] = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
    how: dict[str, Any] = {"device": device, "precision": precision, "dtype": dtype}
    known = None
    if not Path(source).expanduser().is_dir():
        with contextlib.suppress(KeyError):
            known = find_variant(str(source))  # the authors' own repository, or a name
    variant, weights = (known, None) if known else find_pretrained(source, **hub)
    if not issubclass(variant.codec_type(), kind):
        raise TypeError(f"{source}: it holds a {variant.codec_type().__name__} ({variant.name}), not a {kind.__name__}")
    codec = load_model(variant, weights, **how, **(hub if known else {}))
    assert isinstance(codec, kind)
    return _as_asked(codec, num_codebooks, bitrate, max_chunk_seconds, compile)


def _as_asked(
    codec: Kind, num_codebooks: int | None, bitrate: float | None, max_chunk_seconds: float | None, compile: bool
) -> Kind:
    codec.max_chunk_seconds = max_chunk_seconds
    if compile:
        use_graphs(codec)
    if num_codebooks is not None or bitrate is not None:
        codec.default_codebooks = codec.choose_codebooks(num_codebooks, bitrate)
    return codec
