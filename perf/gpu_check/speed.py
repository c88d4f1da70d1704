"""How fast a codec is on a device: by precision, with graphs by shape, and in audio-hours an hour."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from codeczoo import BaseCodec
from codeczoo.base.device import PRECISIONS
from codeczoo.base.graphs import Graphs
from perf.compare import agreement, peak_error, timed
from perf.gpu_check.promises import TOLERANCE, Check, Row

HOURS_WANTED = 10_000  # audio-hours that Mimi is to encode in an hour


def check_precision(check: Check, compiled: bool = False) -> Iterator[Row]:
    """Each precision: seconds of audio a second, codes kept, signal-to-difference ratio of the same codes' audio."""
    codec, (batch, seconds) = check.codec, (1, 0.5) if check.quick else (8, 10.0)
    clip = check.clips(batch, seconds)
    exact_codes = codec.encode(clip, codec.sample_rate)
    exact_audio = codec.decode(exact_codes) if codec.supports_decode else None
    for mode in (*PRECISIONS, *["compiled"] * compiled):
        row: Row = {"mode": mode, "batch": batch, "seconds": seconds}
        codec.precision = "fast" if mode == "compiled" else mode
        try:
            with compiled_hooks(codec, mode == "compiled"):
                row["arithmetic"] = codec.arithmetic
                row["encode"], codes = _rate(check, lambda: codec.encode(clip, codec.sample_rate), batch * seconds)
                row["codes"] = agreement(codes.codes, exact_codes.codes)
                if exact_audio is not None:
                    row["decode"], audio = _rate(check, lambda: codec.decode(exact_codes), batch * seconds)
                    row["audio_db"] = decibels(exact_audio.waveform, audio.waveform)
        except RuntimeError as error:  # what does not run in bfloat16 is worth knowing, and ends nothing else
            row["failed"] = str(error).splitlines()[0][:120]
        finally:
            codec.precision = "exact"
        if mode == "fast" and "codes" in row:  # the policy of docs/precision.md
            row["policy"] = row["codes"] >= (0.95 if exact_codes.num_codebooks > 12 else 0.99)
        if check.device.type == "cuda":
            row["peak_mib"] = round(torch.cuda.max_memory_allocated(check.device) / 2**20)
        yield row


def check_shapes(check: Check) -> Iterator[Row]:
    """Short clips as graphs by shape (`compile=True`) beside the hooks as they are: ragged, 1, 8 and 32 of them."""
    codec = check.codec
    whole = check.clips(1, 0.3 if check.quick else 1.0)[0]
    seconds = whole.shape[-1] / codec.sample_rate
    for batch in (1, 3) if check.quick else (1, 8, 32):
        clips = [whole[:, : whole.shape[-1] - 17 * i - 1] for i in range(batch)]
        audio = sum(clip.shape[-1] for clip in clips) / codec.sample_rate
        row: Row = {"batch": batch, "seconds": seconds}
        encode = lambda clips=clips: codec.encode(clips, codec.sample_rate)  # noqa: E731
        row["encode"], codes = _rate(check, encode, audio)
        if codec.supports_decode:
            row["decode"], heard = _rate(check, lambda codes=codes: codec.decode(codes), audio)
        codec.graphs = Graphs(everywhere=True)
        try:
            row["capture_s"] = timed(lambda batch=batch: codec.warm_up(seconds, batch), check.device)["wall"]
            row["encode_graph"], found = _rate(check, encode, audio)
            row["differ"], row["of"] = int((found.codes != codes.codes).sum()), int(codes.counts.sum())
            if codec.supports_decode:
                row["decode_graph"], again = _rate(check, lambda codes=codes: codec.decode(codes), audio)
                row["error"] = peak_error(again.waveform, heard.waveform)
            row["graphs"] = len(codec.graphs)
            row["without"] = "; ".join(f"{what}: {why}" for what, why in codec.graphs.refused.items()) or None
        finally:
            codec.graphs = None
        yield {**row, "kept": not row["differ"] and row.get("error", 0.0) <= TOLERANCE}


def check_hours(check: Check) -> Iterator[Row]:
    """Audio-hours that are encoded in an hour: the same as seconds a second. By precision and batch; "weights": also
    the weights are in bfloat16."""
    sizes = ((1, 0.3),) if check.quick else ((8, 10.0), (24, 10.0), (8, 30.0), (64, 30.0))
    exact, half = check.codec, copy.deepcopy(check.codec).to(torch.bfloat16)
    for batch, seconds in sizes:
        clip = check.clips(batch, seconds)
        truth = exact.encode(clip, exact.sample_rate)
        for mode in (*PRECISIONS, "weights"):
            codec: BaseCodec = half if mode == "weights" else exact
            codec.precision = "exact" if mode == "weights" else mode
            row: Row = {"mode": mode, "batch": batch, "seconds": seconds}
            try:
                encode = lambda codec=codec, clip=clip: codec.encode(clip, codec.sample_rate)  # noqa: E731
                row["hours"], codes = _rate(check, encode, batch * seconds)
                row["codes"] = agreement(codes.codes, truth.codes)
                row["wanted"] = row["hours"] >= HOURS_WANTED
            except RuntimeError as error:
                row["failed"] = str(error).splitlines()[0][:120]
            finally:
                codec.precision = "exact"
            yield row


def _rate(check: Check, call: Callable[[], Any], seconds: float) -> tuple[float, Any]:
    """Seconds of audio a second, of the fastest run, and what it gave; one more goes before, for what only the first
    call costs."""
    kept: dict[str, Any] = {}
    runs = [timed(lambda: kept.update(found=call()), check.device)["wall"] for _ in range(2 if check.quick else 5)]
    return seconds / min(runs[1:]), kept["found"]


def decibels(truth: Tensor, other: Tensor) -> float:
    """Signal to difference."""
    signal, difference = truth.double().square().sum(), (truth.double() - other.double()).square().sum()
    return float(10 * torch.log10(signal / difference.clamp(min=1e-30 * signal)))  # 300: they are equal


@contextmanager
def compiled_hooks(codec: BaseCodec, wanted: bool = True) -> Iterator[None]:
    """The family's two hooks through `torch.compile`, as a user could do it."""
    if not wanted:
        yield
        return
    codec._encode, codec._decode = torch.compile(codec._encode), torch.compile(codec._decode)
    try:
        yield
    finally:
        del codec._encode, codec._decode
