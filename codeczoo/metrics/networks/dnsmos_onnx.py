"""The published form of DNSMOS: two ONNX graphs, whose layers follow each other in the order of their nodes.

Only the graphs' tensors are read, with the `onnx` package; nothing of the graphs runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

PARTS = {3: "p835", 4: "p808"}  # by the dimensions of the first convolution's kernel: P.835 begins with a transform


def read_dnsmos(path: Path) -> Mapping[str, Tensor]:
    """The tensors of one file: `p835.conv.2.weight`, `p808.linear.0.bias` ...

    Raises:
        ImportError: the onnx package is missing.
        ValueError: not an ONNX file, or none of these two graphs.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise ImportError(f"{path}: reading ONNX needs the onnx package: pip install 'codeczoo[models]'") from error
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except DecodeError as error:
        raise ValueError(f"{path}: not a whole ONNX file ({error})") from error
    held = {t.name: t for t in graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL}

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(numpy_helper.to_array(held[name]).copy())

    found: dict[str, Tensor] = {}
    convolutions = linears = 0
    for node in graph.node:
        given = [name for name in node.input[1:] if name in held]
        if node.op_type == "Conv":
            found |= {f"conv.{convolutions}.{kind}": tensor(name) for kind, name in zip(("weight", "bias"), given)}  # noqa: B905 (some have no bias)
            convolutions += 1
        elif node.op_type == "MatMul":
            found[f"linear.{linears}.weight"] = tensor(given[0]).T.contiguous()
            linears += 1
        elif node.op_type == "Add" and linears and given:
            found[f"linear.{linears - 1}.bias"] = tensor(given[0])
    first = found.get("conv.0.weight")
    if first is None or first.ndim not in PARTS:
        raise ValueError(f"{path}: an ONNX graph, but none of DNSMOS")
    return {f"{PARTS[first.ndim]}.{key}": value for key, value in found.items()}
