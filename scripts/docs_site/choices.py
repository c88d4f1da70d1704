"""Tables of codecs by what they are good for, in the place of comments `<!-- choice: NAME -->` of a page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from codeczoo.base.catalogue import codec_info, find_variant, list_codecs
from codeczoo.base.info import CodecInfo
from scripts.docs_site.text import table

PERMISSIVE = ("MIT", "Apache-2.0", "CC-BY-4.0")
HEAD = ["codec", "kHz", "frames/s", "codebooks", "kbit/s", "streams", "parameters", "weights licence"]

Choice = Callable[[CodecInfo], bool]
CHOICES: dict[str, Choice] = {
    "streams": lambda info: bool(info.streams),
    "one codebook": lambda info: info.max_codebooks == 1 and info.supports_decode,
    "music": lambda info: info.sample_rate >= 32000,
    "below 1 kbit/s": lambda info: bool(info.bitrates) and min(info.bitrates) < 1000 and info.supports_decode,
    "permissive": lambda info: info.weights_licence in PERMISSIVE,
}


def fill(text: str, root: Path, families: str = "../families") -> str:
    """The page with its tables."""

    def made(found: re.Match[str]) -> str:
        name = found[1]
        return _published(root) if name == "published" else chosen(name, families)

    return re.sub(r"<!-- choice: ([^>]*?) -->", made, text)


def chosen(name: str, families: str) -> str:
    """The codecs with weights that a choice takes, by the frames of a second and then by bitrate."""
    infos = [info for info in map(codec_info, list_codecs()) if info.parameters and CHOICES[name](info)]
    infos.sort(key=lambda info: (info.frame_rate or 0, info.bitrate or 0, info.name))
    return table(
        HEAD,
        [
            [
                f"[`{info.name}`]({families}/{info.family}.md)",
                f"{info.sample_rate / 1000:g}",
                f"{info.frame_rate:.4g}" if info.frame_rate else "-",
                f"{info.max_codebooks}",
                _range([rate / 1000 for rate in info.bitrates]),
                "yes" if info.causal else " and ".join(info.streams) or "no",
                f"{info.parameters / 1e6:.0f} M",
                info.weights_licence,
            ]
            for info in infos
        ],
    )


def _range(rates: list[float]) -> str:
    low, high = f"{min(rates):.3g}", f"{max(rates):.3g}"
    return low if low == high else f"{low} to {high}"


def _published(root: Path) -> str:
    """Codec-SUPERB's published means, by bitrate."""
    content = json.loads((root / "codeczoo/report/published/codec_superb_tiny.json").read_text("utf-8"))
    rows = []
    for name, entry in content["codecs"].items():
        speech, music = entry["results"].get("Speech", {}), entry["results"].get("Music", {})
        if name in content["encode_only"] or not speech:
            continue
        family, mark = find_variant(name).family, " *" if entry["flags"] else ""
        scores = [speech["pesq"], speech["stoi"], speech["mel"], music["mel"]]
        rows.append((entry["listed_kbps"], [f"[`{name}`](../families/{family}.md){mark}", *_cells(scores)]))
    rows.sort(key=lambda row: row[0])
    head = ["codec", "kbit/s", "PESQ, speech ↑", "STOI, speech ↑", "mel, speech ↓", "mel, music ↓"]
    return table(head, [[cells[0], f"{rate:g}", *cells[1:]] for rate, cells in rows])


def _cells(values: list[float]) -> list[str]:
    return [f"{value:.2f}" for value in values]
