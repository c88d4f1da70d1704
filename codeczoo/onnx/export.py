"""`export_onnx`: encoder.onnx and decoder.onnx of a codec."""

from __future__ import annotations

import importlib.util
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codeczoo.base.codec import BaseCodec
from codeczoo.base.codes import Codes
from codeczoo.onnx.check import (
    MAX_AUDIO_DIFFERENCE,
    MAX_CODES_DIFFERENT,
    Agreement,
    OnnxFile,
    codes_of,
    compare_decoder,
    compare_encoder,
    shortest_clip,
    shortest_codes,
    signal,
)
from codeczoo.onnx.graphs import SIDES, graph_of
from codeczoo.onnx.record import OPSET, record
from codeczoo.version import __version__

log = logging.getLogger(__name__)
EXAMPLE_FRAMES = 24
CHECKED_SECONDS = (0.8, 2.1)  # beside the shortest


def export_onnx(
    codec: BaseCodec,
    folder: str | Path,
    *,
    num_codebooks: int | None = None,
    bitrate: float | None = None,
    sides: Sequence[str] | None = None,
    check: bool | None = None,
) -> dict[str, Agreement | None]:
    """See `BaseCodec.export_onnx`."""
    count = codec.choose_codebooks(num_codebooks, bitrate)
    chosen = tuple(sides) if sides is not None else SIDES if codec.supports_decode else SIDES[:1]
    for side in chosen:
        _require(codec, side)
    first = next(codec.parameters(), torch.empty(0))
    if first.device.type != "cpu" or first.dtype != torch.float32:
        raise ValueError(
            f"{codec.name} is on {first.device} in {first.dtype}; ONNX is written of a codec in float32 on the CPU: "
            f'load_codec("{codec.name}", device="cpu")'
        )
    if check is None:
        check = importlib.util.find_spec("onnxruntime") is not None
    if codec.onnx_leaves_out:
        log.warning("%s: ONNX leaves out %s", codec.name, codec.onnx_leaves_out)
    folder, results = Path(folder), {}
    folder.mkdir(parents=True, exist_ok=True)
    training = codec.training
    try:
        codec.eval()
        with tempfile.TemporaryDirectory(dir=folder, prefix=".onnx.") as temporary:
            for side in chosen:
                results[side] = _write(codec, side, count, Path(temporary), check)
            for file in sorted(Path(temporary).iterdir()):
                file.replace(folder / file.name)
    finally:
        codec.train(training)
    return results


def _require(codec: BaseCodec, side: str) -> None:
    if side not in SIDES:
        raise ValueError(f"sides are {' and '.join(SIDES)}; {side!r} was asked for")
    if side == "decoder" and not codec.supports_decode:
        raise NotImplementedError(codec.variant.decode_unsupported_reason)
    if reason := codec.onnx_unsupported.get(side):
        other = next((one for one in SIDES if one not in codec.onnx_unsupported), None)
        rest = f" (its {other} can: --side {other}, or sides=[{other!r}])" if other else ""
        raise NotImplementedError(f"{codec.name}'s {side} cannot be written as ONNX: {reason}{rest}")


def _write(codec: BaseCodec, side: str, count: int, folder: Path, check: bool) -> Agreement | None:
    """One side into a folder, checked."""
    import onnx

    hop = codec.hop_length or codec.sample_rate // 50
    unit = max(codec.strides or (1,))
    waveform = signal(codec, 2, EXAMPLE_FRAMES * unit * hop + hop // 3)
    codes = codes_of(codec, waveform, count)
    names, moving = tuple(codes.side_info), _moving(codes)
    inputs: Mapping[str, Tensor]
    if side == "encoder":
        shortest, inputs, outputs = shortest_clip(codec, count), {"waveform": waveform}, ("codes", *names)
    else:
        shortest = shortest_codes(codec, codes[0])
        inputs, outputs = {"codes": codes.codes, **codes.side_info}, ("waveform",)
    program = record(graph_of(codec, side, count, names), inputs, outputs, moving)
    program.model.metadata_props.update(_metadata(codec, side, count, shortest))
    path = folder / f"{side}.onnx"
    program.save(path)  # tensors beyond 2 GB in all go to a file of their own
    onnx.checker.check_model(str(path))
    return _checked(codec, side, count, path, shortest) if check else None


def _moving(codes: Codes) -> dict[str, dict[int, str]]:
    sides = {name: {0: "batch"} for name in codes.side_info}
    return {"waveform": {0: "batch", 2: "samples"}, "codes": {0: "batch", 2: "frames"}, **sides}


def _metadata(codec: BaseCodec, side: str, count: int, shortest: int) -> dict[str, str]:
    about: dict[str, Any] = {
        "codec": codec.variant.root or codec.name,
        "side": side,
        "sample_rate": codec.sample_rate,
        "output_sample_rate": codec.output_sample_rate,
        "frame_rate": codec.frame_rate,
        "hop_length": codec.hop_length,
        "num_codebooks": count,
        "codebook_sizes": list(codec.codebook_sizes[:count]),
        "strides": list(codec.strides[:count]),
        "shortest": shortest,
        "shortest_unit": "samples" if side == "encoder" else "frames",
        "left_out": codec.onnx_leaves_out,
        "weights": codec.weights_source or "unknown",
        "weights_sha256": codec.weights_hash or "",
        "licence": codec.variant.weights_licence,
        "opset": OPSET,
        "made_by": f"codeczoo {__version__}, torch {torch.__version__}",
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in about.items()}


def _checked(codec: BaseCodec, side: str, count: int, path: Path, shortest: int) -> Agreement:
    """The file beside the codec, at three lengths.

    Raises:
        ValueError: they disagree.
    """
    file, found = OnnxFile(path), []
    rate, hop = codec.sample_rate, codec.hop_length or 1
    least = shortest if side == "encoder" else shortest * hop
    for number, samples in enumerate((least, *(int(seconds * rate) for seconds in CHECKED_SECONDS))):
        waveform = signal(codec, 1 + number % 2, max(samples, least), seed=number)
        if side == "encoder":
            found.append(compare_encoder(codec, file, waveform, count))
        else:
            found.append(compare_decoder(codec, file, codes_of(codec, waveform, count)))
    worst = Agreement(max(one.codes for one in found), max(one.audio for one in found))
    if worst.codes > MAX_CODES_DIFFERENT or worst.audio > MAX_AUDIO_DIFFERENCE:
        raise ValueError(
            f"{codec.name}: its ONNX {side} does not agree with the codec: {worst.codes:.2%} of the codes differ, "
            f"values by {worst.audio:.1e} of the peak. Nothing was written; please report it"
        )
    return worst
