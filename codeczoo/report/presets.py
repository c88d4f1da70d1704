"""Columns of tables as papers have them: which metrics, under which headings, in which unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codeczoo.report.results import Report


@dataclass(frozen=True)
class Column:
    """A metric in a table for readers.

    Attributes:
        places: decimals.
        scale: values are shown times this; 100 = a share in percent.
    """

    metric: str
    heading: str
    places: int
    scale: float = 1.0


PRESETS: Mapping[str, tuple[Column, ...]] = {
    "paper-speech": (
        Column("utmos", "UTMOS", 2),
        Column("dnsmos_ovrl", "DNSMOS", 2),
        Column("dnsmos_p808", "DNSMOS P.808", 2),
        Column("distillmos", "DistillMOS", 2),
        Column("sim_wavlm", "SIM", 3),
        Column("sim_ecapa", "SIM (ECAPA)", 3),
        Column("sim_resemblyzer", "SIM (Resemblyzer)", 3),
        Column("wer", "WER %", 2, 100),
        Column("cer", "CER %", 2, 100),
        Column("dwer", "dWER %", 2, 100),
        Column("dcer", "dCER %", 2, 100),
        Column("pesq_wb", "PESQ-WB", 2),
        Column("pesq_nb", "PESQ-NB", 2),
        Column("stoi", "STOI", 3),
        Column("estoi", "ESTOI", 3),
        Column("mel", "Mel", 3),
        Column("mel_dac", "Mel (DAC)", 3),
        Column("stft", "STFT", 3),
        Column("si_sdr", "SI-SDR", 2),
        Column("f0_corr", "F0 corr.", 3),
        Column("fad_zoo", "FAD (zoo)", 3),
        Column("fad_encodec", "FAD (EnCodec)", 3),
        Column("fad_dac", "FAD (DAC)", 3),
    ),
}


def with_columns(report: Report, name: str) -> Report:
    """The report with those columns of a preset that were measured, in its order.

    Raises:
        ValueError: no such preset, or none of its metrics was measured.
    """
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}; there are: {', '.join(PRESETS)}")
    columns = {column.metric: column for column in PRESETS[name] if column.metric in report.metrics}
    if not columns:
        wanted = ", ".join(column.metric for column in PRESETS[name])
        raise ValueError(
            f"none of the metrics of {name} was measured ({wanted}); there are: {', '.join(report.metrics)}"
        )
    return replace(report, metrics=tuple(columns), columns=columns)
