"""What many tests need: golden cases, and the codecs that they belong to."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from codeczoo import BaseCodec, load_codec
from tests.support import golden_weights

GOLDEN = Path(__file__).parents[1] / "golden"


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
    return json.loads((GOLDEN / folder / manifest).read_text())


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
