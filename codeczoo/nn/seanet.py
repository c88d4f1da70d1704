"""SEANet, the convolutional encoder and decoder of EnCodec (arXiv 2210.13438) and of the many codecs built on it.

    encoder: conv, then for each stride: residual unit, activation, strided conv; [LSTM]; activation, conv
    decoder: conv; [LSTM]; then for each stride: activation, transposed conv, residual unit; activation, conv

Layers lie in one flat list whose indices are the published ones, activations counted. Where an activation's input is
needed by nobody else it runs in place.

Streaming of a causal net. Under zero padding, `initial_state` is the state at a clip's start, and `step` goes on from
there. Under reflection a conv's first outputs see samples 1 to `left` mirrored before sample 0, so they are unknown
until those samples have come. Therefore `first_chunk(x)` takes the first steps of a clip at once, at least `warmup` of
them (then every layer has all its mirrored samples), and gives their outputs and the state after them; the caller holds
earlier input back (`nn.stream_warmup`). After that `step` sees real samples only. At a clip's end a strided conv's last
window may be incomplete (`pad_to_full_window`); with `lengths` it is completed item by item.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from codeczoo.base.exporting import exporting
from codeczoo.base.key_map import Rule
from codeczoo.base.ragged import pad_stack
from codeczoo.base.strategy import tile_scale
from codeczoo.nn.conv import Conv1d, ConvTranspose1d, Length
from codeczoo.nn.group_norm import GroupNorm
from codeczoo.nn.inplace import overwritable
from codeczoo.nn.lstm import LSTM, BidirectionalLSTM
from codeczoo.nn.padding import zero_tail_

Activation = Callable[[int, bool], nn.Module]  # (channels, inplace) -> module
State = list[Any]  # one entry a layer that mixes time steps

# A CPU spends as long on allocating and fetching large activations as on computing them, so it runs in tiles:
CACHE_TILE_VALUES = 1 << 21  # values of a tile's largest activation (8 MiB of float32)
MIN_HOPS_PER_TILE = 10  # shorter tiles are limited by reading the weights, not the activations


def elu(channels: int, inplace: bool) -> nn.Module:
    """The activation of EnCodec's SEANet; it needs no channels."""
    return nn.ELU(inplace=inplace)


