from __future__ import annotations

from dataclasses import replace

import torch

from perf.published.interface import Case, Given, Published, from_hub_names, hub_names, identity, loaded


def descript(given: Given) -> Published:
    from dac import DAC

    codec, numbers = given.codec, given.codec.config
    model = DAC(
        encoder_rates=list(numbers.encoder_rates),
        decoder_rates=list(numbers.decoder_rates),
        latent_dim=numbers.latent_dim,
        n_codebooks=numbers.num_codebooks,
        sample_rate=numbers.sample_rate,
    )
    model = loaded(model, given.state).to(codec.device)
    return Published(
        encode=lambda x: model.encode(model.preprocess(x, codec.sample_rate))[1],
        to_ours=identity,
        decode=lambda codes: model.decode(model.quantizer.from_codes(codes)[0]),
    )


def transformers(given: Given) -> Published:
    from transformers import DacConfig, DacModel

    codec, numbers = given.codec, given.codec.config
    config = DacConfig(
        downsampling_ratios=list(numbers.encoder_rates),
        upsampling_ratios=list(numbers.decoder_rates),
        n_codebooks=numbers.num_codebooks,
        sampling_rate=numbers.sample_rate,
    )
    model = from_hub_names(DacModel, config, given.state).to(codec.device)
    hop = codec.hop_length or 1
    return Published(
        # Its feature extractor pads to the hop; the model itself does not.
        encode=lambda x: model.encode(torch.nn.functional.pad(x, (0, -x.shape[-1] % hop))).audio_codes,
        to_ours=identity,
        decode=lambda codes: model.decode(audio_codes=codes).audio_values,
    )


def converted(given: Given) -> Published:
    """That of transformers, of the authors' tensors."""
    return transformers(replace(given, state=hub_names(given.codec)))


CASES = (
    *(
        Case(name, name, "descript-audio-codec", descript)
        for name in ("dac_16k", "dac_24k", "dac_44k", "dac_44k_16kbps")
    ),
    Case("dac_44k", "dac_44k", "transformers", transformers, manifest="manifest_hf.json"),
    Case("dac_24k", "dac_24k", "transformers", converted),
)
