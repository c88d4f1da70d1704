"""How far the pitch metrics by CREPE agree with those by Praat, on the clips that come with the package.

    python perf/pitch_agreement.py

Contours: Praat's first frame lies 30 ms in, CREPE's at 0, so Praat's are laid over the middle of CREPE's. Metrics:
each clip through Opus at 6, 12 and 24 kbit/s; the rank correlation says whether both put the same codings first.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.stats import spearmanr

from codeczoo import Audio, load_codec, metrics
from codeczoo.data import embedded_clips
from codeczoo.metrics import crepe_pitch
from codeczoo.metrics.pair import Pair
from codeczoo.metrics.pitch import PRAAT, compare_contours
from codeczoo.metrics.worker import praat_pitch

NAMES = ("f0_corr", "f0_rmse", "vuv_error", "f0_gpe", "f0_ffe")
CODECS = ("opus_6k", "opus_12k", "opus_24k")


def main() -> None:
    torch.set_num_threads(1)
    clips = [Audio.load(path) for path in embedded_clips() if path.name.startswith("speech")]
    print(f"{'original':<28}{'voicing differs':>16}{'RMSE, cents':>14}{'correlation':>13}")
    for path, clip in zip((p for p in embedded_clips() if p.name.startswith("speech")), clips, strict=True):
        mono = clip.mix(1)
        ours = crepe_pitch._contours(Pair.of(mono.waveform, mono.waveform, mono.sample_rate), "reference")[0]
        praat = praat_pitch(mono.waveform[0, 0].double().numpy(), mono.sample_rate, **PRAAT)
        first = max(round((len(ours) - len(praat)) / 2), 0)
        both = compare_contours(praat, ours[first : first + len(praat)])
        told = [both[name].value if both[name].value is not None else math.nan for name in NAMES[:3]]
        print(f"{path.stem:<28}{told[2]:>16.3f}{told[1]:>14.1f}{told[0]:>13.4f}")
    values: dict[str, list[float]] = {name: [] for name in [*NAMES, *(f"{name}_crepe" for name in NAMES)]}
    for name in CODECS:
        codec = load_codec(name)
        for clip in clips:
            scores = metrics.evaluate(clip, codec.reconstruct(clip), metrics=list(values), num_workers=1)
            for key, value in scores.items():
                values[key].append(float(value))
    print(
        f"\n{'of ' + str(len(clips) * len(CODECS)) + ' codings':<16}{'Praat':>10}{'CREPE':>10}{'rank correlation':>18}"
    )
    for name in NAMES:
        x, y = np.array(values[name]), np.array(values[f"{name}_crepe"])
        there = np.isfinite(x) & np.isfinite(y)
        rank = spearmanr(x[there], y[there]).statistic if there.sum() > 2 else math.nan
        print(f"{name:<16}{x[there].mean():>10.4f}{y[there].mean():>10.4f}{rank:>18.3f}")


if __name__ == "__main__":
    main()
