from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perf.published.interface import Case, Given, Published, loaded, on_path, part, swapped

NAMES = ("nanocodec_0k6bps_12hz", "nanocodec_1k78bps_12hz", "nanocodec_1k89bps_21hz")
PARTS = ("audio_encoder", "vector_quantizer", "audio_decoder")


def repository(given: Given) -> Published:
    """NeMo's modules without its framework, which wants Lightning, Hydra and a hundred packages more.

    The calls are those of `AudioCodecModel.encode` and `.decode`.
    """
    modules = of_nemo(on_path(given.checkout))
    device, hop = given.codec.device, given.settings["samples_per_frame"]
    encoder, quantizer, decoder = (build(modules, given, name).to(device) for name in PARTS)

    def encode(waveform: Tensor) -> Tensor:
        clips = F.pad(waveform[:, 0], (0, -waveform.shape[-1] % hop))
        latent, frames = encoder(audio=clips, audio_len=lengths_of(clips))
        return quantizer.encode(inputs=latent, input_len=frames)

    def decode(codes: Tensor) -> Tensor:
        frames = lengths_of(codes[0])
        return decoder(inputs=quantizer.decode(indices=codes, input_len=frames), input_len=frames)[0]

    return Published(encode=encode, to_ours=swapped, decode=decode, from_ours=swapped)


def build(modules: ModuleType, given: Given, name: str) -> Any:
    settings = dict(given.settings[name])
    kind = getattr(modules, settings.pop("_target_"))
    return loaded(kind(**settings), part(given.state, f"{name}."))


def lengths_of(clips: Tensor) -> Tensor:
    return torch.full((len(clips),), clips.shape[-1], device=clips.device)


# -- what stands in for the framework ------------------------------------------------------------


class Module(nn.Module):
    """In place of a module that declares the kinds of its tensors."""


class Kind:
    """In place of a declared kind of tensor."""

    def __init__(self, *args: object, **kwargs: object) -> None: ...


def unchecked(*args: object, **kwargs: object) -> Callable[[Any], Any]:
    """In place of the check of declared kinds."""
    return lambda function: function


def of_nemo(checkout: Path) -> ModuleType:
    """Its modules of codecs, with what they import of the framework replaced by what does nothing."""
    kinds = ("AudioSignal", "EncodedRepresentation", "Index", "LengthsType", "MelSpectrogramType", "VoidType")
    stand_ins = {
        "nemo.collections.asr.modules": {"AudioToMelSpectrogramPreprocessor": Kind},
        "nemo.core.classes.common": {"typecheck": unchecked},
        "nemo.core.classes.module": {"NeuralModule": Module},
        "nemo.core.neural_types.elements": dict.fromkeys(kinds, Kind),
        "nemo.core.neural_types.neural_type": {"NeuralType": Kind},
        "nemo.utils": {"logging": logging.getLogger("nemo")},
    }
    for name, members in stand_ins.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(members)
    # Packages whose own __init__ would import everything; below them its files are read as they are.
    for name in ("nemo", "nemo.collections", "nemo.collections.common", "nemo.collections.common.parts",
                 "nemo.collections.tts", "nemo.collections.tts.modules"):  # fmt: skip
        package = sys.modules[name] = ModuleType(name)
        package.__path__ = [str(checkout.joinpath(*name.split(".")))]
    return importlib.import_module("nemo.collections.tts.modules.audio_codec_modules")


CASES = tuple(Case(name, name, "NeMo", repository, repository="NVIDIA/NeMo") for name in NAMES)
