"""Codec-SUPERB's data items: dicts whose "audio" is samples with a rate, a path, bytes or a decoder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codeczoo.base.audio import Audio, stack
from codeczoo.base.inputs import read_clips

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One item's audio, and how its samples lay in the array.

    Attributes:
        audio: a batch of one.
        time_first: the array was [T, C], as soundfile gives it, not [C, T].
    """

    audio: Audio
    time_first: bool = False

    def array(self, audio: Audio, *, flat: bool) -> np.ndarray:
        """`audio` as this item's array: several channels as they came, one as [T] if `flat`, else [1, T]. float32."""
        waveform = audio.waveform[0].detach().float().cpu().numpy()
        if len(waveform) == 1:
            return waveform[0] if flat else waveform
        return waveform.T if self.time_first else waveform


def read_item(data: Mapping[str, Any], default_rate: int | None) -> Item:
    """The audio of an item.

    Args:
        data: `data["audio"]` is a dict with "array" (NumPy, torch or a list; [T], [C, T] or [T, C]) and
            "sampling_rate", or with "path" or "bytes"; a path; or a decoder of Hugging Face datasets.
        default_rate: taken, with a warning, where an array comes without its rate.

    Raises:
        KeyError: no "audio".
        TypeError, ValueError, FileNotFoundError: audio that cannot be read.
    """
    audio = data["audio"]
    if hasattr(audio, "get_all_samples"):
        samples = audio.get_all_samples()
        audio = {"array": samples.data, "sampling_rate": samples.sample_rate}
    if not isinstance(audio, Mapping) or audio.get("array") is None:
        (clip,) = read_clips(audio)
        # Read from a file, several channels are [T, C] with upstream's reader.
        return Item(stack([clip.waveform], clip.sample_rate), time_first=True)
    array = audio["array"]
    if not isinstance(array, Tensor | np.ndarray):
        array = np.asarray(array, dtype=np.float32)
    waveform = torch.as_tensor(array)
    # Clips are longer than they have channels, which tells [C, T] from [T, C].
    time_first = waveform.ndim == 2 and waveform.shape[0] > waveform.shape[1]
    rate = audio.get("sampling_rate")
    if rate is None and default_rate is not None:
        log.warning("an array came without its sampling_rate; it is taken to be the codec's, %d Hz", default_rate)
        rate = default_rate
    (clip,) = read_clips(waveform.T if time_first else waveform, rate)
    return Item(stack([clip.waveform], clip.sample_rate), time_first)
