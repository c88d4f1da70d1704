"""The metrics on a device against the CPU and against the packages that define them, and the benchmark's pipeline."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from codeczoo import metrics
from perf import pipeline
from perf.compare import timed
from perf.gpu_check.promises import Row
from tests.support.metric_cases import golden_pairs, recording

# For each metric the golden value that defines it: package, entry, and its sign there.
TRUTH = {
    "mel": ("audiotools", "mel_default.f32", 1),
    "mel_dac": ("audiotools", "mel_dac.f32", 1),
    "stft": ("audiotools", "stft_default.f32", 1),
    "waveform": ("audiotools", "l1.f32", 1),
    "si_sdr": ("torchmetrics", "si_sdr.zero_mean.f64", 1),
    "snr": ("torchmetrics", "snr.f64", 1),
    "stoi": ("pystoi", "stoi", 1),
    "estoi": ("pystoi", "estoi", 1),
}


def check_metrics(device: torch.device, quick: bool) -> Iterator[Row]:
    """Of the golden pairs, in batches of one rate and channel count."""
    groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for pair in golden_pairs()[:: 8 if quick else 1]:
        groups.setdefault((pair["sample_rate"], pair["channels"]), []).append(pair)
    names = [name for name, metric in metrics.METRICS.items() if metric.where == "device"]
    apart, off = dict.fromkeys(names, 0.0), dict.fromkeys(TRUTH, 0.0)
    seconds = {"there": 0.0, "here": 0.0}
    for (rate, _), pairs in groups.items():
        sides = [[recording(p[key]).float() for p in pairs] for key in ("reference_file", "degraded_file")]
        far = [[clip.to(device) for clip in side] for side in sides]
        kept: dict[str, metrics.Scores] = {}
        for place, clips in (("there", far), ("here", sides)):
            call = lambda place=place, clips=clips, rate=rate, kept=kept: kept.update(  # noqa: E731
                {place: metrics.evaluate(*clips, rate, names)}
            )
            seconds[place] += timed(call, device)["wall"]
        for name in names:
            apart[name] = max(apart[name], _apart(kept["there"][name], kept["here"][name]))
        for name, (package, entry, sign) in TRUTH.items():
            truth = [float(p["values"].get(package, {}).get(entry, "nan")) for p in pairs]
            off[name] = max(off[name], _apart(kept["there"][name], sign * torch.tensor(truth, dtype=torch.float64)))
    for name in names:
        yield {"codec": name, "section": "metric", "apart": apart[name], "off": off.get(name), **seconds}


def _apart(ours: Tensor, truth: Tensor) -> float:
    """Largest difference where both are finite."""
    both = ours.isfinite() & truth.isfinite()
    return float((ours - truth)[both].abs().max()) if bool(both.any()) else 0.0


def check_pipeline(device: torch.device, quick: bool) -> Iterator[Row]:
    """`perf.pipeline` on the device: clips a second of the benchmark beside a plain loop over the same clips."""
    for name in ("g711_ulaw",) if quick else ("encodec_24k", "opus_12k"):
        clips, seconds = (3, (0.3, 0.5)) if quick else (60, (0.5, 4.0))
        asked = argparse.Namespace(codecs=[name], clips=clips, seconds=seconds, repeats=1, codec_superb=None)
        row: Row = {"codec": name, "section": "pipeline"}
        try:
            with default_device(device):
                (found,) = pipeline.compare(asked)
        except ImportError as error:  # metrics' packages
            yield {**row, "failed": str(error)}
            continue
        keys = ("loop_clips_per_second", "pipeline_clips_per_second", "ratio", "device_busy", "profile")
        yield {**row, "clips": clips, **{key: found[key] for key in keys}}


@contextmanager
def default_device(device: torch.device) -> Iterator[None]:
    """What `load_codec` takes where it is told none."""
    before = os.environ.get("CODECZOO_DEVICE")
    os.environ["CODECZOO_DEVICE"] = str(device)
    try:
        yield
    finally:
        if before is None:
            del os.environ["CODECZOO_DEVICE"]
        else:
            os.environ["CODECZOO_DEVICE"] = before
