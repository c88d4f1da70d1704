from __future__ import annotations

from unittest.mock import patch

import torch
from torch import Tensor

from perf.published.interface import Case, Given, Published, loaded


def xcodec2(given: Given) -> Published:
    from transformers import AutoFeatureExtractor, SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel
    from xcodec2.configuration_bigcodec import BigCodecConfig
    from xcodec2.modeling_xcodec2 import XCodec2Model

    # Its constructor fetches w2v-bert-2.0, whose tensors its own file has once more.
    blank = Wav2Vec2BertModel(Wav2Vec2BertConfig(output_hidden_states=True))
    with (
        patch.object(Wav2Vec2BertModel, "from_pretrained", lambda *args, **kwargs: blank),
        patch.object(AutoFeatureExtractor, "from_pretrained", lambda *args: SeamlessM4TFeatureExtractor()),
    ):
        model = XCodec2Model(BigCodecConfig())
    # Which name the file has for the parameter that the class calls `bias`: see our codec.
    state = {key.replace("act.beta", "act.bias"): value for key, value in given.state.items()}
    model = loaded(model, state).to(given.codec.device)

    def encode(waveform: Tensor) -> Tensor:
        """One clip a call: it takes its features from the first."""
        return torch.cat([model.encode_code(clip) for clip in waveform])

    return Published(encode=encode, to_ours=lambda codes: codes.reshape(len(codes), 1, -1), decode=model.decode_code)


CASES = (Case("xcodec2_16k", "xcodec2_16k", "xcodec2", xcodec2),)
