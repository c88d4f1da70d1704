"""EnCodec's language models with weights that are made of names, and probabilities for its arithmetic coder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codeczoo.codecs.formats.encodec_lm import EncodecLM, language_models
from codeczoo.weights.load import load_model
from tests.support.golden_weights import noise

GOLDEN_NETWORK = {"num_codebooks": 2, "past": 12}  # of the golden files; all else is as published
HEADS = {"natural": 0.3, "sharp": 100000.0}  # sharp: every probability is 0 or 1, whatever the last bits of the logits
CODER_SYMBOLS = (3, 64, 1024)  # of the coder's case, in turn
CODER_STEPS = 400


def values_of(key: str, shape: Sequence[int], heads: float) -> Tensor:
    """Noise for a published tensor; `heads` is the size of the last layer's weights."""
    values = torch.from_numpy(noise(f"ecdc/{key}", int(np.prod(shape))).astype(np.float32)).reshape(tuple(shape))
    if key.startswith("linears.") and key.endswith("weight"):
        return values * heads
    if len(shape) == 2 and not key.startswith("emb."):
        return values * (3 / shape[1]) ** 0.5
    return 1 + 0.1 * values if "norm" in key and key.endswith("weight") else values * (1 if len(shape) == 2 else 0.1)


def language_model(codec: str, sharpness: float = 1.0, **network: Any) -> EncodecLM:
    """A language model of another size, with the weights that a checkpoint of the published naming would hold."""
    known = language_models()[codec]
    variant = replace(known, network={**known.network, **network})
    shapes = published_shapes(variant.build())
    model = load_model(variant, {key: values_of(key, shape, sharpness) for key, shape in shapes.items()}, device="cpu")
    assert isinstance(model, EncodecLM)
    return model


def published_shapes(model: EncodecLM) -> Mapping[str, Sequence[int]]:
    (key_map,) = EncodecLM.key_maps
    return {key_map.sources(name)[0][0]: list(tensor.shape) for name, tensor in model.state_dict().items()}


def coder_case() -> list[tuple[np.ndarray, int]]:
    """Probabilities, exact in float32, and a symbol for each."""
    case = []
    for step in range(CODER_STEPS):
        count = CODER_SYMBOLS[step % len(CODER_SYMBOLS)]
        x = np.square(np.square(noise(f"ecdc/probabilities/{step}", count)))
        x = np.floor(x * x * x * x * (2**24 / count)) * 2.0**-24
        if step % 7 == 0:  # one symbol has all
            x = np.zeros(count)
            x[step % count] = 1
        case.append((x.astype(np.float32), int((noise(f"ecdc/symbol/{step}", 1)[0] + 1) / 2 * count)))
    return case
