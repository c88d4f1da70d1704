"""Opinions of speech that networks have learnt from listeners, without a reference: `utmos`, `dnsmos_*`, `distillmos`.

Each has a twin `..._reference` that judges the original, so that a codec's loss can be told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from torch import Tensor

from codeczoo.base.device import matmul_precision
from codeczoo.metrics.judged import Memory, Rows, in_groups, no_model
from codeczoo.metrics.networks.dnsmos import NAMES as DNSMOS_NAMES
from codeczoo.metrics.networks.models import NoModelError, network, with_room
from codeczoo.metrics.pair import Pair, Result

REFERENCE = "_reference"  # ends the name of a metric of the original


def utmos(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """UTMOS, the opinion score of speech by the UTMOS22 strong learner, about 1 to 5; higher is better.

    Args:
        reference, estimate: [B, C, T]; only the estimate is judged, each channel by itself.
        sample_rate: in Hz; resampled to 16 kHz with the `hann` filter, as SpeechMOS does. The resampler is part of the
            value.
        lengths: [B].

    Its weights (380 MB) are downloaded once. It was trained on speech: of music and noise it says ordinary numbers that
    mean nothing. Undefined: `no_model`, `too_short` (under 25 ms), `silent_estimate`.
    """
    return opinions(Pair.of(reference, estimate, sample_rate, lengths), ["utmos"])["utmos"]


def distillmos(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
    """DistillMOS, the opinion score of speech by a small network, 1 to 5; higher is better.

    Args:
        reference, estimate: [B, C, T]; only the estimate is judged, each channel by itself.
        sample_rate: in Hz; resampled to 16 kHz with the `hann` filter.
        lengths: [B].

    The weights lie in the package distillmos (`pip install --no-deps distillmos`). Undefined: `no_model`,
    `not_installed`, `too_short` (no samples), `silent_estimate`.
    """
    return opinions(Pair.of(reference, estimate, sample_rate, lengths), ["distillmos"])["distillmos"]


def _dnsmos(name: str, what: str) -> Callable[..., Result]:
    def metric(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
        return opinions(Pair.of(reference, estimate, sample_rate, lengths), [name])[name]

    metric.__name__ = metric.__qualname__ = name
    metric.__doc__ = f"""{what}, 1 to 5; higher is better.

    Args:
        reference, estimate: [B, C, T]; only the estimate is judged; channels are mixed to one.
        sample_rate: in Hz; resampled to 16 kHz by soxr (HQ), as the published package reads files. The resampler is
            part of the value: P.808 of music moved by 0.1 with another.
        lengths: [B].

    Samples beyond full scale are taken as they are. Of clips from 17 s on, the published package leaves out windows;
    so does this. Needs `codeczoo[models]`. Undefined: `no_model`, `not_installed`, `too_short` (no samples),
    `silent_estimate`.
    """
    return metric


dnsmos_sig = _dnsmos("dnsmos_sig", "DNSMOS P.835 of the speech itself")
dnsmos_bak = _dnsmos("dnsmos_bak", "DNSMOS P.835 of the background")
dnsmos_ovrl = _dnsmos("dnsmos_ovrl", "DNSMOS P.835 of the whole")
dnsmos_p808 = _dnsmos("dnsmos_p808", "DNSMOS P.808, the opinion score of the whole")

_memory = Memory()


def opinions(pair: Pair, names: Collection[str]) -> dict[str, Result]:
    """Those of `names` that are opinions, of estimates, and with `_reference` behind the name of references."""
    found: dict[str, Result] = {}
    for side, ending in (("estimate", ""), ("reference", REFERENCE)):
        mine = [name.removesuffix(ending) for name in names if name.endswith(REFERENCE) == bool(ending)]
        for judge, metrics in (("utmos", ("utmos",)), ("distillmos", ("distillmos",)), ("dnsmos", DNSMOS_NAMES)):
            wanted = [name for name in metrics if name in mine]
            if not wanted:
                continue
            full = [name + ending for name in wanted]
            try:
                with matmul_precision("exact"):  # the caller's autocast is not for networks that judge
                    results = with_room(partial(_judge, judge, pair, side))
            except NoModelError as error:
                found |= no_model(pair, full, error)
            else:
                found |= {name + ending: results[name] for name in wanted}
    return found


def _judge(judge: str, pair: Pair, side: str) -> dict[str, Result]:
    """All metrics of one network, of one side. Originals that come again are not judged again."""
    device, dtype = pair.reference.device, pair.reference.dtype
    memory = _memory if side == "reference" else None
    if judge == "dnsmos":
        loaded = network("dnsmos", device)
        rows = Rows(pair, side, shortest=1, mono=True, resampler="soxr")
        values = rows.values(lambda clips: loaded.model([clip.numpy() for clip in clips]), memory, loaded.sha256)
        return {name: rows.result([value[i] for value in values]) for i, name in enumerate(DNSMOS_NAMES)}
    loaded = network({"utmos": "utmos22_strong"}.get(judge, judge), device, dtype)
    rows = Rows(pair, side, shortest=loaded.model.shortest if judge == "utmos" else 1)
    values = rows.values(
        lambda clips: [(float(value),) for value in in_groups(clips, loaded.model)], memory, loaded.sha256
    )
    return {judge: rows.result([value[0] for value in values])}
