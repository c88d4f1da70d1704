"""Qwen3-TTS-Tokenizer-12Hz in a GGUF file: Mimi's encoder, and its own decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from codeczoo.base import KeyMap
from codeczoo.base.key_map import Change, RenamedKeyMap, Rule
from codeczoo.codecs.gguf import mimi
from codeczoo.codecs.gguf.snake_beta import changes
from codeczoo.nn.rvq import codebook_rule
from codeczoo.weights.gguf_layout import GGUFLayout

if TYPE_CHECKING:
    from codeczoo.codecs.qwen3_tts import Qwen3TTS

LAYER = {
    "input_layernorm": "inln",
    "post_attention_layernorm": "paln",
    r"self_attn\.(\w)_proj": r"attn.\2",
    r"mlp\.(\w+)_proj": r"mlp.\2",
    r"self_attn_layer_scale\.scale": "sa.scale",
    r"mlp_layer_scale\.scale": "mlp.scale",
}
TRANSFORMER = {"norm": "norm", "input_proj": "in", "output_proj": "out"}
CONVNEXT = {r"dwconv\.conv": "dw", "norm": "norm", "pwconv1": "pw1", "pwconv2": "pw2", "gamma": "gamma"}
UNIT = {"act1": "s1", r"conv1\.conv": "c1", "act2": "s2", r"conv2\.conv": "c2"}
STAGES, OURS = 4, "q3t.dec."

RENAMES = (
    *(
        (rf"^decoder\.pre_transformer\.layers\.(\d+)\.{theirs}", rf"{OURS}pt.l\1.{name}")
        for theirs, name in LAYER.items()
    ),
    *((rf"^decoder\.pre_transformer\.{theirs}\.", f"{OURS}pt.{name}.") for theirs, name in TRANSFORMER.items()),
    (r"^decoder\.quantizer\.rvq_first\.output_proj", f"{OURS}q.s.op"),
    (r"^decoder\.quantizer\.rvq_rest\.output_proj", f"{OURS}q.a.op"),
    (r"^decoder\.pre_conv\.conv\.", f"{OURS}pre.conv."),
    (r"^decoder\.upsample\.(\d)\.0\.conv\.", rf"{OURS}up\1.tr."),
    *((rf"^decoder\.upsample\.(\d)\.1\.{theirs}", rf"{OURS}up\1.cnx.{name}") for theirs, name in CONVNEXT.items()),
    (r"^decoder\.decoder\.0\.conv\.", f"{OURS}d0."),
    (rf"^decoder\.decoder\.{STAGES + 2}\.conv\.", f"{OURS}final."),
    (rf"^decoder\.decoder\.{STAGES + 1}\.", f"{OURS}final.s."),
    *(
        (rf"^decoder\.decoder\.{b + 1}\.block\.{place}\.", f"{OURS}b{b}.{name}.")
        for b in range(STAGES)
        for place, name in (
            ("0", "s0"),
            (r"1\.conv", "tr"),
            *((rf"{r + 2}\.{theirs}", f"r{r}.{own}") for r in range(3) for theirs, own in UNIT.items()),
        )
    ),
    (r"\.alpha$", ".a"),
    (r"\.beta$", ".binv"),
    (r"^encoder\.", ""),  # a part of the file; the names in it are Mimi's
    *mimi.RENAMES,
)


def _settings(model: Qwen3TTS) -> dict[str, Any]:
    config = model.config
    return {
        "codec.sample_rate": config.sample_rate,
        "codec.hop_size": model.hop_length,
        "codec.n_q": config.num_codebooks,
        "codec.codebook_size": config.codebook_size,
        "codec.codebook_dim": config.dim,
        "codec.latent_dim": config.latent_dim,
        "codec.has_encoder": True,
        "codec.has_decoder": True,
        "qwen3.encoder.codebook_size": config.codebook_size,
        "qwen3.encoder.codebook_dim": config.codebook_dim,
        "qwen3.encoder.n_q": config.num_codebooks,
        "qwen3.encoder.hidden_size": config.dim,
        "qwen3.encoder.num_hidden_layers": config.encoder_layers,
        "qwen3.encoder.num_attention_heads": config.encoder_heads,
        "qwen3.encoder.head_dim": config.dim // config.encoder_heads,
        "qwen3.encoder.intermediate_size": config.encoder_hidden,
        "qwen3.encoder.rope_theta": config.rotary_base,
        "qwen3.encoder.rope_scaling_factor": 1.0,
        "qwen3.decoder.hidden_size": config.dim,
        "qwen3.decoder.num_hidden_layers": config.decoder_layers,
        "qwen3.decoder.num_attention_heads": config.decoder_heads,
        "qwen3.decoder.num_key_value_heads": config.decoder_heads,
        "qwen3.decoder.head_dim": config.decoder_head_dim,
        "qwen3.decoder.intermediate_size": config.decoder_hidden,
        "qwen3.decoder.rope_theta": config.rotary_base,
        "qwen3.decoder.sliding_window": config.decoder_window,
        "qwen3.decoder.latent_dim": config.latent_dim,
        "qwen3.decoder.decoder_dim": config.decoder_filters,
        "qwen3.decoder.codebook_dim": config.dim,
        "qwen3.decoder.n_q": config.num_codebooks,
        "qwen3.decoder.upsample_rates": config.decoder_strides,
        "qwen3.decoder.upsampling_ratios": config.upsample,
    }


def _decoder_books(counts: Mapping[str, int]) -> tuple[Rule, ...]:
    """The decoder's codebooks are numbered through: the first, then the rest."""
    first, name = 0, OURS + "q.l{}.codebook"
    rules = []
    for branch, count in counts.items():
        numbers = [name.format(first + k) for k in range(count)]
        whole = codebook_rule(rf"decoder_quantizer\.{branch}\.vq\.codebooks", "{}", count)
        rules.append(Rule(whole.ours, tuple(numbers), whole.combine, whole.split))
        first += count
    return tuple(rules)


def layout(published: KeyMap, counts: Mapping[str, int]) -> GGUFLayout:
    """`counts`: codebooks that are used, a branch."""
    return GGUFLayout(
        "qwen3_tts_tokenizer",
        RenamedKeyMap(
            "qwen3_tts of codec.cpp",
            (
                *mimi.book_rules("encoder_quantizer", "cb.embed", counts),
                *_decoder_books(counts),
                *published.rules,
            ),
            unused=(
                mimi.SUMS,
                r"q\.[sa]\.op\.w",  # the encoder's way back, which nothing reads
                r"q\.a\.layers\.(1[5-9]|2\d|30)\.cb\.embed",  # codebooks beyond those that are used
            ),
            renames=RENAMES,
            changes=(
                mimi.PROJECTIONS,
                Change(
                    r"q3t\.dec\.q\.[sa]\.op\.w", lambda weight: weight[..., None], lambda weight: weight.squeeze(-1)
                ),
                *changes(r"q3t\..+\.a", r"q3t\..+\.binv"),
            ),
        ),
        _settings,
        unchecked=(r"qwen3\.encoder\.n_q",),  # 32 with those that are not used
        kept=r"\.a|ln\.w$|norm\.w$|\.codebook|\.scale|\.gamma|\.embed$",  # ".a" keeps all of attention as F16
    )
