"""An ONNX file beside the codec that it was made of, run by onnxruntime; and how short a clip the graph takes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from codeczoo.base.codec import BaseCodec
from codeczoo.base.codes import Codes
from codeczoo.base.exporting import plain_graph
from codeczoo.onnx.graphs import EncoderGraph, decoded

FRAMES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)  # tried, until a graph agrees
MAX_AUDIO_DIFFERENCE = 1e-4  # of the peak
MAX_CODES_DIFFERENT = 0.01  # near a tie, the last digit decides; it changes the codebooks behind


class Agreement(NamedTuple):
    """Of an ONNX file and its codec."""

    codes: float  # share of codes that differ; NaN for a decoder
    audio: float  # largest difference of samples (or side values), of the peak

    def __str__(self) -> str:
        differ = (
            "" if math.isnan(self.codes) else f"{self.codes:.2%} of the codes differ" if self.codes else "codes equal"
        )
        values = f"values differ by {self.audio:.0e} of the peak at most" if self.audio or not differ else ""
        return ", ".join(part for part in (differ, values) if part)


def signal(codec: BaseCodec, batch: int, samples: int, seed: int = 0) -> Tensor:
    """[B, C, T] float32: chords that glide, and noise."""
    random = np.random.default_rng(seed)
    time = np.arange(samples) / codec.sample_rate
    shape = (batch, codec.channels[-1])
    glide = random.uniform(80, 400, shape)[..., None] * time + 20 * np.sin(2 * np.pi * 2 * time)
    tone = sum(np.sin(2 * np.pi * k * glide) / k for k in (1, 2, 3, 5, 8))
    return torch.from_numpy(0.1 * tone + 0.03 * random.standard_normal((*shape, samples))).float()


def codes_of(codec: BaseCodec, waveform: Tensor, num_codebooks: int) -> Codes:
    """By the codec itself."""
    with _as_recorded(codec):
        return codec.encode(waveform, codec.sample_rate, num_codebooks)


def audio_of(codec: BaseCodec, codes: Codes) -> Tensor:
    """By the codec itself: [B, C, T] of whole frames."""
    with _as_recorded(codec):
        return codec.decode(codec.codes_from_tensor(codes.codes, side_info=codes.side_info)).waveform


@contextlib.contextmanager
def _as_recorded(codec: BaseCodec) -> Iterator[None]:
    """Without what `onnx_leaves_out` says of the codec."""
    with plain_graph() if codec.onnx_leaves_out else contextlib.nullcontext():
        yield


def shortest_clip(codec: BaseCodec, num_codebooks: int) -> int:
    """Samples of the shortest clip that the encoder's graph takes, to a few frames.

    Raises:
        ValueError: none does.
    """
    hop = codec.hop_length or codec.sample_rate // 50
    graph = EncoderGraph(codec, num_codebooks)
    for samples in (1, hop // 2, *(frames * hop for frames in FRAMES)):
        waveform = signal(codec, 1, max(samples, 1))
        with contextlib.suppress(RuntimeError), torch.no_grad():
            expected = codes_of(codec, waveform, num_codebooks)
            with plain_graph():
                found = graph(waveform)[0]
            if _share_that_differs(found, expected) == 0:
                return max(samples, 1)
    raise ValueError(
        f"{codec.name}: its encoder as a graph agrees with the codec for no clip of up to {FRAMES[-1]} frames"
    )


def shortest_codes(codec: BaseCodec, codes: Codes) -> int:
    """Frames of the shortest codes that the decoder's graph takes; `codes` of one clip.

    Raises:
        ValueError: none.
    """
    names, unit = tuple(codes.side_info), max(codes.strides or (1,))
    for frames in (count * unit for count in FRAMES if count * unit <= codes.codes.shape[-1]):
        own = codec.codes_from_tensor(codes.codes[..., :frames], side_info=codes.side_info)
        with contextlib.suppress(RuntimeError), torch.no_grad():
            expected = audio_of(codec, own)
            with plain_graph():
                found = decoded(codec, own.codes, names, tuple(own.side_info.values()))
            if _difference(found, expected) <= MAX_AUDIO_DIFFERENCE:
                return frames
    raise ValueError(
        f"{codec.name}: its decoder as a graph agrees with the codec for no codes of up to {FRAMES[-1]} frames"
    )


class OnnxFile:
    """A session of onnxruntime."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.metadata: Mapping[str, str] = self.session.get_modelmeta().custom_metadata_map

    def __call__(self, **inputs: Tensor) -> dict[str, Tensor]:
        found: Any = self.session.run(None, {name: value.numpy() for name, value in inputs.items()})
        names = [output.name for output in self.session.get_outputs()]
        return {name: torch.from_numpy(value) for name, value in zip(names, found, strict=True)}


def compare_encoder(codec: BaseCodec, file: OnnxFile, waveform: Tensor, num_codebooks: int) -> Agreement:
    """
    Raises:
        ValueError: codes of another shape.
    """
    expected, found = codes_of(codec, waveform, num_codebooks), file(waveform=waveform)
    codes = found.pop("codes")
    differ = _share_that_differs(codes, expected)
    if math.isinf(differ):
        shapes = f"{tuple(codes.shape)}, and the codec {tuple(expected.codes.shape)}"
        raise ValueError(f"{codec.name}: for {waveform.shape[-1]} samples the ONNX encoder gives codes {shapes}")
    side = (_difference(found[name].double(), value.double()) for name, value in expected.side_info.items())
    return Agreement(differ, max(side, default=0.0))


def compare_decoder(codec: BaseCodec, file: OnnxFile, codes: Codes) -> Agreement:
    """
    Raises:
        ValueError: audio of another shape.
    """
    found = file(codes=codes.codes, **codes.side_info)["waveform"]
    expected = audio_of(codec, codes)
    if found.shape != expected.shape:
        shapes = f"{tuple(found.shape)}, and the codec {tuple(expected.shape)}"
        raise ValueError(f"{codec.name}: for {codes.codes.shape[-1]} frames the ONNX decoder gives audio {shapes}")
    return Agreement(float("nan"), _difference(found, expected))


def _share_that_differs(found: Tensor, expected: Codes) -> float:
    """Of the codes; infinite where shapes differ. What stands behind the codes of a slower codebook is not compared."""
    if found.shape != expected.codes.shape:
        return math.inf
    own = torch.arange(found.shape[-1]) < expected.counts[..., None]
    return float((found != expected.codes)[own].float().mean())


def _difference(found: Tensor, expected: Tensor) -> float:
    """The largest, of the peak of what is expected; infinite where shapes differ or values are not finite."""
    if found.shape != expected.shape:
        return math.inf
    difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-9))
    return difference if math.isfinite(difference) else math.inf
