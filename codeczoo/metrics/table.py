"""The table of all metrics: what `evaluate`, the benchmark and the documentation know of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal

from torch import Tensor

from codeczoo.metrics.cepstral import mcd, start_mcd
from codeczoo.metrics.crepe_pitch import (
    crepe_distances,
    f0_corr_crepe,
    f0_ffe_crepe,
    f0_gpe_crepe,
    f0_rmse_crepe,
    vuv_error_crepe,
)
from codeczoo.metrics.error_rates import cer, dcer, dwer, error_rates, wer
from codeczoo.metrics.intelligibility import estoi, intelligibility, stoi
from codeczoo.metrics.opinion import (
    REFERENCE,
    distillmos,
    dnsmos_bak,
    dnsmos_ovrl,
    dnsmos_p808,
    dnsmos_sig,
    opinions,
    utmos,
)
from codeczoo.metrics.pair import Pair, Result
from codeczoo.metrics.perceptual import pesq_nb, pesq_wb, start_pesq, start_visqol, visqol
from codeczoo.metrics.pitch import f0_corr, f0_ffe, f0_gpe, f0_rmse, start_pitch, vuv_error
from codeczoo.metrics.pool import PendingMetrics, WorkerPool
from codeczoo.metrics.samples import sample_distances, si_sdr, snr, waveform
from codeczoo.metrics.speaker import sim_ecapa, sim_resemblyzer, sim_wavlm, similarities
from codeczoo.metrics.spectral import lsd, mel, mel_dac, spectral_distances, stft
from codeczoo.metrics.superb import (
    start_superb,
    superb_distances,
    superb_f0corr,
    superb_mel,
    superb_pesq,
    superb_stft,
    superb_stoi,
    superb_waveform,
)

OnDevice = Callable[[Pair, Collection[str]], dict[str, Result]]
InPool = Callable[[Pair, Collection[str], WorkerPool], PendingMetrics]


@dataclass(frozen=True)
class Metric:
    """One line of the table.

    Attributes:
        name: under which `evaluate` knows it.
        function: of (reference, estimate, sample_rate, lengths) → Result; its docstring is the definition.
        engine: computes all metrics of its kind together: at once on the device, or as tasks of the pool.
        better: which way is better.
        unit: of its values; empty = none.
        where: what is computed where.
        requires: modules that it imports, and the extra of codeczoo that installs them; without them its values are
            NaN, `not_installed`.
        default: whether `evaluate` computes it unless told otherwise.
    """

    name: str
    function: Callable[..., Result]
    engine: OnDevice | InPool
    better: Literal["higher", "lower"]
    unit: str = ""
    where: Literal["device", "pool"] = "device"
    requires: tuple[str, ...] = ()
    extra: str | None = None
    default: bool = True

    @property
    def summary(self) -> str:
        """The first sentence of the definition."""
        return (self.function.__doc__ or "").split("\n")[0].split(";")[0].rstrip(".")

    @property
    def lacks(self) -> str | None:
        """What must be installed before there are values, as a sentence; None where nothing is missing."""
        missing = [module for module in self.requires if importlib.util.find_spec(module) is None]
        wanted = f"codeczoo[{self.extra}]" if self.extra else " ".join(missing)
        return f"metric {self.name!r} needs {', '.join(missing)}: pip install '{wanted}'" if missing else None


def _pooled(
    name: str,
    function: Callable[..., Result],
    engine: InPool,
    better: Literal["higher", "lower"],
    unit: str = "",
    requires: tuple[str, ...] = (),
    extra: str | None = None,
    default: bool = True,
) -> Metric:
    return Metric(name, function, engine, better, unit, "pool", requires, extra, default)


def _opinion(name: str, function: Callable[..., Result]) -> tuple[Metric, Metric]:
    """A metric that judges the estimate alone, and its twin that judges the original."""

    def of_reference(reference: Tensor, estimate: Tensor, sample_rate: int, lengths: Tensor | None = None) -> Result:
        return function(reference, reference, sample_rate, lengths)

    of_reference.__name__ = f"{name}{REFERENCE}"
    of_reference.__doc__ = f"`{name}` of the original; higher is better.\n\nOtherwise as `{name}`."
    own = Metric(name, function, opinions, "higher", "MOS", extra="models", default=False)
    return own, replace(own, name=f"{name}{REFERENCE}", function=of_reference)


_PRAAT, _ITU = ("parselmouth",), ("pesq",)

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("mel", mel, spectral_distances, "lower"),
        Metric("mel_dac", mel_dac, spectral_distances, "lower"),
        Metric("stft", stft, spectral_distances, "lower"),
        Metric("waveform", waveform, sample_distances, "lower"),
        Metric("si_sdr", si_sdr, sample_distances, "higher", "dB"),
        Metric("snr", snr, sample_distances, "higher", "dB"),
        _pooled("pesq_wb", pesq_wb, start_pesq, "higher", "MOS", _ITU, "pesq"),
        _pooled("pesq_nb", pesq_nb, start_pesq, "higher", "MOS", _ITU, "pesq", default=False),
        Metric("stoi", stoi, intelligibility, "higher"),
        Metric("estoi", estoi, intelligibility, "higher"),
        _pooled("f0_corr", f0_corr, start_pitch, "higher", "", _PRAAT, "pitch"),
        _pooled("f0_rmse", f0_rmse, start_pitch, "lower", "cents", _PRAAT, "pitch"),
        _pooled("vuv_error", vuv_error, start_pitch, "lower", "", _PRAAT, "pitch"),
        _pooled("f0_gpe", f0_gpe, start_pitch, "lower", "", _PRAAT, "pitch", default=False),
        _pooled("f0_ffe", f0_ffe, start_pitch, "lower", "", _PRAAT, "pitch", default=False),
        Metric("f0_corr_crepe", f0_corr_crepe, crepe_distances, "higher", extra="models", default=False),
        Metric("f0_rmse_crepe", f0_rmse_crepe, crepe_distances, "lower", "cents", extra="models", default=False),
        Metric("vuv_error_crepe", vuv_error_crepe, crepe_distances, "lower", extra="models", default=False),
        Metric("f0_gpe_crepe", f0_gpe_crepe, crepe_distances, "lower", extra="models", default=False),
        Metric("f0_ffe_crepe", f0_ffe_crepe, crepe_distances, "lower", extra="models", default=False),
        Metric("lsd", lsd, spectral_distances, "lower"),
        _pooled("mcd", mcd, start_mcd, "lower", "dB", ("pyworld",), "mcd", default=False),
        _pooled("visqol", visqol, start_visqol, "higher", "MOS", ("visqol",), "visqol", default=False),
        *_opinion("utmos", utmos),
        *_opinion("dnsmos_sig", dnsmos_sig),
        *_opinion("dnsmos_bak", dnsmos_bak),
        *_opinion("dnsmos_ovrl", dnsmos_ovrl),
        *_opinion("dnsmos_p808", dnsmos_p808),
        *_opinion("distillmos", distillmos),
        Metric("sim_wavlm", sim_wavlm, similarities, "higher", extra="models", default=False),
        Metric("sim_resemblyzer", sim_resemblyzer, similarities, "higher", extra="models", default=False),
        Metric("sim_ecapa", sim_ecapa, similarities, "higher", extra="models", default=False),
        Metric("wer", wer, error_rates, "lower", extra="asr", default=False),
        Metric("cer", cer, error_rates, "lower", extra="asr", default=False),
        Metric("dwer", dwer, error_rates, "lower", extra="asr", default=False),
        Metric("dcer", dcer, error_rates, "lower", extra="asr", default=False),
        Metric("superb/mel", superb_mel, superb_distances, "lower", default=False),
        Metric("superb/stft", superb_stft, superb_distances, "lower", default=False),
        Metric("superb/waveform", superb_waveform, superb_distances, "lower", default=False),
        _pooled("superb/pesq", superb_pesq, start_superb, "higher", "MOS", _ITU, "pesq", default=False),
        Metric("superb/stoi", superb_stoi, superb_distances, "higher", default=False),
        _pooled("superb/f0corr", superb_f0corr, start_superb, "higher", "", _PRAAT, "pitch", default=False),
    )
}


@dataclass(frozen=True)
class RunMetric:
    """A metric of all clips of a run together, which `codeczoo benchmark` computes.

    Attributes:
        name: under which the benchmark knows it.
        codec: of the zoo, whose latents embed originals and estimates.
        better: which way is better.
        unit: of its values; empty = none.
    """

    name: str
    codec: str
    better: Literal["higher", "lower"] = "lower"
    unit: str = ""

    @property
    def summary(self) -> str:
        """What it is, in one sentence."""
        return f"Fréchet audio distance of all clips together, by latents of {self.codec}"


RUN_METRICS: Mapping[str, RunMetric] = {
    metric.name: metric
    for metric in (
        RunMetric("fad_zoo", "zoo_16k"),
        RunMetric("fad_encodec", "encodec_24k"),
        RunMetric("fad_dac", "dac_44k"),
    )
}

DEFAULT_METRICS: tuple[str, ...] = tuple(metric.name for metric in METRICS.values() if metric.default)


def known_metric(name: str) -> Metric | RunMetric | None:
    """The metric of a clip or of a run that has this name."""
    return METRICS.get(name) or RUN_METRICS.get(name)


def metric_names(pattern: str = "*") -> list[str]:
    """The names that match a pattern like `superb/*`, in the table's order."""
    return [name for name in METRICS if fnmatchcase(name, pattern)]