class NormedConv1d(Conv1d):
    """A convolution and, with `norm`, a GroupNorm of one group over its output."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, norm: bool = False, **options: Any):
        super().__init__(in_channels, out_channels, kernel_size, **options)
        self.norm = GroupNorm(1, out_channels) if norm else None

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        y = super().forward(x, lengths)
        if self.norm is None:
            return y
        return self.norm(y, None if lengths is None else self.out_length(lengths))


class NormedConvTranspose1d(ConvTranspose1d):
    """As `NormedConv1d`; the statistics are of the full output, before it is trimmed."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, *, norm: bool = False, **options: Any
    ):
        super().__init__(in_channels, out_channels, kernel_size, stride, **options)
        self.norm = GroupNorm(1, out_channels) if norm else None

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if self.norm is None:
            return super().forward(x, lengths)
        x = zero_tail_(x, lengths, -(-self.kernel_size // self.stride))
        y = self.convolve(x)
        full = None if lengths is None else (lengths - 1) * self.stride + self.kernel_size
        return self.norm(y, full)[..., self.left : y.shape[-1] - self.right]


class ResidualUnit(nn.Module):
    """x plus activation, conv to 1 / `compress` of the channels, activation, conv k1 back; x through a conv k1 if
    `conv_shortcut`."""

    def __init__(
        self,
        channels: int,
        kernel: int,
        dilation: int,
        conv_shortcut: bool,
        activation: Activation,
        *,
        compress: int = 2,
        **options: Any,
    ):
        super().__init__()
        hidden = channels // compress
        self.block: Any = nn.ModuleList(
            [
                activation(channels, False),
                NormedConv1d(channels, hidden, kernel, dilation=dilation, **options),
                activation(hidden, True),
                NormedConv1d(hidden, channels, 1, **options),
            ]
        )
        self.shortcut = NormedConv1d(channels, channels, 1, **options) if conv_shortcut else nn.Identity()

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self._finish(x, self.block[1](self.block[0](x), lengths), lengths)

    def initial_state(self, batch_size: int) -> Tensor:
        return self.block[1].initial_state(batch_size)

    def first_chunk(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, state = self.block[1].first_chunk(self.block[0](x), lengths)
        return self._finish(x, y, lengths), state

    def step(self, x: Tensor, state: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, state = self.block[1].step(self.block[0](x), state, lengths)
        return self._finish(x, y, lengths), state

    def _finish(self, x: Tensor, y: Tensor, lengths: Tensor | None) -> Tensor:
        y = self.block[3](self.block[2](y), lengths)
        return y.add_(self.shortcut(x) if isinstance(self.shortcut, nn.Identity) else self.shortcut(x, lengths))


STREAMED = (Conv1d, ConvTranspose1d, ResidualUnit, LSTM)  # layers that mix time steps and can stream if causal
TIME = (*STREAMED, BidirectionalLSTM)


class SEANetStack(nn.Module):
    """Layers one after the other, for whole clips and for chunks."""

    layers: Any  # an nn.ModuleList
    time_tiled = False  # causal: a CPU may run it from one tile of time to the next, through state

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """[B, C, T], lengths [B] or None → [B, C', T'], lengths in the steps of the output.

        x is not changed (except a ragged batch's unspecified values). A CPU runs it in tiles that fit its cache.
        """
        out_lengths = None if lengths is None else self.out_length(lengths)
        if exporting():
            return _through(self.layers, x, lengths), out_lengths
        if x.device.type == "cpu" and not self.time_tiled:
            return self._run_in_batch_tiles(x, lengths), out_lengths
        if x.device.type == "cpu":
            return self._run_in_time_tiles(x, None, lengths)[0], out_lengths
        return _through(self.layers, x, lengths), out_lengths

    def initial_state(self, batch_size: int) -> State:
        """State at a clip's start under zero padding; under reflection it only has the right shapes."""
        return [layer.initial_state(batch_size) for layer in self.layers if isinstance(layer, STREAMED)]

    def first_chunk(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """The first steps of clips under the net's own padding → outputs, and the state after them.

        At least `warmup` steps, or the whole clip; whole hops, unless the clip ends here. `lengths` [B] say where each
        item ends (T for an item that goes on).
        """
        return self._run_in_time_tiles(x, None, lengths)

    def step(self, x: Tensor, state: State, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """The next steps → outputs, and the state after them. Shapes are fixed.

        Whole hops, or the clip ends here; `lengths` as in `first_chunk`, 0 where an item has ended before.
        """
        return self._run_in_time_tiles(x, state, lengths)

    def _run_in_time_tiles(self, x: Tensor, state: State | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        """On a CPU the whole batch, tile after tile of time, through state; elsewhere all at once."""
        if x.device.type != "cpu" or not self.time_tiled:
            return self._run(x, state, lengths)
        values, rate = self._widest
        hop = max(math.ceil(1 / rate), 1)
        size = int(tile_scale() * CACHE_TILE_VALUES)
        length = max(size // math.ceil(len(x) * values * hop), MIN_HOPS_PER_TILE) * hop
        length, total = max(length, self.warmup), x.shape[-1]
        starts = range(0, max(total - length, 0) + 1, length)  # the last one takes the rest with it
        out = []
        for start in starts:
            stop = start + length if start != starts[-1] else total
            own = None if lengths is None else (lengths - start).clamp(0, stop - start)
            if own is not None and bool((own == stop - start).all()):
                own = None
            y, state = self._run(x[..., start:stop], state, own)
            out.append(y)
        assert state is not None
        return out[0] if len(out) == 1 else torch.cat(out, dim=-1), state

    def _run(self, x: Tensor, state: State | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        states: State = []
        for layer in self.layers:
            if not isinstance(layer, STREAMED):
                x = layer(x)
                continue
            own = () if lengths is None or not isinstance(layer, Conv1d | ResidualUnit) else (lengths,)
            x, new = layer.first_chunk(x, *own) if state is None else layer.step(x, state[len(states)], *own)
            states.append(new)
            lengths = _after(layer, lengths)
        return x, states

    def _run_in_batch_tiles(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """A few items at a time, or one by one at their own lengths if these differ; together through an LSTM, which
        is faster."""
        values, _ = self._widest
        size = int(tile_scale() * CACHE_TILE_VALUES)
        rows = max(size // math.ceil(values * x.shape[-1]), 1) if overwritable(x) else len(x)
        if lengths is None and rows >= len(x):
            return _through(self.layers, x, None)
        for recurrent, run in itertools.groupby(self.layers, lambda layer: isinstance(layer, LSTM | BidirectionalLSTM)):
            layers = list(run)
            if recurrent:
                x = _through(layers, x, lengths)
            elif lengths is None:
                x = torch.cat([_through(layers, part, None) for part in x.split(rows)])
            else:
                own = [x[i : i + 1, :, :length] for i, length in enumerate(lengths.tolist())]
                if not overwritable(x):
                    own = [item.clone() for item in own]  # of which one may be written into without the others
                items = [_through(layers, item, None)[0] for item in own]
                x, lengths = pad_stack(items)
        return x

    def out_length(self, length: Length) -> Length:
        """Steps that `length` input steps give."""
        for layer in self.layers:
            length = _after(layer, length)
        return length

    def _rates(self) -> Iterator[tuple[Any, Fraction]]:
        """The layers that change the channels or the rate, and the steps each gives for one of the input."""
        rate = Fraction(1)
        for layer in self.layers:
            if isinstance(layer, Conv1d):
                rate /= layer.stride
            elif isinstance(layer, ConvTranspose1d):
                rate *= layer.stride
            yield layer, rate

    @property
    def _widest(self) -> tuple[Fraction, Fraction]:
        """Values of the largest activation for each input step, and the steps of the output for each."""
        values, rate = Fraction(1), Fraction(1)
        for layer, rate in self._rates():
            if isinstance(layer, Conv1d | ConvTranspose1d):
                channels = layer.weight.shape[isinstance(layer, ConvTranspose1d)]
                values = max(values, channels * rate)
        return values, rate

    @property
    def warmup(self) -> int:
        """Input steps that `first_chunk` needs so that every layer has its mirrored samples; 0 if no layer mirrors."""
        need, before = 0, Fraction(1)  # before: the layer's input steps for one of the net's
        for layer, rate in self._rates():
            conv = layer.block[1] if isinstance(layer, ResidualUnit) else layer
            if isinstance(conv, Conv1d) and conv.pad_mode == "reflect" and conv.left:
                need = max(need, math.ceil((conv.left + 1) / before))
            before = rate
        hop = max(math.ceil(1 / before), 1)
        return -(-need // hop) * hop


def _after(layer: Any, length: Any) -> Any:
    """A length behind a layer: int, tensor, or None as it is."""
    changes = length is not None and isinstance(layer, Conv1d | ConvTranspose1d)
    return layer.out_length(length) if changes else length


def _through(layers: Iterable[nn.Module], x: Tensor, lengths: Tensor | None) -> Tensor:
    for layer in layers:
        x = layer(x, lengths) if isinstance(layer, TIME) else layer(x)
        lengths = _after(layer, lengths)
    return x


class SEANetEncoder(SEANetStack):
    """Waveform [B, channels, T] → latents [B, dimension, N], N = ceil(T / hop_length) with `pad_to_full_window`."""

    def __init__(
        self,
        channels: int = 1,
        dimension: int = 128,
        filters: int = 32,
        strides: Sequence[int] = (2, 4, 5, 8),
        *,
        kernel: int = 7,
        last_kernel: int = 7,
        residual_kernel: int = 3,
        residual_dilations: Sequence[int] = (1,),
        conv_shortcut: bool = True,
        lstm_layers: int = 2,
        bidirectional: bool = False,
        causal: bool = True,
        pad_mode: str = "reflect",
        pad_to_full_window: bool = True,
        norm: bool = False,
        activation: Activation = elu,
    ) -> None:
        """`strides` in the order in which they run; width doubles with each. `norm`: GroupNorm after each conv."""
        super().__init__()
        self.hop_length, self.time_tiled = math.prod(strides), causal
        padding = "causal" if causal else "same"
        options: dict[str, Any] = {
            "padding": padding,
            "pad_mode": pad_mode,
            "pad_to_full_window": pad_to_full_window,
            "norm": norm,
        }
        layers: list[nn.Module] = [NormedConv1d(channels, filters, kernel, **options)]
        width = filters
        for stride in strides:
            for dilation in residual_dilations:
                layers.append(ResidualUnit(width, residual_kernel, dilation, conv_shortcut, activation, **options))
            layers.append(activation(width, True))
            layers.append(NormedConv1d(width, 2 * width, 2 * stride, stride=stride, **options))
            width *= 2
        if lstm_layers and bidirectional:
            layers.append(BidirectionalLSTM(width, lstm_layers))
            width *= 2
        elif lstm_layers:
            layers.append(LSTM(width, lstm_layers))
        layers += [activation(width, True), NormedConv1d(width, dimension, last_kernel, **options)]
        self.layers = nn.ModuleList(layers)


class SEANetDecoder(SEANetStack):
    """Latents [B, dimension, N] → waveform [B, channels, N * hop_length]. No activation at the end."""

    def __init__(
        self,
        channels: int = 1,
        dimension: int = 128,
        filters: int = 32,
        strides: Sequence[int] = (8, 5, 4, 2),
        *,
        kernel: int = 7,
        last_kernel: int = 7,
        residual_kernel: int = 3,
        residual_dilations: Sequence[int] = (1,),
        conv_shortcut: bool = True,
        lstm_layers: int = 2,
        causal: bool = True,
        pad_mode: str = "reflect",
        pad_to_full_window: bool = True,
        norm: bool = False,
        activation: Activation = elu,
    ) -> None:
        """`strides` in the order in which they run; width halves with each, down to `filters`."""
        super().__init__()
        self.hop_length, self.time_tiled = math.prod(strides), causal
        padding = "causal" if causal else "same"
        options: dict[str, Any] = {
            "padding": padding,
            "pad_mode": pad_mode,
            "pad_to_full_window": pad_to_full_window,
            "norm": norm,
        }
        width = filters * 2 ** len(strides)
        layers: list[nn.Module] = [NormedConv1d(dimension, width, kernel, **options)]
        if lstm_layers:
            layers.append(LSTM(width, lstm_layers))
        for stride in strides:
            layers.append(activation(width, True))
            layers.append(NormedConvTranspose1d(width, width // 2, 2 * stride, stride, trim=padding, norm=norm))
            width //= 2
            for dilation in residual_dilations:
                layers.append(ResidualUnit(width, residual_kernel, dilation, conv_shortcut, activation, **options))
        layers += [activation(width, True), NormedConv1d(width, channels, last_kernel, **options)]
        self.layers = nn.ModuleList(layers)


def seanet_rules(ours: str, authors: str, transposed: Sequence[int] = ()) -> tuple[Rule, ...]:
    """Rules from the parameters of a net at `ours` ("encoder") to the names that EnCodec's code gives it at `authors`
    ("encoder.model"). `transposed` are the indices of its transposed convs ((3, 6, 9, 12) with an LSTM)."""
    at, to = re.escape(ours) + r"\.layers\.", authors
    up = "|".join(str(i) for i in transposed) or "none"
    return (
        Rule(rf"{at}(\d+)\.lstm\.(\w+)", rf"{to}.\1.lstm.\2"),
        Rule(rf"{at}(\d+)\.ahead\.(\d+)\.(\w+)_l0", rf"{to}.\1.lstm.\3_l\2"),
        Rule(rf"{at}(\d+)\.back\.(\d+)\.(\w+)_l0", rf"{to}.\1.lstm.\3_l\2_reverse"),
        Rule(rf"{at}((?:\d+\.block\.)?\d+)\.alpha", rf"{to}.\1.alpha"),  # snake
        Rule(rf"{at}({up})\.norm\.(\w+)", rf"{to}.\1.convtr.norm.\2"),
        Rule(rf"{at}({up})\.(weight|bias)", rf"{to}.\1.convtr.convtr.\2"),
        Rule(rf"{at}(.+)\.norm\.(\w+)", rf"{to}.\1.conv.norm.\2"),
        Rule(rf"{at}(.+)\.(weight|bias)", rf"{to}.\1.conv.conv.\2"),
    )


def seanet_rules_transformers(ours: str, theirs: str) -> tuple[Rule, ...]:
    """As `seanet_rules`, for the names that transformers gives it at `theirs` ("encoder.layers")."""
    at = re.escape(ours) + r"\.layers\."
    return (
        Rule(rf"{at}(\d+)\.lstm\.(\w+)", rf"{theirs}.\1.lstm.\2"),
        Rule(rf"{at}(.+)\.norm\.(\w+)", rf"{theirs}.\1.norm.\2"),
        Rule(rf"{at}(.+)\.(weight|bias)", rf"{theirs}.\1.conv.\2"),
    )
