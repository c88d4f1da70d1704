"""What many tests need: golden cases, and the codecs that they belong to."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from codeczoo import BaseCodec, load_codec
from codeczoo.base.catalogue import Variant, find_variant
from codeczoo.weights.download import fetch
from tests.support import golden_weights

GOLDEN = Path(__file__).parents[1] / "golden"
PACKAGED = "the weights of the package"  # in place of a manifest's name


@functools.lru_cache(maxsize=2)
def golden_state_dict(folder: str, manifest: str = "manifest.json", seed: str = "public") -> dict[str, Tensor]:
    """The tensors of a golden manifest under their published keys."""
    tensors = golden_weights.state_dict(GOLDEN / folder / manifest, seed)
    return {key: torch.from_numpy(value) for key, value in tensors.items()}


@functools.lru_cache(maxsize=3)
def golden_codec(
    name: str,
    folder: str,
    manifest: str = "manifest.json",
    seed: str = "public",
    dtype: torch.dtype = torch.float32,
) -> BaseCodec:
    """A codec with a golden manifest's weights. Cached: tests must not change it."""
    return load_codec(name, weights=golden_state_dict(folder, manifest, seed), device="cpu", dtype=dtype)


def golden_case(folder: str, case: str = "public") -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a golden case and its metadata."""
    with safe_open(GOLDEN / folder / f"{case}.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def manifest_of(folder: str, manifest: str = "manifest.json") -> dict:
    """Of a golden folder; or with `PACKAGED`, and a variant's name in place of a folder, of the weights themselves."""
    if manifest == PACKAGED:
        return packaged_manifest(find_variant(folder))
    return json.loads((GOLDEN / folder / manifest).read_text())


def packaged_manifest(variant: Variant) -> dict:
    """Weights that lie in an installed package are their own manifest: their keys and shapes are as published."""
    assert variant.weights is not None and variant.weights.package
    (path,) = fetch(variant.name, variant.weights)
    with safe_open(path, "pt") as file:
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
        tensors = [
            {"key": key, "shape": part.get_shape(), "dtype": part.get_dtype(), "offset": 0.0, "scale": 0.1}
            for key, part in slices.items()
        ]
    return {"family": variant.family, "tensors": tensors}


def assert_codes_agree(codes: Tensor, truth: Tensor, stable: Tensor) -> None:
    """All codes equal where the published float32 run is itself stable."""
    assert codes.shape == truth.shape
    wrong = (codes.cpu() != truth) & stable
    assert not bool(wrong.any()), (
        f"{int(wrong.sum())} of {int(stable.sum())} stable codes differ, first at {wrong.nonzero()[0].tolist()}"
    )


def assert_audio_agrees(audio: Tensor, truth: Tensor, tolerance: float = 1e-4) -> None:
    """Equal within `tolerance` of the truth's peak."""
    assert audio.shape == truth.shape
    error = float((audio.cpu().double() - truth.double()).abs().max() / truth.double().abs().max())
    assert error <= tolerance, f"audio differs by {error:.2e} of its peak; {tolerance:.0e} is allowed"
