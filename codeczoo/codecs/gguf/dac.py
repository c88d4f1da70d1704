"""DAC in a GGUF file, in either of two layouts: as from transformers, or, from the authors' files, with every
convolution's axes in reverse. Which one is told once a file: a
convolution of width 1 from C to C channels fits both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from codeczoo.base import KeyMap
from codeczoo.base.key_map import RenamedKeyMap
from codeczoo.weights.gguf_layout import GGUFLayout

if TYPE_CHECKING:
    from codeczoo.codecs.dac import DAC

FIRST = "enc.block.0.weight"  # [C, 1, 7], or in reverse
STRIDES = 4


def _names(side: str, short: str) -> tuple[tuple[str, str], ...]:
    last = STRIDES + 1
    return (
        (rf"^{side}\.conv1\.", f"{short}.0."),
        (rf"^{side}\.snake1\.", f"{short}.{last}."),
        (rf"^{side}\.conv2\.", f"{short}.{last + 1}."),
        *((rf"^{side}\.block\.{i}\.", f"{short}.{i + 1}.block.") for i in range(STRIDES)),
    )


RENAMES = (
    *_names("encoder", "enc.block"),
    *_names("decoder", "dec.model"),
    (r"^quantizer\.quantizers\.(\d+)\.", r"vq.q\1."),
)


def _arranged(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    first = tensors.get(FIRST)
    if first is None or first.ndim != 3 or first.shape[0] != 7 or first.shape[1] != 1:
        return dict(tensors)
    turned = {name for name, tensor in tensors.items() if name.endswith(".weight") and tensor.ndim == 3}
    return {name: tensor.permute(2, 1, 0) if name in turned else tensor for name, tensor in tensors.items()}


def _settings(model: DAC) -> dict[str, Any]:
    config = model.config
    return {
        "codec.sample_rate": config.sample_rate,
        "codec.hop_size": model.hop_length,
        "codec.n_q": config.num_codebooks,
        "codec.codebook_size": config.codebook_size,
        "codec.latent_dim": config.latent_channels,
        "codec.codebook_dim": config.codebook_dim,
        "codec.has_encoder": True,
        "codec.has_decoder": True,
    }


def layout(transformers: KeyMap) -> GGUFLayout:
    """The layout of codec.cpp, of the published naming that its converter reads."""
    return GGUFLayout(
        "dac",
        RenamedKeyMap("dac of codec.cpp", transformers.rules, renames=RENAMES),
        _settings,
        unchecked=(r"codec\.latent_dim",),  # 1024 where the authors' file does not say it
        arranged=_arranged,
        quantised=r".+\.weight",
        kept=r"\.codebook\.",
    )
