from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from perf.published.interface import Case, Given, Published, loaded, on_path


def repository(given: Given) -> Published:
    """By its `encode` and `decode` of lists, which pad each clip to Whisper's 30 s."""
    on_path(given.checkout)
    from xy_tokenizer.model import XY_Tokenizer

    device = given.codec.device
    settings = {**given.settings, "sample_rate": given.settings["input_sample_rate"]}
    model = loaded(XY_Tokenizer(settings), given.state).to(device)

    def decode(codes: list[Tensor]) -> Tensor:
        return torch.stack(model.decode(codes, device=device)["syn_wav_list"])

    def encode(waveform: Tensor) -> list[Any]:
        return model.encode(list(waveform[:, 0]), device=device)["codes_list"]

    return Published(encode=encode, to_ours=torch.stack, decode=decode, from_ours=lambda codes: list(codes.codes))


CASES = (
    Case(
        "xy_tokenizer_16k",
        "xy_tokenizer_16k",
        "XY-Tokenizer",
        repository,
        repository="gyt1145028706/XY-Tokenizer",
    ),
)
