"""AudioDec as its offline test script runs it; our default is the same start of a clip."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor

from perf.published.interface import Case, Given, Published, loaded, on_path, own

STATISTICS = "stats/symAD_libritts_24000_hop300_clean.npy"


def audiodec(given: Given) -> Published:
    checkout = on_path(given.checkout)
    autoencoder_class = importlib.import_module("models.autoencoder.AudioDec").Generator
    vocoder_class = importlib.import_module("models.vocoder.HiFiGAN").Generator
    autoencoder = autoencoder_class(**given.settings["autoencoder"])
    vocoder = vocoder_class(**{**given.settings["vocoder"], "stats": str(checkout / STATISTICS)})
    autoencoder, vocoder = (loaded(m, own(m, given.state)).to(given.codec.device) for m in (autoencoder, vocoder))
    quantizer = autoencoder.quantizer
    quantizer.initial()
    # Its indices count through all codebooks.
    books = given.codec.num_codebooks
    first = torch.arange(books, device=given.codec.device)[:, None, None] * given.codec.codebook_sizes[0]

    def encode(waveform: Tensor) -> Tensor:
        return quantizer.encode(autoencoder.projector(autoencoder.encoder(waveform)))[1]

    return Published(
        encode=encode,
        to_ours=lambda codes: (codes.reshape(books, -1, codes.shape[-1]) - first).transpose(0, 1),
        decode=lambda codes: vocoder(quantizer.decode(codes)[0].transpose(1, 2)),
        from_ours=lambda codes: codes.codes.transpose(0, 1) + first,
    )


CASES = (Case("audiodec_24k", "audiodec_24k", "AudioDec", audiodec, repository="facebookresearch/AudioDec"),)
