"""Which codes change on a device though the audio does not: `codeczoo drift`, in short."""

from __future__ import annotations

from collections.abc import Iterator

from codeczoo.probe.drift import DriftSettings, drift
from perf.gpu_check.promises import Check, Row

KINDS = ("batch", "padding", "order", "precision", "device")


def check_drift(check: Check) -> Iterator[Row]:
    """Batch sizes, padding, order, precision, and the CPU against this device: share of the codes that change."""
    name = check.codec.name
    sizes = {"batches": (1, 2), "seconds": 0.3} if check.quick else {"batches": (1, 2, 8, 32, 200), "seconds": 0.5}
    settings = DriftSettings(
        codecs=(name,),
        weights={} if check.weights is None else {name: str(check.weights)},
        device=str(check.device),
        kinds=KINDS,
        progress=False,
        **sizes,
    )
    (codec,) = drift(settings)["codecs"]
    for found in codec["rows"]:
        keys = ("kind", "label", "codes", "codes_changed", "share", "clips_changed", "codebooks", "reason", "failed")
        row = {key: found[key] for key in keys if key != "failed"}
        yield {**row, "failed": found["reason"] if found["failed"] else None}
