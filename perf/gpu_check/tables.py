"""What was found, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from perf.gpu_check.promises import Row

COLUMNS = {
    "hours": ("mode", "batch", "seconds", "hours", "codes", "wanted", "failed"),
    "precision": (*("mode", "arithmetic", "encode", "decode", "codes", "audio_db", "policy", "peak_mib", "failed"),),
    "shapes": (
        *("batch", "encode", "encode_graph", "decode", "decode_graph", "differ", "of", "error", "graphs"),
        *("capture_s", "without"),
    ),
    "drift": ("kind", "label", "codes_changed", "codes", "share", "reason"),
    "golden": ("differ", "codes", "error"),
    "ragged": ("differ", "of", "error"),
    "passes": ("differ", "of", "error"),
    "stream": ("graph", "differ", "of", "error"),
    "graph": ("op", "differ", "step_ms", "graph_ms", "hop_ms"),
    "pipeline": ("clips", "loop_clips_per_second", "pipeline_clips_per_second", "ratio", "device_busy", "failed"),
    "metric": ("apart", "off"),
}


def tables(rows: Sequence[Row]) -> str:
    """One table a section."""
    out = []
    for section, columns in COLUMNS.items():
        own = [row for row in rows if row["section"] == section]
        if own:
            out += [f"### {section}", "", f"| codec | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
            out += [f"| {row['codec']} | {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in own]
            out.append("")
    return "\n".join(out)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")
