"""DAC's file mode: loudness-normalised, in windows without padding; and the `.dac` file that it writes.

The published package compresses a clip in three steps: the item is brought to -16 LUFS; its channels become items of
their own; and what is longer than a window of 1 s goes through the network window by window *with all padding taken
off*, each window starting as many samples after the last as the decoder gives back. A window's decoder output is then
joined to the next one's as it is. So the codes are not those of `encode`, there are more of them a second, and they
cannot be cut or joined elsewhere; the longer the window, the less is wasted. Benchmarks that call `compress`
(Codec-SUPERB does) see these codes.

Where upstream fails we do not follow: a decoder output that ends up to 8 samples short is filled with zeros (upstream
cannot read such a file), and an item of several channels has one gain on the way in and one on the way out, so that the
channels keep their balance (upstream scales down a clipping channel alone, and brings each one back to the loudness of
the whole item). For mono, codes and audio are upstream's.
"""

from __future__ import annotations

import itertools
import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.audio import Audio
from codeczoo.base.inputs import collate, read_clips
from codeczoo.base.resampling import resample
from codeczoo.nn.conv import ConvTranspose1d
from codeczoo.nn.loudness import loudness
from codeczoo.nn.receptive_field import Layer, convolutions_of, out_length, without_padding

if TYPE_CHECKING:
    from codeczoo.codecs.dac import DAC

VERSION = "1.0.0"  # of the file's form


