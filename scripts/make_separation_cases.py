"""Make tests/golden/separation: what small networks of the published classes give, and museval's SDR.

    pip install demucs==4.1.0 museval==0.4.1
    PYTHONPATH=. python scripts/make_separation_cases.py

A full network takes 10 s a segment; the small ones hold the same arithmetic, and the whole procedure, in a fraction of
a second. Weights and inputs are made of names (tests/support/separation.py) and not stored.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tests.support.separation import (
    FOUR,
    RATE,
    SDR_CASES,
    SDR_RATE,
    SEGMENT,
    STRIDE,
    bare_mix,
    long_mix,
    sdr_stems,
    values_of,
)

HERE = Path(__file__).resolve().parents[1] / "tests" / "golden" / "separation"
HT: dict[str, Any] = {
    "channels": 8, "nfft": 512, "depth": 3, "dconv_mode": 3, "dconv_comp": 4, "t_layers": 4, "t_heads": 4,
    "samplerate": RATE, "segment": Fraction(SEGMENT, RATE),
}  # fmt: skip
H: dict[str, Any] = {
    "channels": 8, "nfft": 256, "depth": 4, "norm_starts": 2, "dconv_lstm": 2, "dconv_attn": 2,
    "samplerate": RATE, "segment": Fraction(SEGMENT, RATE),
}  # fmt: skip


def make_network(name: str, build: Callable[[], Any]) -> None:
    from demucs.apply import apply_model

    torch.set_default_dtype(torch.float64)
    model = build().eval().double()
    shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    model.load_state_dict({key: values_of(key, shape).double() for key, shape in shapes.items()})
    mix = long_mix(name).double()
    ref = mix.mean(1)
    mean, std = ref.mean(), ref.std() + 1e-8
    with torch.no_grad():
        long = apply_model(model, (mix - mean) / std, shifts=0, overlap=0.25) * std + mean
        stems = model(bare_mix(name).double())
    torch.set_default_dtype(torch.float32)
    tensors = {"stems": stems[..., ::STRIDE].float(), "stems_long": long[..., ::STRIDE].float()}
    metadata = {"reference": "demucs 4.1.0, float64", "shapes": json.dumps(shapes)}
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, HERE / f"{name}.safetensors", metadata)


def make_sdr() -> None:
    from museval.metrics import bss_eval

    rows = {}
    for kind in SDR_CASES:
        x, y = (side.swapaxes(1, 2) for side in sdr_stems(kind))
        sdr = bss_eval(x, y, window=SDR_RATE, hop=SDR_RATE)[0]
        rows[kind] = [float(np.nanmedian(one)) for one in sdr]
    text = json.dumps({"reference": "museval 0.4.1, bss_eval, windows of 1 s, median", "sdr": rows}, indent=1)
    (HERE / "sdr.json").write_text(text + "\n")


def main() -> None:
    from demucs.hdemucs import HDemucs
    from demucs.htdemucs import HTDemucs

    HERE.mkdir(parents=True, exist_ok=True)
    make_network("small_htdemucs", lambda: HTDemucs(list(FOUR), **HT, bottom_channels=24))
    make_network("small_htdemucs_6s", lambda: HTDemucs([*FOUR, "guitar", "piano"], **HT))
    make_network("small_hdemucs", lambda: HDemucs(list(FOUR), **H))
    make_sdr()


if __name__ == "__main__":
    main()
