"""Layers one after the other, each told where its items end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor, nn

from codeczoo.nn.bfloat16 import in_bfloat16, linear


class Layers(nn.Module):
    """[B, C, T] → [B, C', T'] through layers (x, lengths) → x'; one that changes the rate has an `out_length`.

    The layers are numbered, or named if a mapping is given.
    """

    def __init__(self, layers: Iterable[nn.Module] | Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.layers: nn.ModuleDict | nn.ModuleList
        self.layers = nn.ModuleDict(layers) if isinstance(layers, Mapping) else nn.ModuleList(layers)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.layers.values() if isinstance(self.layers, nn.ModuleDict) else self.layers)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        for layer in self:
            x = layer(x, lengths)
            if lengths is not None and hasattr(layer, "out_length"):
                lengths = layer.out_length(lengths)
        return x


class Linear(nn.Linear):
    """`nn.Linear` that draws no initial values: its weights come from a checkpoint."""

    def reset_parameters(self) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        return linear(self, x) if in_bfloat16(self.weight) else super().forward(x)
