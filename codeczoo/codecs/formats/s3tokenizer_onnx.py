"""The published form of S3Tokenizer: an ONNX graph whose tensors are found through the nodes that use them.

Only the graph's initializers are read, with the `onnx` package; nothing of the graph runs. The matrix of a linear layer
has a generated name, so that only the name of its MatMul node says which layer it belongs to; as the right factor of
the product it is stored transposed.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

# (expression of a node's name, input, key; whether the file holds it transposed)
BLOCK = r"/blocks\.(\d+)/"
TO = r"encoder.blocks.\1."
NODES = (
    (r".*/?conv([12])/Conv", 1, r"encoder.conv\1.weight", False),
    (r".*/?conv([12])/Conv", 2, r"encoder.conv\1.bias", False),
    (BLOCK + r"attn/(query|key|value|out)/MatMul", None, TO + r"attn.\2.weight", True),
    (BLOCK + r"attn/(query|value|out)/Add", None, TO + r"attn.\2.bias", False),
    (BLOCK + r"attn/fsmn_block/Conv", 1, TO + "attn.fsmn_block.weight", False),
    (BLOCK + r"mlp/mlp\.([02])/MatMul", None, TO + r"mlp.\2.weight", True),
    (BLOCK + r"mlp/mlp\.([02])/Add", None, TO + r"mlp.\2.bias", False),
    (BLOCK + r"(attn_ln|mlp_ln)/LayerNormalization", 1, TO + r"\2.weight", False),
    (BLOCK + r"(attn_ln|mlp_ln)/LayerNormalization", 2, TO + r"\2.bias", False),
    (BLOCK + r"(attn_ln|mlp_ln)/Mul", None, TO + r"\2.weight", False),
    (BLOCK + r"(attn_ln|mlp_ln)/Add(_1)?", None, TO + r"\2.bias", False),
    (r".*quantizer.*_codebook/Pow_1", None, "quantizer._codebook.embed", True),
    (r".*quantizer.*/MatMul(_\d+)?", 1, "quantizer._codebook.project_down.weight", True),
)
# Initializers whose names say which layer they belong to.
INITIALIZERS = (
    (r"encoders\.positional_embedding", "encoder.positional_embedding", False),
    (r"encoders\.conv([12])\.(weight|bias)", r"encoder.conv\1.\2", False),
    (r"onnx::Conv_(?:1519|2216)", "encoder.conv1.weight", False),
    (r"onnx::Conv_(?:1520|2217)", "encoder.conv1.bias", False),
    (r"onnx::Conv_(?:1521|2218)", "encoder.conv2.weight", False),
    (r"onnx::Conv_(?:1522|2219)", "encoder.conv2.bias", False),
    (r"(?:.*\.)?blocks\.(\d+)\.attn\.fsmn_block\.weight", TO + "attn.fsmn_block.weight", False),
    (r"onnx::MatMul_2536", "quantizer._codebook.project_down.weight", True),
    (r"quantizer\.project_in\.bias", "quantizer._codebook.project_down.bias", False),
)


def read_onnx(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a speech_tokenizer_*.onnx under the keys of the s3tokenizer package.

    Tensors that belong to no known layer are logged as a warning; those of the quantiser are not, because most of them
    are constants.

    Raises:
        ImportError: the onnx package is missing.
        ValueError: not an ONNX file, or one whose tensors lie outside of it.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise ImportError(f"{path}: reading ONNX needs the onnx package: pip install 'codeczoo[onnx]'") from error
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except DecodeError as error:
        raise ValueError(f"{path}: not a whole ONNX file ({error})") from error
    outside = [t.name for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise ValueError(f"{path}: {len(outside)} tensors lie in other files ({outside[0]} ...); none may")
    held: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            held[node.output[0]] = next(attribute.t for attribute in node.attribute if attribute.name == "value")

    found: dict[str, Tensor] = {}
    taken: set[str] = set()

    def put(key: str, name: str, transposed: bool) -> None:
        taken.add(name)
        tensor = torch.from_numpy(numpy_helper.to_array(held[name]).copy())
        if tensor.numel() > 1:  # a norm's exponent and epsilon are constants too
            found.setdefault(key, tensor.T.contiguous() if transposed and tensor.ndim == 2 else tensor)

    for name in held:
        for pattern, key, transposed in INITIALIZERS:
            if match := re.fullmatch(pattern, name):
                put(match.expand(key), name, transposed)
    for node in graph.node:
        for pattern, place, key, transposed in NODES:
            if match := re.fullmatch(pattern, node.name):
                inputs = node.input if place is None else node.input[place : place + 1]
                for name in inputs:
                    if name in held:
                        put(match.expand(key), name, transposed)
        if node.name.startswith("/quantizer"):
            taken.update(node.input)
    others = [tensor.name for tensor in graph.initializer if tensor.name not in taken and math.prod(tensor.dims) > 1]
    if others:
        log.warning("%s: %d tensors belong to no known part of the network: %s", path, len(others), ", ".join(others))
    return found
