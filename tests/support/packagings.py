"""How checkpoints are published: `Packaging`, and writers of the forms that several families share.

A family lists its forms in `PACKAGINGS` of tests/codecs/test_FAMILY.py, with its own writers where it needs them;
tests/contract/test_packagings.py takes each of them whole, with four faults in its tensors, and cut short. The networks
are small ones of the same architecture (tests/support/published.py).
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from codeczoo.base.catalogue import find_variant
from tests.support.published import by_entry, save_lightning, small_checkpoint
from tests.support.small import small_variant

Tensors = dict[str, Tensor]
Write = Callable[["Packaging", Tensors, Path], Path]  # into an empty folder → what is given as weights=


@dataclass(frozen=True)
class Packaging:
    """One form that a family is published in."""

    codec: str
    folder: str  # of the golden case whose manifest lists the tensors; the variant's name with `golden.PACKAGED`
    write: Write
    manifest: str = "manifest.json"
    refused: tuple[tuple[str, Any, str], ...] = ()  # setting of its config.json, value of another network, message

    def tensors(self) -> tuple[Tensors, list[str]]:
        """The small checkpoint under its published keys, and the keys that the network is made of."""
        return small_checkpoint(find_variant(self.codec).name, self.folder, self.manifest)

    def config(self) -> Any:
        """The numbers of the small network."""
        return small_variant(find_variant(self.codec).name).build().config


# -- forms of one file ----------------------------------------------------------------------------


def flat_safetensors(file: str) -> Write:
    """A safetensors file."""

    def write(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / file, {"format": "pt"})
        return folder / file

    return write


def flat_pickle(file: str) -> Write:
    """A state dict as `torch.save` writes it."""

    def write(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
        torch.save(OrderedDict(tensors), folder / file)
        return folder / file

    return write


def entries(file: str) -> Write:
    """A pickle of several state dicts, by the first part of each key."""

    def write(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
        torch.save(by_entry(tensors), folder / file)
        return folder / file

    return write


def lightning(file: str) -> Write:
    """A Lightning trainer's checkpoint, with WavTokenizer's discriminators beside the model."""

    def write(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
        others = ("multiperioddisc.discriminators.0.convs.0.weight_v", "dac.discriminators.0.bias",
                  "dacdiscriminator.discriminator.discriminators.0.bias", "melspec_loss.mel_spec.spectrogram.window",
                  "multiresddisc.discriminators.0.conv_post.bias")  # fmt: skip
        save_lightning({**tensors, **{key: torch.ones(3) for key in others}}, folder / file)
        return folder / file

    return write


# -- forms of a folder ----------------------------------------------------------------------------

HF = "manifest_hf.json"  # the keys of transformers, in a golden folder that holds both namings


def of_transformers(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    """The folder of a hub repository of Hugging Face transformers."""
    flat_safetensors("model.safetensors")(packaging, tensors, folder)
    (folder / "config.json").write_text(json.dumps({"architectures": ["Model"], "torch_dtype": "float32"}))
    return folder


def with_settings(file: str, settings: Callable[[Any], dict[str, Any]]) -> Write:
    """The folder of a state dict and a config.json, which `settings` makes of the small network's numbers."""

    def write(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
        flat_pickle(file)(packaging, tensors, folder)
        (folder / "config.json").write_text(json.dumps(settings(packaging.config())))
        return folder

    return write


def numbers_of(config: Any, *more: str) -> dict[str, Any]:
    """The numbers that DAC and SNAC call as we do."""
    sides = (f"{side}_{what}" for side in ("encoder", "decoder") for what in ("dim", "rates"))
    return {name: getattr(config, name) for name in (*sides, "codebook_size", "codebook_dim", *more)}
