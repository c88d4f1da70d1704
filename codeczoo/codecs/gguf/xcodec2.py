"""X-Codec 2 in a GGUF file.

Its converter throws away the second parameter of the encoder's activations, to agree with what newer versions of
transformers make of the checkpoint. Files written here keep it; codec.cpp computes with what is in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from codeczoo.base import KeyMap
from codeczoo.base.key_map import RenamedKeyMap
from codeczoo.codecs.gguf.snake_beta import changes
from codeczoo.nn.alias_free import half_band_filter
from codeczoo.nn.fbank import BANDS, FLOOR, FRAME, HOP, N_FFT, PREEMPHASIS, w2v_bert_filters
from codeczoo.nn.fsq import FSQ
from codeczoo.weights.gguf_layout import SHORT_ENDS, GGUFLayout

if TYPE_CHECKING:
    from codeczoo.codecs.xcodec2 import XCodec2

UNITS = {r"0\.act": "act1", "1": "conv1", r"2\.act": "act2", "3": "conv2"}
W2V = {
    r"ffn(\d)_layer_norm": r"ffn\1_ln",
    r"ffn(\d)\.intermediate_dense": r"ffn\1.fc1",
    r"ffn(\d)\.output_dense": r"ffn\1.fc2",
    "self_attn_layer_norm": "attn_ln",
    r"self_attn\.linear_q": "attn.q",
    r"self_attn\.linear_k": "attn.k",
    r"self_attn\.linear_v": "attn.v",
    r"self_attn\.linear_out": "attn.o",
    r"self_attn\.distance_embedding": "attn.dist",
    r"conv_module\.layer_norm": "conv.ln",
    r"conv_module\.pointwise_conv(\d)": r"conv.pw\1",
    r"conv_module\.depthwise_conv": "conv.dw",
    r"conv_module\.depthwise_layer_norm": "conv.dw_ln",
    "final_layer_norm": "final_ln",
}
ADAPTER = {"initial_conv": "initial", r"residual_blocks\.1": "r1", r"residual_blocks\.3": "r3", "final_conv": "final"}
BACKBONE = {
    "embed": "embed",
    r"prior_net\.(\d)": r"prior.\1",
    r"post_net\.(\d)": r"post.\1",
    "final_layer_norm": "final_ln",
    r"transformers\.(\d+)": r"transformer.\1",
}


def _moved(name: str) -> str:
    """A replacement behind a first group, its own group the second."""
    return r"\1." + name.replace(r"\1", r"\2") + "."


RENAMES = (
    (r"^CodecEnc\.conv_blocks\.0\.", "xcodec2.enc.codec.conv0."),
    (r"^CodecEnc\.conv_final_block\.0\.act\.", "xcodec2.enc.codec.final.act."),
    (r"^CodecEnc\.conv_final_block\.1\.", "xcodec2.enc.codec.final.conv."),
    *(
        (rf"^CodecEnc\.conv_blocks\.(\d)\.block\.(\d)\.block\.{place}\.", rf"xcodec2.enc.codec.b\1.r\2.{name}.")
        for place, name in UNITS.items()
    ),
    (r"^CodecEnc\.conv_blocks\.(\d)\.block\.3\.act\.", r"xcodec2.enc.codec.b\1.act."),
    (r"^CodecEnc\.conv_blocks\.(\d)\.block\.4\.", r"xcodec2.enc.codec.b\1.down."),
    (r"^semantic_model\.feature_projection\.layer_norm\.", "xcodec2.w2v.feat_ln."),
    (r"^semantic_model\.feature_projection\.projection\.", "xcodec2.w2v.feat_proj."),
    (r"^semantic_model\.encoder\.layers\.(\d+)\.", r"xcodec2.w2v.l\1."),
    *((rf"^(xcodec2\.w2v\.l\d+)\.{theirs}\.", _moved(name)) for theirs, name in W2V.items()),
    *((rf"^SemanticEncoder_module\.{theirs}\.", f"xcodec2.sem.{name}.") for theirs, name in ADAPTER.items()),
    (r"^fc_prior\.", "xcodec2.enc.fc_prior."),
    (r"^generator\.quantizer\.project_in\.", "xcodec2.enc.quant.project_in."),
    (r"^generator\.quantizer\.project_out\.", "xcodec2.decode.quant.project_out."),
    (r"^fc_post_a\.", "xcodec2.decode.fc_post_a."),
    *((rf"^generator\.backbone\.{theirs}\.", f"xcodec2.decode.{name}.") for theirs, name in BACKBONE.items()),
    (r"^generator\.head\.", "xcodec2.decode.head."),
    (r"\.beta$", ".inv_beta"),
    *SHORT_ENDS,
)


def _settings(model: XCodec2) -> dict[str, Any]:
    config = model.config
    return {
        "codec.sample_rate": config.sample_rate,
        "codec.encode_sample_rate": config.sample_rate,
        "codec.hop_size": model.hop_length,
        "codec.n_fft": config.windows_per_hop * model.hop_length,
        "codec.n_q": 1,
        "codec.codebook_size": model.codebook_sizes[0],
        "codec.codebook_dim": len(config.digits),
        "codec.latent_dim": config.dim,
        "codec.has_encoder": True,
        "codec.has_decoder": True,
        "xcodec2.hidden_dim": config.dim,
        "xcodec2.vq_dim": 2 * config.dim,
        "xcodec2.num_layers": config.decoder_layers,
        "xcodec2.num_heads": config.decoder_heads,
        "xcodec2.head_dim": config.dim // config.decoder_heads,
        "xcodec2.rope_theta": 10000.0,
        "xcodec2.enc.ngf": config.encoder_dim,
        "xcodec2.enc.up_ratios": config.strides,
        "xcodec2.enc.dilations": (1, 3, 9),
        "xcodec2.w2v.layers": config.semantic_layers,
        "xcodec2.w2v.hidden": config.dim,
        "xcodec2.w2v.heads": config.semantic_heads,
        "xcodec2.w2v.head_dim": config.dim // config.semantic_heads,
        "xcodec2.w2v.intermediate": config.semantic_hidden,
        "xcodec2.w2v.left_max_pos": 64,
        "xcodec2.w2v.right_max_pos": 8,
        "xcodec2.w2v.dw_kernel": 31,
        "xcodec2.w2v.layer_norm_eps": 1e-5,
        "xcodec2.w2v.input_dim": 2 * BANDS,
        "codec.mel.sample_rate": config.sample_rate,
        "codec.mel.n_mels": BANDS,
        "codec.mel.n_fft": N_FFT,
        "codec.mel.win_length": FRAME,
        "codec.mel.hop_length": HOP,
        "codec.mel.preemphasis": PREEMPHASIS,
        "codec.mel.mel_floor": FLOOR,
        "codec.mel.stride": 2,
        "codec.mel.remove_dc_offset": True,
        "codec.mel.normalize_per_mel_bins": True,
    }


def _notices(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], model: XCodec2) -> list[str]:
    inverses = [tensor for name, tensor in tensors.items() if name.endswith(".inv_beta")]
    if not inverses or not all(bool((tensor - 1).abs().max() < 1e-6) for tensor in inverses):
        return []
    lost = (
        "its converter threw away the trained beta of the encoder's activations, so its tokens are not those of the "
        "published checkpoint (decoding is not concerned)"
    )
    return [lost]


def _more(model: XCodec2, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The codebook that the digits stand for, and what codec.cpp does not compute itself."""
    window, filters = w2v_bert_filters(torch.float32, torch.device("cpu"))
    fsq, size = FSQ(model.config.digits), model.codebook_sizes[0]
    return {
        "xcodec2.decode.codebook": fsq.decode(torch.arange(size)[None])[0].mT,
        "xcodec2.decode.istft.window": torch.hann_window(model.head.n_fft),
        "xcodec2.enc.mel.filters": filters,
        "xcodec2.enc.mel.window": window,
        "xcodec2.enc.alias.filter": half_band_filter(torch.float32, torch.device("cpu")),
    }


def layout(authors: KeyMap) -> GGUFLayout:
    """The layout of codec.cpp, of the published naming that its converter reads."""
    return GGUFLayout(
        "xcodec2",
        RenamedKeyMap(
            "xcodec2 of codec.cpp",
            authors.rules,
            unused=(r"xcodec2\.decode\.(codebook|istft\.window)", r"xcodec2\.enc\.(mel|alias)\..+"),
            renames=RENAMES,
            changes=changes(r".+\.alpha", r".+\.inv_beta"),
        ),
        _settings,
        unchecked=(r"xcodec2\..+", r"codec\.latent_dim"),  # constants; the shapes of the tensors say the same
        notices=_notices,
        more=_more,
        float32=r".+\.(b|alpha|inv_beta|filter|filters|window)|.+(_ln|_norm|\.ln|\.norm\d|\.dist)\.w",
    )
