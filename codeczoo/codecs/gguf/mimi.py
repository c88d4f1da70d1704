"""Mimi in a GGUF file. Its encoder's names are those of Qwen3-TTS too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from codeczoo.base import KeyMap
from codeczoo.base.key_map import Change, RenamedKeyMap, Rule
from codeczoo.nn.rvq import codebook_rule
from codeczoo.weights.gguf_layout import SHORT_ENDS, GGUFLayout

if TYPE_CHECKING:
    from codeczoo.codecs.mimi import Mimi

# From the names of transformers, in turn.
RENAMES = (
    (r"decoder_transformer\.layers\.", "dtr.l"),
    (r"encoder_transformer\.layers\.", "etr.l"),
    (r"decoder\.layers\.", "dec.l"),
    (r"encoder\.layers\.", "enc.l"),
    (r"quantizer\.acoustic_residual_vector_quantizer\.", "q.a."),
    (r"quantizer\.semantic_residual_vector_quantizer\.", "q.s."),
    (r"input_layernorm\.", "inln."),
    (r"post_attention_layernorm\.", "paln."),
    (r"self_attn_layer_scale\.", "sa_ls."),
    (r"mlp_layer_scale\.", "mlp_ls."),
    (r"self_attn\.", "attn."),
    (r"input_proj\.weight", "ip.w"),
    (r"output_proj\.weight", "op.w"),
    (r"downsample\.conv\.weight", "dn.cv.w"),
    (r"upsample\.conv\.weight", "up.cv.w"),
    *SHORT_ENDS,
)
PROJECTIONS = Change(r"q\.[sa]\.[io]p\.w", lambda weight: weight[..., None], lambda weight: weight.squeeze(-1))
SUMS = r"q\.[sa]\.layers\.\d+\.cb\.(es|cu|init)"  # of training; the codebooks made of them are there too


def book_rules(ours: str, book: str, counts: Mapping[str, int]) -> tuple[Rule, ...]:
    """Of the two branches of a quantiser at `ours`; `book` names a codebook there."""
    branches = {"first": "q.s.layers.{}.", "rest": "q.a.layers.{}."}
    return tuple(
        codebook_rule(rf"{ours}\.{name}\.vq\.codebooks", branches[name] + book, n) for name, n in counts.items()
    )


def _diagonal(dense: Tensor) -> Tensor:
    """[C, C, k] → [C, 1, k]: a kernel a channel."""
    if dense.shape[1] == 1:
        return dense
    return dense.diagonal(dim1=0, dim2=1).mT[:, None]


def _dense(depthwise: Tensor) -> Tensor:
    return torch.diag_embed(depthwise[:, 0].mT, dim1=0, dim2=1)


def _settings(model: Mimi) -> dict[str, Any]:
    config = model.config
    return {
        "codec.sample_rate": config.sample_rate,
        "codec.hop_size": model.hop_length,
        "codec.n_q": config.num_codebooks,
        "codec.num_semantic_quantizers": config.num_semantic,
        "codec.codebook_size": config.codebook_size,
        "codec.codebook_dim": config.codebook_dim,
        "codec.latent_dim": config.dim,
        "codec.num_hidden_layers": config.num_layers,
        "codec.num_attention_heads": config.num_heads,
        "codec.head_dim": config.dim // config.num_heads,
        "codec.intermediate_size": config.hidden_dim,
        "codec.has_encoder": True,
        "codec.has_decoder": True,
    }


def _notices(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], model: Mimi) -> list[str]:
    if not any(name.endswith(".cb.cu") for name in tensors):
        return []
    return ["the codebooks are sums by counts of at least 1e-6 (published: 1e-5): entries never used may differ"]


def layout(transformers: KeyMap, counts: Mapping[str, int]) -> GGUFLayout:
    """`counts`: codebooks a branch."""
    return GGUFLayout(
        "mimi",
        RenamedKeyMap(
            "mimi of codec.cpp",
            (*book_rules("quantizer", "codebook.embed", counts), *transformers.rules),
            unused=(
                SUMS,
                r"mimi\.(en|de)code\.kernel",
                r"dec\.transformer\.blocks\..+",  # these and the next: copies of other tensors
                r"up\.r\d+\.c\d\.[wb]",
            ),
            renames=RENAMES,
            changes=(PROJECTIONS, Change(r"up\.cv\.w", _diagonal, _dense)),
        ),
        _settings,
        notices=_notices,
        kept=r"ln\.w$|\.embed$",
    )
