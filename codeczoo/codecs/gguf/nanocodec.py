"""NanoCodec in a GGUF file. codec.cpp has the strides of the 12.5 Hz variants built in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from codeczoo.base import KeyMap
from codeczoo.base.key_map import Change, RenamedKeyMap
from codeczoo.weights.gguf_layout import SHORT_ENDS, GGUFLayout

if TYPE_CHECKING:
    from codeczoo.codecs.nanocodec import NanoCodec

STRIDES = (2, 3, 6, 7, 7)  # that its loader takes for granted
SNAKE = r"activation\.snake_act\.alpha"

RENAMES = (
    (r"^audio_encoder\.", "nemo.enc."),
    (r"^audio_decoder\.", "nemo.dec."),
    (r"\.(pre|post)_conv\.conv\.", r".\1."),
    (r"\.down_sample_conv_layers\.(\d+)\.conv\.", r".down.\1."),
    (r"\.up_sample_conv_layers\.(\d+)\.conv\.", r".up.\1."),
    (r"\.res_layers\.(\d+)\.res_blocks\.(\d+)\.res_blocks\.(\d+)\.", r".res.l\1.b\2.r\3."),
    (r"\.input_conv\.conv\.", ".in."),
    (r"\.skip_conv\.conv\.", ".sk."),
    (rf"\.input_activation\.{SNAKE}$", ".in.a"),
    (rf"\.skip_activation\.{SNAKE}$", ".sk.a"),
    (rf"\.activations\.(\d+)\.{SNAKE}$", r".act.\1.a"),
    (rf"\.post_activation\.{SNAKE}$", ".post.a"),
    *SHORT_ENDS,
)


def _grouped(dense: Tensor) -> Tensor:
    """[in, in / 2, k], each row zero but for one output → [in, 1, k]: of each two inputs one output is made."""
    if dense.shape[1] == 1:
        return dense
    rows = torch.arange(len(dense))
    return dense[rows, rows // 2][:, None]


def _dense(grouped: Tensor) -> Tensor:
    inputs, _, kernel = grouped.shape
    rows, dense = torch.arange(inputs), grouped.new_zeros(inputs, inputs // 2, kernel)
    dense[rows, rows // 2] = grouped[:, 0]
    return dense


def _settings(model: NanoCodec) -> dict[str, Any]:
    config = model.config
    return {
        "codec.sample_rate": config.sample_rate,
        "codec.hop_size": model.hop_length,
        "codec.n_q": config.num_codebooks,
        "codec.codebook_size": model.codebook_sizes[0],
        "codec.codebook_dim": len(config.levels),
        "codec.latent_dim": config.latent_dim,
        "codec.has_encoder": True,
        "codec.has_decoder": True,
    }


def _constants(model: NanoCodec, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of the quantiser."""
    levels = torch.tensor(model.config.levels, dtype=torch.float64)
    fsq, size = model.quantizer, model.codebook_sizes[0]
    half = (levels - 1) / 2 * fsq.scale
    offset = torch.where(levels % 2 == 0, 0.5, 0.0).double()
    places = torch.cumprod(torch.cat([torch.ones(1), levels[:-1]]), 0)
    groups = model.config.num_codebooks
    codes = torch.arange(size, device=model.device)[None, None].expand(1, groups, size)
    book = fsq.decode(codes)[0, : len(levels)].mT
    constants = {
        "scale": levels // 2,
        "out_scale": half,
        "out_offset": offset,
        "in_shift": torch.tan(offset / half),
        "dim_base": places,
        **{f"codebook.{group}": book for group in range(groups)},
    }
    return {f"nemo.fsq.{name}": tensor.float() for name, tensor in constants.items()}


def _refusal(model: NanoCodec) -> str | None:
    if tuple(model.config.strides) == STRIDES:
        return None
    return "codec.cpp has the strides of the variants of 12.5 frames a second built in, and could not run it"


def layout(nemo: KeyMap) -> GGUFLayout:
    """The layout of codec.cpp, of the published naming that its converter reads."""
    return GGUFLayout(
        "nemo_nano_codec",
        RenamedKeyMap(
            "nanocodec of codec.cpp",
            nemo.rules,
            unused=(r"nemo\.fsq\..+",),
            renames=RENAMES,
            changes=(
                Change(r"nemo\.dec\.up\.\d+\.w", _grouped, _dense),
                Change(r"nemo\..+\.a", lambda alpha: alpha.reshape(1, -1, 1), lambda alpha: alpha.flatten()),
            ),
        ),
        _settings,
        more=_constants,
        refusal=_refusal,
        named=False,
    )
