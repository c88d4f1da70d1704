"""SNAC's decoder adds noise that upstream draws at each call. With NOISE at zero it adds none on either side, at
the same cost, and audio can be compared."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from perf.published.interface import Case, Given, Published, loaded

NOISE = "linear.parametrizations.weight.original0"


def snac(given: Given) -> Published:
    from snac import SNAC

    codec, numbers = given.codec, given.codec.config
    model = SNAC(
        sampling_rate=numbers.sample_rate,
        encoder_dim=numbers.encoder_dim,
        encoder_rates=list(numbers.encoder_rates),
        decoder_dim=numbers.decoder_dim,
        decoder_rates=list(numbers.decoder_rates),
        attn_window_size=numbers.window,
        vq_strides=list(numbers.vq_strides),
    )
    model = loaded(model, given.state).to(codec.device)
    return Published(
        encode=model.encode,
        to_ours=rows,
        decode=model.decode,
        from_ours=lambda codes: [torch.stack(codes.level(k)) for k in range(codes.num_codebooks)],
    )


def rows(levels: list[Tensor]) -> Tensor:
    """Levels [B, N_k] → [B, K, N], -1 where a level has no more codes."""
    longest = levels[-1].shape[-1]
    return torch.stack([F.pad(level, (0, longest - level.shape[-1]), value=-1) for level in levels], 1)


CASES = (
    Case("snac_24khz", "snac_24khz", "snac", snac, zeroed=NOISE),
    Case("snac_32khz", "snac_32khz", "snac", snac, zeroed=NOISE),
    Case("snac_44khz", "snac_32khz", "snac", snac, zeroed=NOISE),  # the same network
)
