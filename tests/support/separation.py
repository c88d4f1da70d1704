"""Small separators with the weights of tests/golden/separation, which scripts/make_separation_cases.py makes."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codeczoo.base.variant import Variant
from codeczoo.separation import Separator, find_separator
from codeczoo.separation.hybrid import key_map, rules_of
from codeczoo.weights.load import load_model
from tests.support import golden_weights
from tests.support.golden import golden_case

RATE, SEGMENT, LONG = 44100, 8000, 17123
STRIDE = 4  # of the samples that are stored
FOUR = ("drums", "bass", "other", "vocals")
SMALL: Mapping[str, tuple[str, Mapping[str, Any]]] = {  # case → variant, and numbers of the small network
    "small_htdemucs": (
        "htdemucs",
        {"channels": 8, "n_fft": 512, "depth": 3, "compress": 4, "num_layers": 4, "num_heads": 4,
         "segment_samples": SEGMENT, "bottom_channels": 24},
    ),
    "small_htdemucs_6s": (
        "htdemucs_6s",
        {"channels": 8, "n_fft": 512, "depth": 3, "compress": 4, "num_layers": 4, "num_heads": 4,
         "segment_samples": SEGMENT},
    ),
    "small_hdemucs": ("hdemucs_mmi", {"channels": 8, "n_fft": 256, "depth": 4, "segment_samples": SEGMENT}),
}  # fmt: skip


def values_of(key: str, shape: Sequence[int]) -> Tensor:
    """float16 noise for a published tensor, of a size that lets each part be heard: the initial layer scales are
    0.001."""
    size = int(np.prod(shape))
    values = torch.from_numpy(golden_weights.noise(f"separation/{key}", size)).reshape(tuple(shape))
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "scale":
        values = 0.3 + 0.1 * values
    elif len(shape) == 1 and leaf == "weight":
        values = 1 + 0.2 * values
    elif len(shape) == 1:
        values = 0.1 * values
    elif "freq_emb" in key:
        values = 0.3 * values
    else:
        fan_in = size // shape[0] if "conv_tr" not in key else size // shape[1] // 4
        values = values * (3 / fan_in) ** 0.5
    return values.half()


def bare_mix(case: str) -> Tensor:
    """[2, 2, SEGMENT]."""
    return torch.from_numpy(golden_weights.audio(f"separation/{case}", 2, 2, SEGMENT, RATE))


def long_mix(case: str) -> Tensor:
    """[1, 2, LONG], quiet, with an offset."""
    return torch.from_numpy(golden_weights.audio(f"separation/{case}/long", 1, 2, LONG, RATE)) * 0.3 + 0.01


def small_variant(case: str, **more: Any) -> Variant:
    name, numbers = SMALL[case]
    variant = find_separator(name)
    return replace(variant, network={**variant.network, **numbers, **more})


@functools.lru_cache(maxsize=6)
def small_separator(case: str, dtype: torch.dtype = torch.float32) -> Separator:
    """With the weights of the case. Cached: tests must not change it."""
    _, meta = golden_case("separation", case)
    tensors = {key: values_of(key, shape) for key, shape in json.loads(meta["shapes"]).items()}
    variant = small_variant(case)
    kind: Any = variant.codec_type()
    if case == "small_hdemucs":  # its deep layers are not those of the published one
        kind = type("SmallHDemucs", (kind,), {"key_maps": (key_map("demucs", rules_of(deep="23")),)})
    model = load_model(replace(variant, codec_class=kind), tensors, device="cpu", dtype=dtype)
    assert isinstance(model, Separator)
    return model


# -- SDR ---------------------------------------------------------------------------------------------

SDR_CASES = ("plain", "silent window", "silent estimate window", "opposite channels", "short", "shorter estimate")
SDR_RATE = 8000


def sdr_stems(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """References and estimates [S, C, T] of a case of SDR."""
    samples = {"short": 5000}.get(kind, int(3.4 * SDR_RATE))
    x, noise = (
        golden_weights.audio(f"separation/sdr/{name}", 3, 2, samples, SDR_RATE).astype(np.float64) for name in "xn"
    )
    y = x + np.array([0.1, 0.3, 1.0])[:, None, None] * noise + 0.1 * x[::-1]
    if kind == "silent window":
        x[1, :, 8000:16000] = 0
    elif kind == "silent estimate window":
        y[2, :, :8000] = 0
    elif kind == "opposite channels":  # their sum is silent
        x[0, 1, 8000:16000] = -x[0, 0, 8000:16000]
    elif kind == "shorter estimate":
        y[..., 20000:] = 0
    return x, y