@dataclass(frozen=True, eq=False)
class DACFile:
    """What a `.dac` file holds.

    Attributes:
        codes: [B · C, K, N] int64; the channels of an item follow each other.
        chunk_length: frames that are decoded together.
        original_length: samples of the clip, at its own rate.
        input_db: [B] float32, loudness in LUFS of each item before it was normalised.
        channels: C.
        sample_rate: of the clip, in Hz.
        padding: whether the network ran with its padding, that is, over the whole clip at once.
    """

    codes: Tensor
    chunk_length: int
    original_length: int
    input_db: Tensor
    channels: int
    sample_rate: int
    padding: bool

    def __post_init__(self) -> None:
        if self.codes.ndim != 3 or self.codes.is_floating_point():
            raise ValueError(
                f"codes must be integers [B · C, K, N]; they are {self.codes.dtype} {list(self.codes.shape)}"
            )
        for name in ("chunk_length", "original_length", "channels", "sample_rate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; it is {getattr(self, name)}")
        if len(self.codes) != len(self.input_db) * self.channels:
            raise ValueError(
                f"{len(self.codes)} rows of codes do not make {len(self.input_db)} items of {self.channels} channels"
            )

    def save(self, path: str | Path) -> None:
        """Write it as the published package does: 16 bits a code, in a pickle."""
        metadata = {
            "input_db": self.input_db.cpu().numpy().astype(np.float32),
            "original_length": self.original_length,
            "sample_rate": self.sample_rate,
            "chunk_length": self.chunk_length,
            "channels": self.channels,
            "padding": self.padding,
            "dac_version": VERSION,
        }
        content = np.empty((), dtype=object)
        content[()] = {"codes": self.codes.cpu().numpy().astype(np.uint16), "metadata": metadata}
        with Path(path).open("wb") as file:
            np.save(file, content)

    @classmethod
    def load(cls, path: str | Path) -> DACFile:
        """Read a `.dac` file. Only arrays and plain values are taken from it, whatever its pickle asks for.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a `.dac` file, one cut short, or one of another version.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no .dac file at {str(path)!r}")
        try:
            content = _read_object(Path(path))
            metadata = dict(content["metadata"])
            version = metadata.pop("dac_version", None)
            if version != VERSION:
                raise ValueError(f"its version is {version!r}; {VERSION!r} can be read")
            codes = torch.from_numpy(content["codes"].astype(np.int64))
            input_db = torch.from_numpy(np.atleast_1d(metadata.pop("input_db")).astype(np.float32))
            kinds = {"padding": bool, "chunk_length": int, "original_length": int, "channels": int, "sample_rate": int}
            return cls(codes=codes, input_db=input_db, **{name: kind(metadata[name]) for name, kind in kinds.items()})
        except (pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError, OverflowError,
                MemoryError, RecursionError) as error:  # fmt: skip
            raise ValueError(f"{path}: not a readable .dac file ({type(error).__name__}: {error})") from error


# -- there ----------------------------------------------------------------------------------------


def compress(
    codec: DAC,
    audio: Any,
    sample_rate: int | None,
    win_duration: float | None,
    normalize_db: float | None,
    num_codebooks: int | None,
) -> DACFile:
    """See `DAC.compress`."""
    count = codec.choose_codebooks(num_codebooks)
    original = collate(read_clips(audio, sample_rate))
    length = original.waveform.shape[-1]
    if bool((original.lengths != length).any()):
        raise ValueError(
            f"a .dac file holds clips of one length; these have {original.lengths.tolist()} samples: "
            "compress them one by one"
        )
    waveform = original.waveform.to(codec.device, codec.dtype)
    waveform = _at_rate(waveform, original.sample_rate, codec.sample_rate)
    input_db = loudness(waveform, codec.sample_rate)
    if normalize_db is not None:
        waveform = waveform * _gain(normalize_db - input_db, waveform)
    waveform = waveform / waveform.abs().amax((1, 2), keepdim=True).clamp(min=1)
    rows = waveform.flatten(0, 1)[:, None]  # [B * C, 1, T]
    window = math.inf if win_duration is None else win_duration * codec.sample_rate
    whole = rows.shape[-1] <= window
    if whole:
        codes = codec.encode(rows, codec.sample_rate, count).codes
        chunk_length = codes.shape[-1]
    else:
        codes, chunk_length = _encode_windows(codec, rows, int(window), count)
    return DACFile(
        codes=codes,
        chunk_length=chunk_length,
        original_length=length,
        input_db=input_db.float(),
        channels=original.channels,
        sample_rate=original.sample_rate,
        padding=whole,
    )


def _encode_windows(codec: DAC, rows: Tensor, samples: int, num_codebooks: int) -> tuple[Tensor, int]:
    """[B, 1, T] → codes [B, K, windows * frames], and the frames of a window. All windows stand beside each other."""
    encoder, decoder = without_padding(codec.encoder), without_padding(codec.decoder)
    samples = -(-max(samples, 1) // codec.hop_length) * codec.hop_length
    frames = out_length(convolutions_of(encoder), samples)
    step = out_length(convolutions_of(decoder), frames)
    if step < 1:
        layers, hop = convolutions_of(encoder, decoder), codec.hop_length
        enough = next(n for n in itertools.count(samples, hop) if out_length(layers, n) > 0)
        raise ValueError(
            f"a window of {samples} samples is too short: without padding {codec.name} makes nothing of less than "
            f"{enough} ({enough / codec.sample_rate:.2f} s); win_duration=None codes a clip of any length whole"
        )
    delay = _delay(encoder, decoder)
    count = -(-rows.shape[-1] // step)
    behind = max((count - 1) * step + samples - rows.shape[-1] - delay, 0)
    windows = F.pad(rows, (delay, behind)).unfold(-1, samples, step)[:, :, :count]  # a view: [B, 1, windows, samples]
    pieces = []
    for group in _groups(codec, windows, samples):
        latent, _ = encoder(group.transpose(1, 2).flatten(0, 1))
        pieces.append(_join(codec.quantizer.encode(latent, num_codebooks), len(rows)))
    return torch.cat(pieces, dim=-1), frames


def _delay(encoder: nn.Module, decoder: nn.Module) -> int:
    """Zeros before the first window: half of what the network without padding takes more than it gives back."""
    layers = convolutions_of(encoder, decoder)
    given = needed = out_length(layers, 0)
    for layer in reversed(layers):
        needed = _needed(layer, needed)
    return (needed - given) // 2


def _needed(layer: Layer, length: int) -> int:
    """The fewest input steps that give `length` output steps, where there is no padding."""
    if isinstance(layer, ConvTranspose1d):
        return -((layer.kernel_size - length) // layer.stride) + 1
    return (length - 1) * layer.stride + layer.span


# -- and back -------------------------------------------------------------------------------------


def decompress(codec: DAC, file: DACFile) -> Audio:
    """See `DAC.decompress`."""
    codes = codec._check_codes(codec.codes_from_tensor(file.codes)).codes.to(codec.device)
    chunks = codes.split(file.chunk_length, dim=-1)
    if file.padding:
        waveform = torch.cat([codec.decode(chunk).waveform for chunk in chunks], dim=-1)
    else:
        waveform = _decode_windows(codec, codes, file.chunk_length)
    waveform = waveform.view(-1, file.channels, waveform.shape[-1])
    change = file.input_db.double() - loudness(waveform, codec.sample_rate)
    waveform = _at_rate(waveform * _gain(change, waveform), codec.sample_rate, file.sample_rate)
    missing = max(file.original_length - waveform.shape[-1], 0)
    waveform = F.pad(waveform, (0, missing))[..., : file.original_length]
    return Audio(waveform, torch.full((len(waveform),), file.original_length), file.sample_rate)


def _decode_windows(codec: DAC, codes: Tensor, frames: int) -> Tensor:
    """[B, K, windows * frames] → [B, 1, T]."""
    decoder = without_padding(codec.decoder)
    if out_length(convolutions_of(decoder), frames) < 1:
        raise ValueError(f"windows of {frames} frames are too short for {codec.name}: nothing comes out of them")
    if codes.shape[-1] % frames:
        raise ValueError(f"{codes.shape[-1]} frames are not whole windows of {frames}")
    windows = codes.unflatten(-1, (-1, frames))  # [B, K, windows, frames]
    pieces = []
    for group in _groups(codec, windows, frames * codec.hop_length):
        waveform, _ = decoder(codec.quantizer.decode(group.transpose(1, 2).flatten(0, 1)))
        pieces.append(_join(waveform, len(codes)))
    return torch.cat(pieces, dim=-1)


# -- what both need -------------------------------------------------------------------------------


def _groups(codec: DAC, windows: Tensor, samples: int) -> tuple[Tensor, ...]:
    """Windows [B, _, W, _] of so many samples each, in groups that may go through the network together."""
    seconds = len(windows) * samples / codec.sample_rate
    return windows.split(max(int(codec._chunk_seconds() / seconds), 1), dim=2)


def _join(windows: Tensor, batch: int) -> Tensor:
    """[B * W, C, T] → [B, C, W * T]."""
    return windows.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2)


def _at_rate(waveform: Tensor, rate: int, wanted: int) -> Tensor:
    """With julius' filter, and as many samples as julius gives."""
    samples = max(waveform.shape[-1] * wanted // rate, 1)
    return resample(waveform, rate, wanted, filter="julius")[..., :samples]


def _gain(decibels: Tensor, like: Tensor) -> Tensor:
    """[B] in dB → factors [B, 1, 1]."""
    return (10 ** (decibels / 20)).to(like)[:, None, None]


# -- reading ---------------------------------------------------------------------------------------


def _read_object(path: Path) -> Any:
    """The object of a .npy file that holds just one, with its arrays."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"it is of version {version} of the .npy format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if shape != () or not dtype.hasobject:
            raise ValueError(f"it holds an array of {dtype} {list(shape)}, not one object")
        return _plain(_Reader(file).load())


class _DType:
    """Stands for a NumPy type while a pickle is read."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]

    def numpy(self) -> np.dtype:
        if self.code not in ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"):
            raise ValueError(f"it holds values of type {self.code!r}")
        return np.dtype(self.order + self.code)


class _Array:
    """Stands for a NumPy array."""

    def __init__(self, *_: Any) -> None:
        self.content: Any = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        if isinstance(data, list):  # an array of objects
            (self.content,) = data
        else:
            flat = np.frombuffer(data, dtype.numpy())
            self.content = flat.reshape(shape, order="F" if fortran else "C")


class _Scalar:
    """Stands for a single NumPy number."""

    def __init__(self, dtype: _DType, data: bytes) -> None:
        self.content = np.frombuffer(data, dtype.numpy())[0]


STAND_INS = {"ndarray": _Array, "_reconstruct": _Array, "dtype": _DType, "scalar": _Scalar}


class _Reader(pickle.Unpickler):
    """An unpickler that knows four names and gives stand-ins for them, in classes of its own: a pickle may set
    attributes on what it is given."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.known = {name: type(kind.__name__, (kind,), {}) for name, kind in STAND_INS.items()}

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray") and name in self.known:
            return self.known[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which has no place in it")


def _plain(tree: Any) -> Any:
    """With the arrays in place of their stand-ins."""
    if isinstance(tree, _Array | _Scalar):
        return _plain(tree.content)
    return {key: _plain(value) for key, value in tree.items()} if isinstance(tree, dict) else tree
