from __future__ import annotations

import argparse

from torch import Tensor

from codeczoo import Codes
from perf.published.interface import Case, Given, Published

TAGS = ("nq32ds320", "nq32ds640", "gr8nq32ds320", "gr1nq32ds320")


def funcodec(given: Given) -> Published:
    from funcodec.tasks.gan_speech_codec import GANSpeechCodecTask

    # Nothing for training, of which the losses' spectrograms would want CUDA.
    losses = {"multi_spectral_window_powers_of_two": []}
    training = {
        "model_conf": {**given.settings["model_conf"], **losses},
        "discriminator": "multiple_disc",
        "discriminator_conf": {"disc_conf_list": []},
    }
    model = GANSpeechCodecTask.build_model(argparse.Namespace(**{**given.settings, **training}))
    for name in ("encoder", "quantizer", "decoder"):
        module = getattr(model, name)
        module.load_state_dict({key: given.state[f"{name}.{key}"] for key in module.state_dict()})
    model = model.eval().to(given.codec.device)

    def from_ours(codes: Codes) -> tuple[Tensor, Tensor]:
        return codes.codes.transpose(1, 2), codes.side_info["scale"][..., None]

    return Published(
        encode=lambda x: model.inference_encoding(x)["code_indices"][0],
        to_ours=lambda codes: codes.transpose(0, 1),
        # Its decode of codes leaves out the scale.
        decode=lambda codes: model.inference_decoding(codes[0])["recon_speech"] * codes[1],
        from_ours=from_ours,
    )


CASES = tuple(
    Case(f"funcodec_en_libritts_16k_{tag}", f"funcodec_en_libritts_16k_{tag}", "funcodec", funcodec) for tag in TAGS
)
