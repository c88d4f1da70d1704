from __future__ import annotations

from perf.published.interface import Case, Given, Published, from_hub_names
from perf.published.xcodec import HF, of_model


def transformers(given: Given) -> Published:
    """At whole frames, where it and the authors' code agree."""
    from transformers import DacConfig, HiggsAudioV2TokenizerConfig, HiggsAudioV2TokenizerModel

    strides = list(given.codec.config.strides)
    acoustic = DacConfig(
        encoder_hidden_size=64,
        downsampling_ratios=strides,
        decoder_hidden_size=1024,
        upsampling_ratios=strides,
        hidden_size=256,
    )
    config = HiggsAudioV2TokenizerConfig(
        acoustic_model_config=acoustic.to_dict(), codebook_dim=64, target_bandwidths=[0.5, 1, 1.5, 2]
    )
    return of_model(given, from_hub_names(HiggsAudioV2TokenizerModel, config, given.state))


CASES = (Case("higgs_audio_v2", "higgs_audio_v2_24k", "transformers", transformers, manifest=HF),)
