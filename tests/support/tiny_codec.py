"""A codec of a few hundred weights, published in two namings, for tests of all that surrounds a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from codeczoo.base.catalogue import Variant, WeightsSource
from codeczoo.base.codec import BaseCodec
from codeczoo.base.key_map import KeyMap, Rule


@dataclass(frozen=True)
class TinyConfig:
    """The network's numbers."""

    width: int = 6
    entries: int = 16
    hop: int = 4


class TinyCodec(BaseCodec):
    """A convolution, a norm, a codebook, a transposed convolution."""

    Config = TinyConfig

    def __init__(self, config: TinyConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate, self.hop_length = 16000, config.hop
        self.codebook_sizes, self.codebook_choices = (config.entries,), (1,)
        self.encoder = nn.Conv1d(1, config.width, 2 * config.hop, config.hop)
        self.norm = nn.GroupNorm(1, config.width)
        self.quantizer = nn.ParameterDict({"codebook": torch.empty(config.entries, config.width)})
        self.decoder = nn.ConvTranspose1d(config.width, 1, 2 * config.hop, config.hop)
        self.register_buffer("window", torch.hann_window(2 * config.hop), persistent=False)

    def check_metadata(self, metadata: Mapping[str, Any]) -> None:
        width = metadata.get("kwargs", {}).get("width", self.config.width)
        if width != self.config.width:
            raise ValueError(f"it is a network of width {width}, not {self.config.width}")


TinyCodec.key_maps = (
    KeyMap(
        "the authors'",
        (
            Rule(r"encoder\.(.+)", r"enc.conv.conv.\1"),
            Rule(r"norm\.(.+)", r"enc.norm.\1"),
            Rule(r"quantizer\.codebook", ("vq.embed_sum", "vq.usage"), lambda total, usage: total / usage[:, None]),
            Rule(r"decoder\.(.+)", r"dec.convtr.convtr.\1"),
        ),
        unused=(r"vq\.inited", r"discriminator\..+"),
    ),
    KeyMap(
        "transformers'",
        (
            Rule(r"encoder\.(.+)", r"encoder.layers.0.\1"),
            Rule(r"norm\.(.+)", r"encoder.layers.1.\1"),
            Rule(r"quantizer\.codebook", "quantizer.codebook.embed"),
            Rule(r"decoder\.(.+)", r"decoder.layers.0.\1"),
        ),
    ),
    KeyMap(
        "two files",
        (
            Rule(r"(encoder|norm)\.(.+)", r"CodecEnc.\1.\2"),
            Rule(r"quantizer\.codebook", "generator.codebook"),
            Rule(r"decoder\.(.+)", r"generator.decoder.\1"),
        ),
    ),
)

VARIANT = Variant(
    name="tiny",
    family="tiny",
    codec_class="TinyCodec",
    weights=WeightsSource(repo="someone/tiny", file="model.safetensors"),
    weights_licence="MIT",
    root="tiny",
)


def tiny(**changes: Any) -> TinyCodec:
    """The codec, uninitialised. `changes` are fields of its variant."""
    return TinyCodec(TinyConfig(), replace(VARIANT, **changes))


def truth() -> dict[str, Tensor]:
    """Weights under our names."""
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(value.shape, generator=generator) for name, value in tiny().state_dict().items()}


def published(naming: str, recent: bool = False) -> dict[str, Tensor]:
    """Those weights as they are published: "authors" (weight norm, sums and counts), "transformers" or "two files".

    `recent`: weight norm as torch writes it today.
    """
    ours = truth()
    if naming == "two files":
        encoder = {f"CodecEnc.{name}": t for name, t in ours.items() if name.startswith(("encoder", "norm"))}
        decoder = {f"generator.{name}": t for name, t in ours.items() if name.startswith("decoder")}
        return {**encoder, "generator.codebook": ours["quantizer.codebook"], **decoder}
    if naming == "transformers":
        places = {"encoder": "encoder.layers.0", "norm": "encoder.layers.1", "quantizer": "quantizer.codebook.embed"}
        places["decoder"] = "decoder.layers.0"
        out = {}
        for name, tensor in ours.items():
            place, _, leaf = name.partition(".")
            out[places[place] if place == "quantizer" else f"{places[place]}.{leaf}"] = tensor
        return out
    usage = torch.arange(1.0, 1 + len(ours["quantizer.codebook"]))
    out = {
        "enc.norm.weight": ours["norm.weight"],
        "enc.norm.bias": ours["norm.bias"],
        "vq.embed_sum": ours["quantizer.codebook"] * usage[:, None],
        "vq.usage": usage,
        "vq.inited": torch.tensor([1.0]),
        "discriminator.conv.weight": torch.ones(3),
    }
    wrap = nn.utils.parametrizations.weight_norm if recent else _weight_norm
    for name, place in (("encoder", "enc.conv.conv"), ("decoder", "dec.convtr.convtr")):
        module = getattr(tiny(), name)
        module.load_state_dict({leaf: ours[f"{name}.{leaf}"] for leaf in ("weight", "bias")})
        out |= {f"{place}.{key}": value.detach().clone() for key, value in wrap(module).state_dict().items()}
    return out


def _weight_norm(module: nn.Module) -> nn.Module:
    """Weight norm in its old form, over the first axis: `weight_g` and `weight_v`."""
    weight = module.weight.detach()
    del module.weight
    module.weight_g = nn.Parameter(weight.flatten(1).norm(dim=1).view(-1, 1, 1))
    module.weight_v = nn.Parameter(3 * weight)  # the length of the direction says nothing
    return module
