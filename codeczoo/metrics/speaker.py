"""Speaker similarity: the cosine of two embeddings, of the original and of what a codec made of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

import torch
from torch import Tensor

from codeczoo.base.device import matmul_precision
from codeczoo.metrics.judged import Memory, Rows, in_groups, no_model
from codeczoo.metrics.networks.models import Network, NoModelError, network, with_room
from codeczoo.metrics.pair import Pair, Result

NETWORKS = {"sim_wavlm": "wavlm_base_plus_sv", "sim_resemblyzer": "resemblyzer", "sim_ecapa": "ecapa_voxceleb"}

_memory = Memory()


def sim_wavlm(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """Speaker similarity by WavLM base+ (microsoft/wavlm-base-plus-sv), -1 to 1; higher is better.

    Args:
        reference, estimate: [B, C, T]; channels are mixed to one.
        sample_rate: in Hz; resampled to 16 kHz with the `hann` filter.
        lengths: [B].

    The weights (400 MB) are downloaded once. Values of different models do not compare, nor do those of reconstructions
    with those of synthesised speech. Undefined: `no_model`, `too_short` (under 0.325 s), `silent_reference`,
    `silent_estimate`.
    """
    return similarities(Pair.of(reference, estimate, sample_rate, lengths), ["sim_wavlm"])["sim_wavlm"]


def sim_resemblyzer(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """Speaker similarity by Resemblyzer, 0 to 1; higher is better.

    Args:
        reference, estimate: [B, C, T]; channels are mixed to one.
        sample_rate: in Hz; resampled to 16 kHz by soxr (HQ), as the published package does.
        lengths: [B].

    The weights lie in the package Resemblyzer (`pip install --no-deps Resemblyzer`). Its embeddings are never negative,
    so that unlike voices score above 0 too. Undefined: `no_model`, `not_installed`, `silent_reference`,
    `silent_estimate`, `no_voice` (its voice detector hears none in the original, or in the estimate).
    """
    return similarities(Pair.of(reference, estimate, sample_rate, lengths), ["sim_resemblyzer"])["sim_resemblyzer"]


def sim_ecapa(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """Speaker similarity by SpeechBrain's ECAPA-TDNN (speechbrain/spkrec-ecapa-voxceleb), -1 to 1; higher is better.

    Args:
        reference, estimate: [B, C, T]; channels are mixed to one.
        sample_rate: in Hz; resampled to 16 kHz with the `hann` filter.
        lengths: [B].

    The weights (83 MB) are downloaded once. Undefined: `no_model`, `too_short` (under 40 ms), `silent_reference`,
    `silent_estimate`.
    """
    return similarities(Pair.of(reference, estimate, sample_rate, lengths), ["sim_ecapa"])["sim_ecapa"]


def similarities(pair: Pair, names: Collection[str]) -> dict[str, Result]:
    """Those of `names` that are similarities of speakers."""
    found: dict[str, Result] = {}
    for name in (name for name in NETWORKS if name in names):
        try:
            with matmul_precision("exact"):  # the caller's autocast is not for networks that judge
                found[name] = with_room(partial(_similarity, name, pair))
        except NoModelError as error:
            found |= no_model(pair, [name], error)
    return found


def _similarity(name: str, pair: Pair) -> Result:
    device, dtype = pair.reference.device, pair.reference.dtype
    loaded = network(NETWORKS[name], device, torch.float32 if name == "sim_resemblyzer" else dtype)
    sides: list[tuple[Rows, Sequence[Tensor | None]]] = []
    for side in ("reference", "estimate"):
        if name == "sim_resemblyzer":
            rows = Rows(pair, side, shortest=1, mono=True, resampler="soxr")
        else:
            rows = Rows(pair, side, loaded.model.shortest, mono=True)
        sides.append((rows, _embeddings(loaded, rows, device, dtype)))
    embeddings = [dict(zip(rows.index, found, strict=True)) for rows, found in sides]
    reasons = [sides[0][0].reasons[i] or sides[1][0].reasons[i] for i in range(len(pair))]
    return Result.of(
        (None, reason) if reason else _cosine(embeddings[0][i], embeddings[1][i]) for i, reason in enumerate(reasons)
    )


def _embeddings(loaded: Network, rows: Rows, device: torch.device, dtype: torch.dtype) -> Sequence[Tensor | None]:
    """Float64 on the CPU; None where no voice is heard. Those of originals, which come again, are remembered."""

    def compute(clips: list[Tensor]) -> list[tuple[float, ...]]:
        if loaded.model.name == "resemblyzer":
            found = loaded.model([clip.float().numpy() for clip in clips])
        else:
            found = in_groups([clip.to(device, dtype) for clip in clips], loaded.model)
        return [() if one is None else tuple(one.double().tolist()) for one in found]

    values = rows.values(compute, _memory if rows.side == "reference" else None, f"{loaded.sha256} {dtype}")
    return [torch.tensor(value, dtype=torch.float64) if value else None for value in values]


def _cosine(reference: Tensor | None, estimate: Tensor | None) -> tuple[float | None, str | None]:
    if reference is None or estimate is None:
        return None, "no_voice"
    return float(torch.nn.functional.cosine_similarity(reference, estimate, dim=0)), None
