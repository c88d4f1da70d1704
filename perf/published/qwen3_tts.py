from __future__ import annotations

import torch
from torch import Tensor

from perf.published.interface import Case, Given, Published, loaded


def qwen_tts(given: Given) -> Published:
    from qwen_tts.core import Qwen3TTSTokenizerV2Config, Qwen3TTSTokenizerV2Model

    model = Qwen3TTSTokenizerV2Model(Qwen3TTSTokenizerV2Config(**given.settings))
    model = loaded(model, given.state).to(given.codec.device)

    def encode(waveform: Tensor) -> list[Tensor]:
        """[B, 1, T] → [N, K] a clip."""
        clips = waveform[:, 0]
        return model.encode(clips, padding_mask=torch.ones_like(clips, dtype=torch.long)).audio_codes

    return Published(
        encode=encode,
        to_ours=lambda codes: torch.stack(list(codes)).mT,
        decode=lambda codes: torch.stack(model.decode(torch.stack(list(codes))).audio_values),
        from_ours=lambda codes: codes.codes.mT,
    )


CASES = (Case("qwen3_tts_tokenizer_12hz", "qwen3_tts_tokenizer_12hz", "qwen-tts", qwen_tts),)
