"""This package's codecs with Codec-SUPERB's interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from codeczoo.base import codec as zoo
from codeczoo.base.audio import Audio
from codeczoo.base.catalogue import Variant
from codeczoo.base.codes import Codes
from codeczoo.registry import load_codec
from codeczoo.superb.base_codec.general import BaseCodec, BatchExtractedUnit, ExtractedUnit
from codeczoo.superb.items import Item, read_item


@dataclass(frozen=True)
class Shapes:
    """How upstream's wrapper of a family lays out codes and audio.

    Attributes:
        unit: "KN", "NK" or "N": codebooks and frames.
        flat_decode: mono audio of `decode_unit` is [T], not [1, T].
        flat_synth: the same of `synth`.
        offset: added to the codes of codebook k, k times.
        dtype: of the unit.
    """

    unit: str = "KN"
    flat_decode: bool = False
    flat_synth: bool = True
    offset: int = 0
    dtype: torch.dtype = torch.int64


SHAPES: Mapping[str, Shapes] = {
    "audiodec": Shapes(offset=1024),
    "auv": Shapes(unit="N"),
    "bigcodec": Shapes(flat_decode=True),
    "dac": Shapes(unit="NK", flat_synth=False),
    "funcodec": Shapes(flat_synth=False),
    "s3tokenizer": Shapes(unit="N"),
    "sqcodec": Shapes(dtype=torch.int32),
}
NARROW = ("s3tokenizer_v2_25hz", "s3tokenizer_v3_25hz")  # int32, unlike the others of their family

# What upstream calls some of its codecs in the names of folders.
SETTINGS: Mapping[str, str] = {
    "encodec_24k_12bps": "encodec_24khz_12",
    "encodec_24k_1_5bps": "encodec_24khz_1_5",
    "encodec_24k_24bps": "encodec_24khz_24",
    "encodec_24k_3bps": "encodec_24khz_3",
    "encodec_24k_6bps": "encodec_24khz_6",
    "funcodec_en_libritts_16k_gr1nq32ds320": "funcodec_en_libritts-16k-gr1nq32ds320",
    "funcodec_en_libritts_16k_gr8nq32ds320": "funcodec_en_libritts-16k-gr8nq32ds320",
    "funcodec_en_libritts_16k_nq32ds320": "funcodec_en_libritts-16k-nq32ds320",
    "funcodec_en_libritts_16k_nq32ds640": "funcodec_en_libritts-16k-nq32ds640",
    "funcodec_zh_en_16k_nq32ds320": "funcodec_zh_en_general_16k_nq32ds320",
    "funcodec_zh_en_16k_nq32ds640": "funcodec_zh_en_general_16k_nq32ds640",
    "wavtokenizer_24k_large_600_4096": "wavtokenizer_large_unify_600_24k",
    "wavtokenizer_24k_large_speech_75token": "wavtokenizer_large_speech_75token",
    "wavtokenizer_24k_medium_600_4096": "wavtokenizer_medium_speech_75token",
    "wavtokenizer_24k_small_600_4096": "wavtokenizer_small_600_24k_4096",
}


class Codec(BaseCodec):
    """One codec of this package; `codec_name` is its class's.

    Args:
        model: a codec that is loaded already; None = load it.
        options: of `codeczoo.load_codec`.

    Attributes:
        model: the codec, with its whole interface.
    """

    codec_name: ClassVar[str]

    def __init__(self, model: zoo.BaseCodec | None = None, **options: Any) -> None:
        self._load = partial(load_codec, self.codec_name, **options) if model is None else lambda: model
        super().__init__()

    def config(self) -> None:
        """Load the codec; upstream's `__init__` calls it."""
        self.model = self._load()
        self.device = str(self.model.device)
        self.sampling_rate = self.model.sample_rate
        self.setting = SETTINGS.get(self.model.name, self.model.name)
        self._shapes = SHAPES.get(self.model.variant.family, Shapes())
        self._flat_synth, self._flat_decode = self._shapes.flat_synth, self._shapes.flat_decode
        # Upstream codes each clip at a peak of 0.95; here the level comes back, as a side value of the codes.
        self._settings: dict[str, Any] = {"peak_normalise": True} if self.model.variant.family == "academicodec" else {}

    def extract_unit(self, data: Mapping[str, Any]) -> ExtractedUnit:
        """Codes of one item, resampled to the codec's rate and mixed to its channels.

        Returns:
            the unit (docs/superb.md has its shape for each family), and `Codes` of a batch of one as what
            `decode_unit` takes; None in its place for a tokenizer.
        """
        return self._extracted(self._encode([read_item(data, self.sampling_rate).audio]))[0]

    def decode_unit(self, stuff_for_synth: Any) -> np.ndarray:
        """Audio at `sampling_rate`, float32 [1, T] ([T] for BigCodec), as long as the clip was, if that is known.

        Args:
            stuff_for_synth: what `extract_unit` gave under that name; all that it gave; or a unit alone, as a tensor,
                an array or a list of integers.

        Raises:
            NotImplementedError: the codec is a tokenizer without a decoder.
        """
        self._needs_decoder()
        return self._array(self.model.decode(self._codes(stuff_for_synth)).resample(self.model.sample_rate))

    def is_1d(self) -> bool:
        """Whether it has one codebook."""
        return self.model.num_codebooks == 1

    def batch_extract_unit(self, data_list: Sequence[Mapping[str, Any]]) -> BatchExtractedUnit:
        """`extract_unit` of many, in one ragged batch: each clip has the codes that it has alone."""
        if not data_list:
            return BatchExtractedUnit([], [], 0)
        items = [read_item(data, self.sampling_rate).audio for data in data_list]
        found = self._extracted(self._encode(items))
        return BatchExtractedUnit([one.unit for one in found], [one.stuff_for_synth for one in found], len(found))

    def batch_decode_unit(self, batch_extracted_unit: BatchExtractedUnit) -> list[np.ndarray]:
        """`decode_unit` of many, in one batch; from the units where there is nothing else."""
        self._needs_decoder()
        batch = batch_extracted_unit
        pairs = zip(batch.units, batch.stuff_for_synth, strict=True)
        codes = [self._codes(unit if stuff is None else stuff) for unit, stuff in pairs]
        if not codes:
            return []
        return [self._array(clip) for clip in self.model.decode(Codes.cat(codes)).resample(self.model.sample_rate)]

    # -- shapes ---------------------------------------------------------------------------------

    def _there_and_back(self, items: Sequence[Item]) -> list[tuple[Tensor, Audio | None]]:
        if not items:
            return []
        codes = self._encode([item.audio for item in items])
        units = [one.unit for one in self._extracted(codes)]
        if not self.supports_decode:
            return [(unit, None) for unit in units]
        decoded = self.model.decode(codes)
        return [(unit, clip.matched_to(item.audio)) for unit, clip, item in zip(units, decoded, items, strict=True)]

    def _encode(self, audio: Sequence[Audio]) -> Codes:
        """Encode with `_settings` on the model, which belongs to its owner: it gets its own settings back."""
        before = {name: getattr(self.model, name) for name in self._settings}
        try:
            for name, value in self._settings.items():
                setattr(self.model, name, value)
            return self.model.encode(audio)
        finally:
            for name, value in before.items():
                setattr(self.model, name, value)

    def _extracted(self, codes: Codes) -> list[ExtractedUnit]:
        return [ExtractedUnit(self._unit(one), one if self.supports_decode else None) for one in codes]

    def _unit(self, codes: Codes) -> Tensor:
        """`Codes` of one clip → its unit."""
        shapes = self._shapes
        unit = codes.codes[0]  # [K, N]
        if shapes.offset:
            unit = unit + shapes.offset * torch.arange(len(unit), device=unit.device)[:, None]
        unit = unit.to(torch.int32 if self.model.name in NARROW else shapes.dtype)
        return unit[0] if shapes.unit == "N" else unit.T if shapes.unit == "NK" else unit

    def _codes(self, given: Any) -> Codes:
        """What `decode_unit` takes, as `Codes` of a batch of one."""
        if isinstance(given, ExtractedUnit):
            given = given.unit if given.stuff_for_synth is None else given.stuff_for_synth
        if isinstance(given, Codes):
            return given.to(self.model.device)
        shapes = self._shapes
        unit = torch.as_tensor(given)
        if unit.ndim == 1:
            unit = unit[None]
        elif unit.ndim == 2 and shapes.unit == "NK":
            unit = unit.T
        if unit.ndim != 2:
            raise ValueError(f"{self.model.name}: a unit is {shapes.unit}; its shape is {tuple(unit.shape)}")
        if shapes.offset:
            unit = unit - shapes.offset * torch.arange(len(unit), device=unit.device)[:, None]
        return self.model.codes_from_tensor(unit[None].to(self.model.device))

    def _array(self, audio: Audio) -> np.ndarray:
        waveform = audio.waveform[0].detach().float().cpu().numpy()
        return waveform[0] if self._flat_decode else waveform

    def _needs_decoder(self) -> None:
        if reason := self.model.variant.decode_unsupported_reason:
            raise NotImplementedError(reason)


class UniCodec(Codec):
    """UniCodec can be told what it hears."""

    def extract_unit(self, data: Mapping[str, Any], domain: str = "0") -> ExtractedUnit:
        """`domain`: "0" speech, "1" music, "2" other sound."""
        self._settings = {"domain": ("speech", "music", "audio")[int(domain)]}
        try:
            return super().extract_unit(data)
        finally:
            self._settings = {}


def class_of(variant: Variant) -> type[Codec]:
    """The class that makes that codec when it is called without arguments, as each of upstream's modules has one."""
    kind = UniCodec if variant.family == "unicodec" else Codec
    facts = {"codec_name": variant.name, "supports_decode": variant.codec_type().supports_decode}
    return type("Codec", (kind,), {**facts, "__doc__": f"{variant.name}, with Codec-SUPERB's interface."})
