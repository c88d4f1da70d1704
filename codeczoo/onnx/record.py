"""Recording a graph: torch.export, then torch's translation to ONNX.

torch.export refuses a graph that holds for its example's sizes alone. The older exporter of torch, by TorchScript,
writes such a graph without a word, and lacks operators that codecs use (asinh, inverse Fourier transforms).
"""

from __future__ import annotations

import contextlib
import io
import logging
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from codeczoo.base.exporting import plain_graph

OPSET = 20


def record(
    graph: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    moving: Mapping[str, Mapping[int, str]],
) -> Any:
    """A graph as a `torch.onnx.ONNXProgram`, whose batch and time axes are free.

    Args:
        inputs: an example of each, in order. Its sizes stand for any, so none of the free ones is 0 or 1.
        moving: the free axes of inputs and outputs, with their names.

    Raises:
        ImportError: no extra [onnx].
        RuntimeError and others of torch: the graph cannot be recorded.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError('ONNX needs packages that are not installed: pip install "codeczoo[onnx]"') from error
    codes, *others = (dict.fromkeys(moving.get(name, {}), Dim.DYNAMIC) for name in inputs)
    shapes = (codes, tuple(others)) if others else (codes,)
    with torch.no_grad(), plain_graph(), _quiet():
        exported = torch.export.export(graph, tuple(inputs.values()), dynamic_shapes=shapes, strict=False)
        program = torch.onnx.export(
            exported,
            (),
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            custom_translation_table={operator.floordiv: _floor_divided},
            verbose=False,
        )
    assert program is not None
    _name_axes(program.model, moving)
    return program


def _floor_divided(a: Any, b: Any) -> Any:
    """Python's a // b of whole numbers. ONNX's division rounds towards 0, and torch 2.13 takes it as it is: -7 // 2
    would be -3, and a frame be lost wherever a length is rounded up."""
    from onnxscript import opset20 as op

    return op.Div(op.Sub(a, op.Mod(a, b)), b)


def _name_axes(model: Any, moving: Mapping[str, Mapping[int, str]]) -> None:
    """Free axes get their names instead of torch's symbols."""
    from onnx_ir import Shape, SymbolicDim

    for value in (*model.graph.inputs, *model.graph.outputs):
        axes = moving.get(value.name, {})
        value.shape = Shape([SymbolicDim(axes[i]) if i in axes else size for i, size in enumerate(value.shape)])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress and the warnings of torch and onnxscript; what fails is raised."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.fx", "torch.export", "onnxscript", "onnx_ir")]
    before = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)
