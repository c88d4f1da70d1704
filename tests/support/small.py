"""Codecs for tests over the whole registry: the published ones, and small ones of the same architecture."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch

from codeczoo import BaseCodec, codec_info
from codeczoo.base.catalogue import Variant, find_variant, variants
from codeczoo.weights.load import load_weights

# Fewer channels and layers for each family, everything else as published.
SMALL: dict[str, dict[str, object]] = {
    "academicodec": {"filters": 8, "block_kernels": (3, 3, 5), "dilations": (2,), "codebook_size": 64},
    "audiodec": {"filters": 4, "dim": 16, "codebook_size": 64, "vocoder_channels": 32},
    "encodec": {"filters": 4, "dim": 16, "codebook_size": 64},
    "dac": {"encoder_dim": 4, "decoder_dim": 64, "codebook_size": 64},
    "speechtokenizer": {"filters": 4, "dim": 48},
    "bigcodec": {"encoder_dim": 2, "decoder_dim": 64, "latent_dim": 24, "codebook_size": 64},
    "funcodec": {"filters": 8, "dim": 32, "codebook_size": 64},
    "snac": {"encoder_dim": 4, "decoder_dim": 64, "head_dim": 16, "codebook_size": 64},
    "auv": {"dim": 32, "num_heads": 2, "hidden_dim": 48, "encoder_layers": 2, "decoder_layers": 2, "codebook_size": 96},
    "s3tokenizer": {"mels": 16, "dim": 24, "num_heads": 2, "hidden_dim": 32, "codebook_size": 20, "num_layers": 2},
    "unicodec": {
        "filters": 4,
        "dim": 32,
        "codebook_size": 64,
        "decoder_dim": 64,
        "hidden_dim": 40,
        "num_layers": 2,
        "encoder_layers": 2,
        "num_heads": 2,
        "expert_dim": 24,
    },
    "xcodec2": {
        "encoder_dim": 2,
        "dim": 64,
        "digits": (4, 4),
        "semantic_layers": 2,
        "semantic_heads": 2,
        "semantic_hidden": 48,
        "decoder_layers": 2,
        "decoder_heads": 2,
        "decoder_hidden": 48,
    },
    "wavtokenizer": {
        "filters": 4,
        "dim": 32,
        "codebook_size": 64,
        "decoder_dim": 64,
        "hidden_dim": 40,
        "num_layers": 2,
    },
    "sqcodec": {
        "trend_width": 1,
        "encoder_dims": (6, 8, 8, 8),
        "encoder_depths": (1, 1, 1, 1),
        "decoder_dims": (12, 10, 8, 8, 8),
        "decoder_depths": (1, 1, 1, 1),
        "dim": 16,
        "window": 10,
        "num_heads": 2,
        "head_dim": 8,
        "wide_layers": 1,
        "local_layers": 2,
    },
    "mimi": {
        "filters": 4,
        "dim": 32,
        "num_layers": 2,
        "num_heads": 4,
        "hidden_dim": 48,
        "window": 20,
        "codebook_dim": 16,
    },
}

# Noise as weights can make a deep network chaotic, which no trained one is: these families get smaller weights, so that
# float32 can be asked to agree with float64.
GAIN = {"bigcodec": 0.5, "dac": 0.5, "snac": 0.5, "sqcodec": 0.5}


def _network(variant: Variant) -> str:
    """The numbers of a network. A sample rate beside them changes nothing in it, but for codecs without one."""
    kept = {key: value for key, value in variant.network.items() if key != "sample_rate" or variant.weights is None}
    return repr((variant.family, sorted(kept.items())))


# One variant of each network: the others are the same with other weights, at another rate, or under another name.
ROOTS = list({_network(variant): name for name, variant in reversed(variants().items())}.values())[::-1]
CAUSAL = [name for name in ROOTS if codec_info(name).causal]


def small_variant(name: str) -> Variant:
    """A variant with a small network of its architecture."""
    variant = find_variant(name)
    return replace(variant, network={**variant.network, **SMALL.get(variant.family, {})})


def codec_of(name: str, size: str, dtype: torch.dtype) -> BaseCodec:
    """A codec with seeded weights, `size` "small" or "full". Cached: tests must not change it."""
    return _small(name, dtype) if size == "small" else _full(name, dtype)


@functools.lru_cache(maxsize=8)
def _small(name: str, dtype: torch.dtype) -> BaseCodec:
    return _seeded(small_variant(name), dtype)


@functools.lru_cache(maxsize=2)  # in float64 the largest takes 2 GB
def _full(name: str, dtype: torch.dtype) -> BaseCodec:
    return _seeded(find_variant(name), dtype)


def _seeded(variant: Variant, dtype: torch.dtype) -> BaseCodec:
    codec = variant.build()
    load_weights(codec, "random")
    with torch.no_grad():
        for parameter in codec.parameters():
            if parameter.ndim > 1:
                parameter.mul_(GAIN.get(variant.family, 1.0))
    return codec.to(dtype).eval().requires_grad_(False)
