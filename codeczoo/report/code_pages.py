"""The pages of `codeczoo probe` and `codeczoo drift`: one each, from the JSON that lies in their folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codeczoo.report.code_plots import codec_groups, drift_figures, probe_figures
from codeczoo.report.formatting import NO_VALUE, reason_text
from codeczoo.report.site import SHAPES, save, script_data, write_assets
from codeczoo.report.templating import template_environment
from codeczoo.version import __version__

ASSETS = ("report.css", "table.js", "plots.js")
KINDS = {"probe.json": ("codeczoo-probe-1", "probe.html"), "drift.json": ("codeczoo-drift-1", "drift.html")}
LITTLE = 10  # fewer codes than so many for each entry are little data


def is_code_folder(folder: str | Path) -> bool:
    """Whether `codeczoo probe` or `codeczoo drift` wrote the folder."""
    return any((Path(folder) / name).is_file() for name in KINDS)


def write_code_page(folder: str | Path, out: str | Path | None = None, title: str | None = None) -> Path:
    """Write the page of a folder of results; returns its index.html. The same results give the same bytes.

    Args:
        out: another folder for the page; None = beside the results.
        title: None = the kind of page and the data set's name.

    Raises:
        FileNotFoundError: no such results; ValueError: those of another version, or `out` holds something else.
    """
    source = next((path for name in KINDS if (path := Path(folder) / name).is_file()), None)
    if source is None:
        raise FileNotFoundError(f"{folder}: there is no {' or '.join(KINDS)} in it")
    form, template = KINDS[source.name]
    result = json.loads(source.read_text("utf-8"))
    if result.get("format") != form:
        raise ValueError(f"{source} is of the format {result.get('format')!r}; this version reads {form!r}")
    target = Path(folder if out is None else out)
    beside = target.resolve() == source.parent.resolve()
    own = {"index.html", "assets", source.name}
    if not beside and target.exists() and (not target.is_dir() or {path.name for path in target.iterdir()} - own):
        raise ValueError(f"{target} is there already and is no page of codes: name another place, or empty it")
    target.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target / "assets", ignore_errors=True)
    write_assets(target, ASSETS)
    if not beside:
        shutil.copyfile(source, target / source.name)
    save(target / "index.html", _render(template, result, title, source.name))
    return target / "index.html"


def _render(template: str, result: Mapping[str, Any], title: str | None, source: str) -> str:
    figures = (probe_figures if template == "probe.html" else drift_figures)(result)
    kind = "Codes" if template == "probe.html" else "Drift"
    templates = template_environment()
    templates.filters |= {"share": share, "percent": percent, "reason": reason_text, "bits": bits}
    return templates.get_template(template).render(
        result=result,
        by_condition=_by_condition(result),
        notes=_notes(result),
        title=title or f"{kind}: {result['dataset']['name']}",
        version=__version__,
        source=source,
        page="index.html",
        pages=[("index.html", kind)],
        random=[codec["name"] for codec in result["codecs"] if codec["random_weights"]],
        little=[codec["name"] for codec in result["codecs"] if _is_little(codec)],
        groups=codec_groups(result["codecs"]),
        shapes=SHAPES,
        figures=figures,
        plot_data=script_data([figure.data() for figure in figures]),
    )


def _by_condition(result: Mapping[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Of a drift report: (kind, label, against) → codec → row."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for codec in result["codecs"]:
        for row in codec.get("rows", ()):
            found.setdefault((row["kind"], row["label"], row["against"]), {})[codec["name"]] = row
    return found


def _notes(result: Mapping[str, Any]) -> list[str]:
    """Of a drift report: what a reader must know of some rows; codecs with the same note together."""
    found: dict[tuple[str, str], list[str]] = {}
    for codec in result["codecs"]:
        for row in codec.get("rows", ()):
            for text in filter(None, (row["reason"], row["note"])):
                found.setdefault((f"{row['kind']}, {row['label']}", text), []).append(codec["name"])
    everyone = len(result["codecs"])
    return [
        f"{what}: {text}" if len(names) == everyone else f"{what} ({', '.join(names)}): {text}"
        for (what, text), names in found.items()
    ]


def _is_little(codec: Mapping[str, Any]) -> bool:
    return any(row["codes"] < LITTLE * row["size"] for row in codec.get("codebooks", ()))


def share(value: float | None) -> str:
    """A share from 0 to 1 in percent, with one decimal."""
    return NO_VALUE if value is None else f"{100 * value:.1f} %"


def percent(value: float | None) -> str:
    """A share from 0 to 1 in percent: an exact 0 is "0", and nothing else reads so."""
    if value is None:
        return NO_VALUE
    return "0" if not value else f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.1f} %"


def bits(value: float | None) -> str:
    """A number of bits as the pages show it."""
    return NO_VALUE if value is None else f"{value:.2f}"
