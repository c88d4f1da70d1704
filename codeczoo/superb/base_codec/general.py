"""Codec-SUPERB's base class and result types, with its names and shapes; docs/superb.md says what is done otherwise."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codeczoo.base import audio_io
from codeczoo.base.audio import Audio
from codeczoo.base.device import choose_device
from codeczoo.base.resampling import resample
from codeczoo.data.file_names import safe_path
from codeczoo.superb.items import Item, read_item

PEAK = 0.99  # of audio that is saved with `rescale`


@dataclass
class ExtractedUnit:
    """What `extract_unit` gives: the codes of one clip, and what `decode_unit` makes audio of."""

    unit: Tensor
    stuff_for_synth: Any

    def to_dict(self) -> dict[str, Any]:
        """The fields by their names."""
        return {"unit": self.unit, "stuff_for_synth": self.stuff_for_synth}


@dataclass
class BatchExtractedUnit:
    """What `batch_extract_unit` gives: lists of `batch_size` units and of as many things to make audio of."""

    units: list[Tensor]
    stuff_for_synth: list[Any]
    batch_size: int

    def to_dict(self) -> dict[str, Any]:
        """The fields by their names."""
        return {"units": self.units, "stuff_for_synth": self.stuff_for_synth, "batch_size": self.batch_size}


class BaseCodec(ABC):
    """A codec with Codec-SUPERB's interface. One of your own gives `config`, `extract_unit` and `decode_unit`.

    Attributes:
        sampling_rate: in Hz, that of what `decode_unit` gives.
        setting: its name; folders of saved audio bear it.
        supports_decode: False for tokenizers.
        device: "cuda", "mps" or "cpu".
    """

    supports_decode: bool = True

    def __init__(self) -> None:
        self.device = str(choose_device())
        self.sampling_rate: int | None = None
        self.setting: str | None = None
        self._saved: dict[Path, int] = {}
        self.config()

    @abstractmethod
    def config(self) -> None:
        """Load what is needed; set `sampling_rate` and `setting`."""

    @abstractmethod
    def extract_unit(self, data: Any) -> ExtractedUnit:
        """Codes of one item, {"audio": {"array": ..., "sampling_rate": ...}}."""

    @abstractmethod
    def decode_unit(self, stuff_for_synth: Any) -> np.ndarray:
        """Audio, float32, at `sampling_rate`."""

    def is_1d(self) -> bool:
        """Whether a clip's codes are one sequence."""
        silence = {"audio": {"array": np.zeros(16000, np.float32), "sampling_rate": 16000}}
        return sum(size > 1 for size in self.extract_unit(silence).unit.shape) <= 1

    # -- there and back -------------------------------------------------------------------------

    def synth(self, data: MutableMapping[str, Any], local_save: bool = True) -> MutableMapping[str, Any]:
        """An item as the codec leaves it, at its own rate, length and channel count. `data` is changed and returned.

        data["unit"] is the unit; data["audio"] is {"array", "sampling_rate"}, or {"path", "sampling_rate"} of a file
        in `reconstructed_SETTING/` with `local_save`. A codec without a decoder gives {"array": None, ...} and
        data["encode_only"].
        """
        item = read_item(data, self.sampling_rate)
        [(unit, back)] = self._there_and_back([item])
        data["unit"] = unit
        rate = item.audio.sample_rate
        if back is None:
            _without_audio(data, local_save)
        elif local_save:
            path = self._save(back, f"reconstructed_{self.setting}", data.get("id"))
            data["audio"] = {"path": path, "sampling_rate": rate}
        else:
            data["audio"] = {"array": item.array(back, flat=self._flat_synth), "sampling_rate": rate}
        return data

    def batch_synth(
        self, data_list: Sequence[MutableMapping[str, Any]], local_save: bool = True
    ) -> list[MutableMapping[str, Any]]:
        """`synth` of many items together. With `local_save`, data["audio"] is a path, in `dummy_SETTING/`."""
        items = [read_item(data, self.sampling_rate) for data in data_list]
        for data, item, (unit, back) in zip(data_list, items, self._there_and_back(items), strict=True):
            data["unit"] = unit
            if back is None:
                _without_audio(data, local_save)
            elif local_save:
                data["audio"] = self._save(back, f"dummy_{self.setting}", data.get("id"))
            else:
                array = item.array(back, flat=self._flat_decode)
                data["audio"] = {**_as_dict(data["audio"]), "array": array, "sampling_rate": item.audio.sample_rate}
        return list(data_list)

    # -- batches --------------------------------------------------------------------------------

    def batch_extract_unit(self, data_list: Sequence[Any]) -> BatchExtractedUnit:
        """`extract_unit` of many."""
        found = [self.extract_unit(data) for data in data_list]
        return BatchExtractedUnit([one.unit for one in found], [one.stuff_for_synth for one in found], len(found))

    def batch_decode_unit(self, batch_extracted_unit: BatchExtractedUnit) -> list[np.ndarray]:
        """`decode_unit` of many."""
        return [self.decode_unit(stuff) for stuff in batch_extracted_unit.stuff_for_synth]

    # -- for `synth` ----------------------------------------------------------------------------

    # Whether mono audio is [T], not [1, T], as `synth` and as `decode_unit` give it.
    _flat_synth: bool = True
    _flat_decode: bool = True

    def _there_and_back(self, items: Sequence[Item]) -> list[tuple[Tensor, Audio | None]]:
        """Of each item its unit, and its audio again, like the item's; None where there is no decoder."""
        assert self.sampling_rate is not None
        out: list[tuple[Tensor, Audio | None]] = []
        for item in items:
            mono = item.audio.mix(1).resample(self.sampling_rate)
            audio = {"array": mono.numpy(), "sampling_rate": self.sampling_rate}
            extracted = self.extract_unit({"audio": audio})
            if not self.supports_decode:
                out.append((extracted.unit, None))
                continue
            decoded = np.asarray(self.decode_unit(extracted.stuff_for_synth), np.float32).squeeze()
            out.append((extracted.unit, Audio.of(decoded, self.sampling_rate).matched_to(item.audio)))
        return out

    def _save(self, audio: Audio, folder: str, identity: Any) -> str:
        """Save one clip under its id; another one of the same id is not written over."""
        name = safe_path(str(uuid.uuid4() if identity is None else identity))
        path = Path(folder) / f"{name}.wav"
        times = self._saved[path] = self._saved.get(path, 0) + 1
        path = path if times == 1 else path.with_name(f"{path.stem}-{times}.wav")
        save_audio(audio.waveform[0], path, audio.sample_rate)
        return str(path)