def find_all(names: str | Collection[str]) -> tuple[str, ...]:
    """The names of metrics of clips and of runs, of those names or patterns: as `find_metrics`, with `RUN_METRICS`."""
    given = [names] if isinstance(names, str) else list(names)
    found: dict[str, None] = {}
    for name in given:
        of_runs = [known for known in RUN_METRICS if fnmatchcase(known, str(name))]
        of_clips = metric_names(str(name))
        if of_clips or not of_runs:
            of_clips = [metric.name for metric in find_metrics([name])]
        found |= dict.fromkeys([*of_clips, *of_runs])
    if not found:
        raise ValueError(f"no metric was named; there are: {', '.join([*METRICS, *RUN_METRICS])}")
    return tuple(found)


def find_metrics(names: str | Collection[str] | None) -> list[Metric]:
    """The metrics of those names or patterns, each once; None = the default ones.

    Raises:
        TypeError: neither a name nor several.
        KeyError: a name that is not in the table (the message says which come near).
        ValueError: no name at all.
    """
    if names is None:
        names = DEFAULT_METRICS
    if not isinstance(names, Iterable):
        raise TypeError(f"metrics must be a name, names or patterns of metrics; this is {names!r}")
    found: dict[str, Metric] = {}
    for name in [names] if isinstance(names, str) else names:
        matches = metric_names(name) if isinstance(name, str) else []
        if not matches and name in RUN_METRICS:
            raise ValueError(
                f"{name!r} is a metric of a whole run: `codeczoo benchmark` computes it; metrics.frechet_distance "
                "compares embeddings of your own"
            )
        if not matches:
            near = get_close_matches(str(name).lower(), METRICS, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are: {', '.join(METRICS)}"
            raise KeyError(f"there is no metric {name!r}; {hint}")
        found |= {match: METRICS[match] for match in matches}
    if not found:
        raise ValueError(f"no metric was named; there are: {', '.join(METRICS)}")
    return list(found.values())


def twin_of(name: str) -> str | None:
    """The metric that judges the original as `name` judges the estimate; None of metrics that have none."""
    twin = f"{name}{REFERENCE}"
    return twin if name in METRICS and twin in METRICS else None


def with_twins(names: Iterable[str]) -> list[str]:
    """Names of metrics, each once, and the twin of each that has one behind it."""
    return list(dict.fromkeys(one for name in names for one in (name, twin_of(name)) if one))


def without_twins(names: Iterable[str]) -> list[str]:
    """The same without the twins of metrics that are among them: those are told beside the metric itself."""
    names = list(names)
    twins = {twin_of(name) for name in names}
    return [name for name in names if name not in twins]
