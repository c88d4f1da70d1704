"""SNAC of 24 kHz in a GGUF file: codec.cpp has no attention, which the other variants have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional as F

from codeczoo.base import KeyMap
from codeczoo.base.key_map import Change, RenamedKeyMap
from codeczoo.weights.gguf_layout import SHORT_ENDS, GGUFLayout

if TYPE_CHECKING:
    from codeczoo.codecs.snac import SNAC

UNITS = {0: "act1", 1: "conv1", 2: "act2", 3: "conv2"}
LAST = 5  # place of the encoder's last convolution

RENAMES = (
    (r"^encoder\.block\.0\.", "snac.enc.conv0."),
    (rf"^encoder\.block\.{LAST}\.", "snac.enc.conv_final."),
    *(
        (rf"^encoder\.block\.(\d)\.block\.(\d)\.block\.{i}\.", rf"snac.enc.b\1.r\2.{name}.")
        for i, name in UNITS.items()
    ),
    (r"^encoder\.block\.(\d)\.block\.3\.", r"snac.enc.b\1.act."),
    (r"^encoder\.block\.(\d)\.block\.4\.", r"snac.enc.b\1.down."),
    (r"^quantizer\.quantizers\.(\d)\.codebook\.weight", r"snac.q.\1.codebook"),
    (r"^quantizer\.quantizers\.(\d)\.", r"snac.q.\1."),
    (r"^decoder\.model\.0\.", "snac.dec.conv_in_dw."),
    (r"^decoder\.model\.1\.", "snac.dec.conv_in_pw."),
    (r"^decoder\.model\.6\.", "snac.dec.act_final."),
    (r"^decoder\.model\.7\.", "snac.dec.conv_final."),
    *(
        (rf"^decoder\.model\.{b + 2}\.block\.{unit + 3}\.block\.{i}\.", f"snac.dec.b{b}.r{unit}.{name}.")
        for b in range(4)
        for unit in range(3)
        for i, name in UNITS.items()
    ),
    *(
        (rf"^decoder\.model\.{b + 2}\.block\.{place}\.", f"snac.dec.b{b}.{name}.")
        for b in range(4)
        for place, name in (("0", "act"), ("1", "convtr"), (r"2\.linear", "noise"))
    ),
    *SHORT_ENDS,
)


def _settings(model: SNAC) -> dict[str, Any]:
    config = model.config
    return {
        "codec.sample_rate": config.sample_rate,
        "codec.encode_sample_rate": config.sample_rate,
        "codec.hop_size": model.hop_length,
        "codec.pad_to": model.hop_length * config.vq_strides[0],
        "codec.n_q": len(config.vq_strides),
        "codec.codebook_size": config.codebook_size,
        "codec.codebook_dim": config.codebook_dim,
        "codec.latent_dim": config.encoder_dim << len(config.encoder_rates),
        "codec.has_encoder": True,
        "codec.has_decoder": True,
        "snac.encoder_rates": config.encoder_rates,
        "snac.decoder_rates": config.decoder_rates,
        "snac.vq_strides": config.vq_strides,
        "snac.encoder_dim": config.encoder_dim,
        "snac.decoder_dim": config.decoder_dim,
        "snac.depthwise": True,
        "snac.noise": True,
    }


def _directions(model: SNAC, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    books = {name: tensor for name, tensor in tensors.items() if name.endswith(".codebook")}
    return {f"{name}_norm": F.normalize(tensor, dim=-1, eps=1e-12) for name, tensor in books.items()}


def layout(authors: KeyMap) -> GGUFLayout:
    """The layout of codec.cpp, of the published naming that its converter reads."""
    return GGUFLayout(
        "snac",
        RenamedKeyMap(
            "snac of codec.cpp",
            authors.rules,
            unused=(r"snac\.q\.\d+\.codebook_norm",),
            renames=RENAMES,
            changes=(Change(r".+\.alpha", lambda alpha: alpha.reshape(1, -1, 1), lambda alpha: alpha.flatten()),),
        ),
        _settings,
        more=_directions,
        refusal=lambda model: "codec.cpp knows SNAC of 24 kHz only, without attention" if model.config.window else None,
        float32=r".+\.(b|alpha)",
    )
