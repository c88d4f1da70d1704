from __future__ import annotations

from typing import Any

from perf.published.interface import Case, Given, Published, from_hub_names, identity

HF = "manifest_hf.json"


def transformers(given: Given) -> Published:
    """Clips are whole frames, as its feature extractor fills them up."""
    from transformers import HubertConfig, WavLMConfig, XcodecConfig, XcodecModel

    kind = {"hubert": HubertConfig, "wavlm": WavLMConfig}[given.codec.config.semantic]
    return of_model(given, from_hub_names(XcodecModel, XcodecConfig(semantic_model_config=kind()), given.state))


def of_model(given: Given, model: Any) -> Published:
    model = model.to(given.codec.device)
    bandwidth = given.codec.bitrate_of(given.codec.num_codebooks) / 1000
    return Published(
        encode=lambda x: model.encode(x, bandwidth=bandwidth).audio_codes,
        to_ours=identity,
        decode=lambda codes: model.decode(codes).audio_values,
    )


CASES = (
    Case("xcodec_hubert_librispeech", "xcodec_hubert_16k", "transformers", transformers, manifest=HF),
    Case("xcodec_wavlm_mls", "xcodec_wavlm_16k", "transformers", transformers, manifest=HF),
)