def save_audio(wav: Tensor | np.ndarray, path: str | Path, sample_rate: int, rescale: bool = False) -> None:
    """Samples [T] or [C, T] as a WAV file of 32 bit floats, so that nothing is lost or clipped; folders are made.

    Args:
        rescale: bring a peak above 0.99 down to that.

    Raises:
        ValueError: no samples, or NaN among them.
    """
    waveform = torch.as_tensor(wav).detach().float().cpu()
    if rescale and waveform.numel() and (peak := float(waveform.abs().max())) > PEAK:
        waveform = waveform * (PEAK / peak)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    audio_io.write(path, waveform, sample_rate, format="WAV", subtype="FLOAT")


def pad_arrays_to_match(array1: np.ndarray, array2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both arrays with zeros at the ends of their axes, up to the longer one's."""
    if array1.ndim != array2.ndim:
        raise ValueError(f"arrays of {array1.ndim} and {array2.ndim} axes cannot be made alike")
    shape = np.maximum(array1.shape, array2.shape)
    padded = [np.pad(a, [(0, to - size) for to, size in zip(shape, a.shape, strict=True)]) for a in (array1, array2)]
    return padded[0], padded[1]


def resample_audio(audio_array: np.ndarray | Tensor, orig_sr: int, target_sr: int) -> np.ndarray:
    """Samples [T] at another rate, with this package's resampler."""
    waveform = torch.as_tensor(audio_array)
    if waveform.ndim != 1:
        raise ValueError(f"resample_audio takes [T]; the array's shape is {tuple(waveform.shape)}")
    return resample(waveform, orig_sr, target_sr).cpu().numpy()


def _without_audio(data: MutableMapping[str, Any], local_save: bool) -> None:
    """What `synth` of a codec without a decoder leaves."""
    if not local_save:
        data["audio"] = {**_as_dict(data["audio"]), "array": None}
        data["encode_only"] = True


def _as_dict(audio: Any) -> dict[str, Any]:
    """An item's audio as a dict to which results are added; a bare path gives none."""
    return dict(audio) if isinstance(audio, MutableMapping) else {}
