"""S3Tokenizer v2 in a GGUF file, as codec.cpp has it beside Chatterbox. It encodes only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from codeczoo.base import KeyMap
from codeczoo.base.key_map import RenamedKeyMap
from codeczoo.nn.log_mel import N_FFT, SAMPLE_RATE
from codeczoo.nn.mel import mel_filters
from codeczoo.weights.gguf_layout import SHORT_ENDS, GGUFLayout

if TYPE_CHECKING:
    from codeczoo.codecs.s3tokenizer import S3Tokenizer

VOCODER_RATE = 24000  # Hz: what its converter gives as the rate, with a hop of a token's length there
LAYERS = 6  # of version 2

# From the names of the package s3tokenizer.
RENAMES = (
    (r"^encoder\.blocks\.", "s3t.enc.blk."),
    (r"^encoder\.", "s3t.enc."),
    (r"\.attn\.query\.", ".attn.q."),
    (r"\.attn\.key\.", ".attn.k."),
    (r"\.attn\.value\.", ".attn.v."),
    (r"\.attn\.out\.", ".attn.o."),
    (r"\.attn\.fsmn_block\.", ".attn.fsmn."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.2\.", ".mlp.fc2."),
    (r"^quantizer\._codebook\.project_down\.", "s3t.q.proj."),
    *SHORT_ENDS,
)


def _settings(model: S3Tokenizer) -> dict[str, Any]:
    config = model.config
    return {
        "codec.sample_rate": VOCODER_RATE,
        "codec.encode_sample_rate": config.sample_rate,
        "codec.hop_size": model.hop_length * VOCODER_RATE // config.sample_rate,
        "codec.n_q": 1,
        "codec.codebook_size": model.codebook_sizes[0],
        "codec.has_encoder": True,
        "codec.has_decoder": False,
        "codec.n_fft": N_FFT,
        "codec.win_length": N_FFT,
        "codec.n_mels": config.mels,
        "codec.token_rate_hz": config.sample_rate // model.hop_length,
        "chatterbox_s3t.audio_state": config.dim,
        "chatterbox_s3t.audio_head": config.num_heads,
        "chatterbox_s3t.audio_layer": config.num_layers,
        "chatterbox_s3t.fsmn_kernel_size": 31,
        "chatterbox_s3t.rope_theta": 10000.0,
    }


def _more(model: S3Tokenizer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        "s3t.mel_filters": mel_filters(SAMPLE_RATE, N_FFT, model.config.mels).mT.float(),
        "s3t.window": torch.hann_window(N_FFT),
    }


def _refusal(model: S3Tokenizer) -> str | None:
    config = model.config
    if config.version == 2 and config.num_layers == LAYERS:
        return None
    return "codec.cpp knows version 2 only (s3tokenizer_v2_25hz)"


def layout(package: KeyMap) -> GGUFLayout:
    """The layout of codec.cpp, of the published naming that its converter reads."""
    return GGUFLayout(
        "chatterbox_s3t",
        RenamedKeyMap(
            "s3tokenizer of codec.cpp", package.rules, unused=(r"s3t\.(mel_filters|window)",), renames=RENAMES
        ),
        _settings,
        more=_more,
        refusal=_refusal,
        kept=r"_ln\.w$",
    )
