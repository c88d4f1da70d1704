"""AUV, and LLM-Codec, which is the same network: the fork that it installs has the same arithmetic for one clip."""

from __future__ import annotations

import torch

from perf.published.interface import Case, Given, Published, torch_load


def auv(given: Given) -> Published:
    from auv.model import AUV

    model = AUV()
    with torch_load(dict(given.state)):  # its loader is all that it has for a constructor
        model.from_pretrained("")
    model = model.eval().to(given.codec.device)
    rate = given.codec.sample_rate
    return Published(
        # Upstream encodes one clip a call.
        encode=lambda x: [model.encode({"sample": clip, "sample_rate": rate})["tokens"] for clip in x],
        to_ours=lambda tokens: torch.stack([clip.reshape(1, -1) for clip in tokens]),
        decode=model.decode_tokens,
        from_ours=lambda codes: codes.codes.transpose(1, 2),
    )


CASES = (
    Case("auv", "auv", "auv", auv),
    Case("llmcodec", "llmcodec", "auv", auv),
)
