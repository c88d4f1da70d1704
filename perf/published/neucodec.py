from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch

from perf.published.interface import Case, Given, Published, identity, loaded

# Its speech models' files are by themselves; what those have under these names, the whole has below `semantic_model.`.
OF_THE_CODEC = ("CodecEnc.", "SemanticEncoder_module.", "codec_encoder.", "generator.", "fc_")
COMPUTED = (".window", ".filter")  # by its constructor


def neucodec(given: Given) -> Published:
    from neucodec import NeuCodec
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel

    # Of its 24 layers 16 are read, and the checkpoint has no others here.
    blank = Wav2Vec2BertModel(Wav2Vec2BertConfig(num_hidden_layers=16, output_hidden_states=True))
    return published(given, NeuCodec, Wav2Vec2BertModel, blank, SeamlessM4TFeatureExtractor())


def distilled(given: Given) -> Published:
    from neucodec import DistillNeuCodec
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    blank = HubertModel(HubertConfig(num_hidden_layers=2, feat_proj_layer_norm=False, output_hidden_states=True))
    return published(given, DistillNeuCodec, HubertModel, blank, Wav2Vec2FeatureExtractor(do_normalize=False))


def published(given: Given, kind: Any, semantic: Any, blank: torch.nn.Module, extractor: Any) -> Published:
    """Its constructor fetches the speech model and its feature extractor."""
    from transformers import AutoFeatureExtractor

    with (
        patch.object(semantic, "from_pretrained", lambda *args, **kwargs: blank),
        patch.object(AutoFeatureExtractor, "from_pretrained", lambda *args: extractor),
    ):
        model = kind(24000, 480)
    state = {
        key if key.startswith(OF_THE_CODEC) else f"semantic_model.{key}": value for key, value in given.state.items()
    }
    own = model.state_dict()
    state = {key: value if key.endswith(COMPUTED) else state[key] for key, value in own.items()}
    model = loaded(model, state).to(given.codec.device)
    return Published(encode=model.encode_code, to_ours=identity, decode=model.decode_code)


CASES = (
    Case("neucodec_24k", "neucodec_24k", "neucodec", neucodec),
    Case("distill_neucodec_24k", "distill_neucodec_24k", "neucodec", distilled),
)
