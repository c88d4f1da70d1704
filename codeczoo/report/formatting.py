"""Numbers for readers: three significant digits of a column's median, and a dash for a missing value."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from statistics import median

from codeczoo.metrics.table import known_metric

NO_VALUE = "–"
# Metrics that are shown at first, the most telling ones first; others are a tick away.
FIRST_METRICS = (
    "utmos", "pesq_wb", "stoi", "mel", "si_sdr", "f0_corr", "sim_wavlm", "wer", "dnsmos_ovrl", "distillmos",
    "sim_resemblyzer", "dwer", "estoi", "stft", "visqol",
)  # fmt: skip
SIGNIFICANT_DIGITS = 3  # digits of a column's median


def decimals(values: Iterable[float | None]) -> int:
    """The number of decimals for a column of these values."""
    sizes = [abs(value) for value in values if value]
    if not sizes:
        return SIGNIFICANT_DIGITS - 1
    return min(max(SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(median(sizes))), 0), 6)


def fixed(value: float | None, places: int) -> str:
    """A value with `decimals` decimals and a real minus sign; never "-0"."""
    if value is None:
        return NO_VALUE
    text = f"{value:.{places}f}"
    return text.lstrip("-") if not text.strip("-0.") else text.replace("-", "−")


def round_number(value: float | None) -> str:
    """A number by itself, with three significant digits."""
    return fixed(value, decimals([value]))


def signed(value: float | None, places: int) -> str:
    """`fixed` with a plus sign for what is greater than zero."""
    text = fixed(value, places)
    return f"+{text}" if value is not None and value > 0 and text.strip("0.") else text


def p_value(p: float) -> str:
    """As "p < 0.001" or "p 0.012"."""
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}" if p < 0.1 else f"p {p:.2f}"


REASONS = {
    "non_finite": "a sample is NaN or infinite",
    "too_short": "too short",
    "silent_reference": "the original is silent",
    "silent_estimate": "the output is silent",
    "constant_reference": "the original is constant",
    "too_few_frames": "too few frames above silence",
    "rate_below_16k": "sample rate below 16 kHz",
    "rate_below_8k": "sample rate below 8 kHz",
    "no_utterance": "no speech found",
    "crashed": "the metric's library crashed",
    "unvoiced": "nothing voiced",
    "too_few_voiced": "too few voiced frames",
    "constant_pitch": "the pitch is constant",
    "timeout": "took too long",
    "not_installed": "its package is not installed",
    "no_model": "its model is not there",
}


def reason_text(reason: str) -> str:
    """The reason of an undefined value in words."""
    slug, *rest = re.split(r"(?=[:( ])", reason, maxsplit=1)
    return REASONS.get(slug, slug.replace("_", " ")) + "".join(rest)


def kbps(bitrate: float | None) -> str:
    """A bitrate in bit/s, as kbit/s."""
    return NO_VALUE if bitrate is None else f"{bitrate / 1000:.{decimals([bitrate / 1000])}f}"


def better(metric: str) -> str:
    """ "higher" or "lower" is better; "" for a metric that this version does not know."""
    return known.better if (known := known_metric(metric)) else ""


def unit(metric: str) -> str:
    """The metric's unit; "" of one that has none or is not known."""
    return known.unit if (known := known_metric(metric)) else ""


def summary(metric: str) -> str:
    """What the metric is, in a sentence."""
    known = known_metric(metric)
    return known.summary.replace("`", "") if known else "not a metric of this version"
