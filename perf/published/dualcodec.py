from __future__ import annotations

import contextlib
from unittest.mock import patch

import torch
from torch import Tensor

from codeczoo import Codes
from perf.published.interface import Case, Given, Published, loaded, part

Rows = tuple[Tensor, Tensor]  # of codes: the semantic one [B, 1, N], and the acoustic ones


def dualcodec(given: Given) -> Published:
    from dualcodec import DualCodec, Inference
    from easydict import EasyDict
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel

    device, state = given.codec.device, given.state
    # It runs all 24 layers and takes the output of the 17th; the others keep the values that they begin with.
    semantic = Wav2Vec2BertModel(Wav2Vec2BertConfig(output_hidden_states=True))
    semantic.load_state_dict(part(state, "w2v_bert."), strict=False)
    inference = Inference.__new__(Inference)  # its constructor reads files
    inference.model = loaded(DualCodec(**given.settings), part(state, "dualcodec.")).to(device)
    inference.device, inference.autocast = str(device), False
    inference.semantic_cfg = EasyDict(
        semantic_model=semantic.eval().to(device),
        output_idx=17,
        mean=state["stats.mean"].to(device),
        std=state["stats.var"].sqrt().to(device),
        feature_extractor=SeamlessM4TFeatureExtractor(),
    )

    def encode(waveform: Tensor) -> Rows:
        """Without float16, which it has for w2v-BERT even where autocast is off."""
        with patch.object(torch, "autocast", lambda **_: contextlib.nullcontext()):
            return inference.encode(waveform, n_quantizers=given.codec.num_codebooks)

    def rows(codes: Codes) -> Rows:
        return codes.codes[:, :1], codes.codes[:, 1:]

    return Published(
        encode=encode,
        to_ours=lambda codes: torch.cat(codes, dim=1),
        decode=lambda codes: inference.decode(*codes),
        from_ours=rows,
    )


CASES = tuple(Case(name, name, "dualcodec", dualcodec) for name in ("dualcodec_12hz_v1", "dualcodec_25hz_v1"))
