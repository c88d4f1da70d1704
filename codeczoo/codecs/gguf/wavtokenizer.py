"""WavTokenizer in a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from codeczoo.base import KeyMap
from codeczoo.base.key_map import Change, RenamedKeyMap
from codeczoo.weights.gguf_layout import GGUFLayout

if TYPE_CHECKING:
    from codeczoo.codecs.wavtokenizer import WavTokenizer

RENAMES = (
    (r"^feature_extractor\.encodec\.encoder\.", "enc."),
    (r"^feature_extractor\.encodec\.quantizer\.", "vq."),
    (r"^backbone\.", "dec.bb."),
    (r"^head\.", "dec.head."),
    (r"\.convnext\.", ".cnx."),
    (r"\.final_layer_norm\.", ".fln."),
)


ENCODER_STRIDES = (2, 4, 5, 8)  # built into codec.cpp: of the variants of 75 tokens a second


def _settings(model: WavTokenizer) -> dict[str, Any]:
    return {
        "codec.sample_rate": model.sample_rate,
        "codec.hop_size": model.hop_length,
        "codec.has_encoder": _limit(model) is None,
        "codec.has_decoder": True,
    }


def _limit(model: WavTokenizer) -> str | None:
    if tuple(model.config.strides) == ENCODER_STRIDES:
        return None
    return "codec.cpp can decode with it and not encode: it has the encoder's strides of 75 tokens a second built in"


def _notices(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], model: WavTokenizer) -> list[str]:
    hop = metadata.get("codec.hop_size")
    if hop in (None, model.hop_length):
        return []
    return [
        f"it says that a frame has {hop} samples, as its converter always does; this model's have {model.hop_length}"
    ]


def layout(authors: KeyMap) -> GGUFLayout:
    """The layout of codec.cpp, of the published naming that its converter reads."""
    return GGUFLayout(
        "wavtokenizer_large",
        RenamedKeyMap(
            "wavtokenizer of codec.cpp",
            authors.rules,
            unused=(
                r"dec\.feat\..+",  # a whole EnCodec decoder
                r"vq\..+\.(embed_avg|cluster_size|inited)",
                r"dec\.head\.istft\.window",  # computed here
                r"wt\.(en|de)code\.kernel",
            ),
            renames=RENAMES,
            changes=(Change(r"enc\..+\.lstm\.weight_.+", lambda weight: weight.mT, lambda weight: weight.mT),),
        ),
        _settings,
        unchecked=(r"codec\.(hop_size|has_encoder)",),
        notices=_notices,
        limit=_limit,
        quantised=r".+\.weight",
        kept=r"\.norm\.(scale|shift)\.weight$|\.norm\.weight$",
    )
