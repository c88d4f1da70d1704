from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from torch import Tensor

from perf.published.interface import Case, Given, Published, loaded, on_path, swapped

CODE = "modeling_moss_audio_tokenizer"
NAMES = ((r"\.ffn\.0\.", ".linear1."), (r"\.ffn\.2\.", ".linear2."))  # the Nano's, and those of the repository


def repository(given: Given) -> Published:
    """The repository has the code of the 24 kHz model: the Nano's stages are built of it.

    Each stage gets its own window, and two channels become one of twice the rate, sample by sample: both are what the
    Nano's own code, which lies beside its weights alone, has more. The golden cases were made in the same way.
    """
    checkout = on_path(given.checkout)
    on_path(checkout.parent)  # it is itself a package, by a name that no import statement can say
    module = import_module(f"{checkout.name}.{CODE}")
    settings: dict[str, Any] = dict(given.settings)
    channels, windows = settings["number_channels"], {}
    for part in ("encoder", "decoder"):
        stages = settings[f"{part}_kwargs"] = [dict(stage) for stage in settings[f"{part}_kwargs"]]
        windows[part] = [stage.pop("context_duration", None) for stage in stages]
    for key in ("sampling_rate", "downsample_rate"):
        settings[key] *= channels
    model = module.MossAudioTokenizerModel(module.MossAudioTokenizerConfig(**settings))
    state = dict(given.state)
    for theirs, its in NAMES:
        state = {re.sub(theirs, its, key): value for key, value in state.items()}
    model = loaded(model, state).to(given.codec.device)
    rate = settings["sampling_rate"]
    for part, step in (("encoder", -1), ("decoder", 1)):
        for stage, seconds in zip(getattr(model, part), windows[part], strict=True):
            if seconds is None:
                rate = rate * stage.patch_size if step > 0 else rate // stage.patch_size
                continue
            for layer in stage.transformer.layers:
                layer.self_attn.context = round(rate * seconds)

    def encode(waveform: Tensor) -> Tensor:
        """[B, C, T] → [Q, B, N]: the whole frames."""
        codes = model.encode(waveform.mT.flatten(1)[:, None], return_dict=True).audio_codes
        return codes[..., : waveform.shape[-1] // given.codec.hop_length]

    def decode(codes: Tensor) -> Tensor:
        return model.decode(codes, return_dict=True).audio[:, 0].unflatten(-1, (-1, channels)).mT

    return Published(encode=encode, to_ours=swapped, decode=decode, from_ours=swapped)


CASES = (
    Case(
        "moss_audio_tokenizer_nano",
        "moss_audio_tokenizer_nano",
        "MOSS-Audio-Tokenizer",
        repository,
        repository="OpenMOSS/MOSS-Audio-Tokenizer",
    ),
)
