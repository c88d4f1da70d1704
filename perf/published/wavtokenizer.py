from __future__ import annotations

import importlib

import torch

from perf.published.interface import (
    Case,
    Given,
    Published,
    from_hub_names,
    hub_names,
    identity,
    loaded,
    on_path,
    swapped,
)

REPOSITORY = "jishengpeng/WavTokenizer"


def wavtokenizer(given: Given) -> Published:
    codec, checkout = given.codec, on_path(given.checkout)
    model_class = importlib.import_module("decoder.pretrained").WavTokenizer
    tokens = codec.sample_rate // (codec.hop_length or 1)
    (config,) = (checkout / "configs").glob(f"*frame{tokens}_*.yaml")
    model = model_class.from_hparams0802(str(config))
    # The manifest does not give the window's values: it is the one that the class computes.
    model = loaded(model, {**given.state, "head.istft.window": model.head.istft.window}).to(codec.device)
    bandwidth = torch.tensor([0], device=codec.device)
    return Published(
        encode=lambda x: model.encode_infer(x[:, 0], bandwidth_id=bandwidth)[1],
        to_ours=swapped,
        decode=lambda codes: model.decode(model.codes_to_features(codes), bandwidth_id=bandwidth),
        from_ours=swapped,
    )


def transformers(given: Given) -> Published:
    """Built of our tensors: its checkpoints are conversions of the authors'."""
    from transformers import WavTokenizerConfig, WavTokenizerModel

    codec, numbers = given.codec, given.codec.config
    config = WavTokenizerConfig(upsampling_ratios=list(reversed(numbers.strides)))
    state = hub_names(codec)
    for name in [name for name in state if name.startswith("encoder_model.") and name.endswith(".conv.weight")]:
        weight = state.pop(name)  # its weight norm: lengths, then directions
        lengths = torch.linalg.vector_norm(weight, dim=(1, 2), keepdim=True)
        parametrised = f"{name.removesuffix('weight')}parametrizations.weight.original"
        state |= {f"{parametrised}0": lengths, f"{parametrised}1": weight}
    model = from_hub_names(WavTokenizerModel, config, state).to(codec.device)
    return Published(
        encode=lambda x: model.encode(x).audio_codes,
        to_ours=identity,
        decode=lambda codes: model.decode(codes).audio_values,
    )


CASES = (
    Case("wavtokenizer_large_40", "wavtokenizer_40", "WavTokenizer", wavtokenizer, repository=REPOSITORY),
    Case("wavtokenizer_large_speech_75", "wavtokenizer_75", "WavTokenizer", wavtokenizer, repository=REPOSITORY),
    Case("wavtokenizer_large_40", "wavtokenizer_40", "transformers", transformers),
    Case("wavtokenizer_large_speech_75", "wavtokenizer_75", "transformers", transformers),
)
