"""A model's weights into files of other formats: safetensors under our own names, and GGUF as codec.cpp reads it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from safetensors.torch import save_file

from codeczoo.base.model import Model
from codeczoo.version import __version__
from codeczoo.weights.gguf import TYPES, write_gguf
from codeczoo.weights.gguf_layout import to_gguf
from codeczoo.weights.int8 import STORAGE, quantised

log = logging.getLogger(__name__)


def export_safetensors(model: Model, path: str | Path, kind: str = "F32") -> None:
    """Write the model's tensors under codeczoo's names, as `load_codec(name, weights=path)` reads them.

    The metadata say which codec it is, where its weights came from and the sha256 of that file. A file that is there is
    replaced when the new one is whole.

    Args:
        kind: "F32", or "INT8": matrices and kernels as 8 bit integers with a scale a row (`weights.int8`).

    Example:
        export_safetensors(load_codec("dac_44k"), "dac_44k.safetensors")

    Raises:
        ValueError: another `kind`; weights that are not finite.
    """
    path = Path(path)
    about = {
        "format": "pt",
        "codec": model.variant.root or model.name,
        "weights": model.weights_source or "unknown",
        "weights_sha256": model.weights_hash or "",
        "licence": model.variant.weights_licence,
        "made_by": f"codeczoo {__version__}",
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if kind == "INT8":
        tensors, about = quantised(tensors), {**about, **STORAGE}
    elif kind != "F32":
        raise ValueError(f"safetensors are written as F32 or INT8; {kind!r} was asked for")
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, partial, about)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def export_gguf(model: Model, path: str | Path, kind: str = "F16") -> None:
    """Write the model as a GGUF file that codec.cpp reads.

    Args:
        kind: "F32"; "F16", where some small tensors stay F32; or "Q8_0", where linear layers are quantised and all else
            is as with F16.

    Raises:
        ImportError: no extra [gguf].
        ValueError: codec.cpp does not know this model or could not run it; another `kind`; values beyond F16's reach.
    """
    if kind not in TYPES:
        raise ValueError(f"GGUF files are written as {', '.join(TYPES)}; {kind!r} was asked for")
    settings, tensors, types = to_gguf(model, kind)
    if kind not in types.values() and kind != "F32":
        log.warning("%s: no tensor of it can be %s (its linear layers could): all are F16 or F32", model.name, kind)
    write_gguf(Path(path), settings, tensors, types)
