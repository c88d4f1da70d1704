"""Opus, Vorbis and MP3, encoded and decoded by libsndfile: the codecs to compare every neural one with.

A clip's codes are the bytes of its compressed file, [B, 1, bytes], 0 to 255: written to disk, they play anywhere. So
`Codes.bitrate` is the measured bitrate, with the header; the nominal bitrate is what the encoder was asked for. Ogg
files are reduced to what the clip needs (formats/ogg.py), which also makes them the same in every run.

- **Opus** (RFC 6716; libopus): variable bitrate, which the encoder chooses. Its speech coder works at 8 kHz up to 8
kbit/s
  and at 16 kHz above, and resamples audio of another rate, which shifts the clip by up to 3.5 samples of 48 kHz. So the
  variants up to 8 kbit/s run at 8 kHz here, and those of 12 and 16 at 16 kHz. A file at 48 kHz that is mostly coded as
  speech counts the shift among the samples that a decoder must skip. libsndfile offers 6 kbit/s a channel and more, so
  that variants below 12 kbit/s are mono.
- **Vorbis** (Vorbis I; libvorbis): a quality is asked for, not a bitrate. The nominal bitrate is about that of speech
in
  mono and of a mixture of music and speech in stereo. 3 to 4 kB of codebooks at the file's head weigh on short clips.
- **MP3** (ISO/IEC 11172-3 and 13818-3, layer III; LAME, mpg123): constant bitrate.

Encoders look at a whole clip, so none of them streams here. (Opus itself could: its `latency` is a frame of 20 ms and
6.5 ms of look-ahead.)
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import soundfile as sf
import torch
from torch import Tensor

from codeczoo.base import BaseCodec, Codes, Decoded, Encoded, Variant, pad_stack, read_clips
from codeczoo.base.audio import stack
from codeczoo.base.strategy import Strategy
from codeczoo.codecs.formats import ogg

READ_BLOCK_SAMPLES = 1 << 16  # read at once, because a damaged file may announce any length

# Opus, in libsndfile: from 256 kbit/s a channel (level 0) down to 6 (level 1).
OPUS_MAX_BITRATE, OPUS_MIN_BITRATE = 256_000, 6_000

# The five upper bits of an Opus packet tell its coder: below 16 the speech coder (SILK) takes part. At 48 kHz that
# coder is 2.3 samples earlier than the encoder announces.
OPUS_FIRST_CELT, OPUS_SPEECH_LEAD = 16, 2

# MP3, in libsndfile: the bitrates of MPEG-1 (from 32 kHz on) and MPEG-2, kbit/s.
MPEG_1_KBPS, MPEG_2_KBPS = (32, 320), (8, 160)

# LAME's filter bank and window delay a sample by 576, a decoder's by 529.
MP3_DELAY = 576 + 529


@dataclass(frozen=True)
class SndfileConfig:
    """Rate of a variant. `levels`: libsndfile's compression level for mono and stereo, where no formula gives it."""

    sample_rate: int
    bitrate: float  # nominal, bit/s
    levels: tuple[float, ...] = ()


class SndfileCodec(BaseCodec):
    """Base of `Opus`, `Vorbis` and `Mp3`: codes [B, 1, bytes] are the bytes of a compressed file."""

    Config = SndfileConfig
    onnx_unsupported: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("encoder", "decoder"), "its coder is a program of libsndfile, and no network"
    )
    latents_unsupported_reason = "its codes are the bytes of a compressed file"
    container: ClassVar[str]  # libsndfile's names
    subtype: ClassVar[str]

    channels: tuple[int, ...] = (1, 2)
    hop_length = None
    codebook_sizes = (256,)
    codebook_choices = (1,)

    def __init__(self, config: SndfileConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.bitrate = float(config.bitrate)

    def compression(self, channels: int) -> dict[str, Any]:
        """Arguments of `soundfile.write` that set the bitrate."""
        raise NotImplementedError

    def pack(self, file: bytes) -> bytes:
        """The file that becomes codes."""
        return file

    def delay(self, file: bytes) -> int:
        """Samples before the clip in the audio that libsndfile decodes."""
        return 0

    def encode(
        self,
        audio: Any,
        sample_rate: int | None = None,
        num_codebooks: int | None = None,
        bitrate: float | None = None,
    ) -> Codes:
        """As `BaseCodec.encode`. A file tells its channels, so that mono clips stay mono beside stereo ones."""
        clips = [stack([clip.waveform], clip.sample_rate) for clip in read_clips(audio, sample_rate)]
        by_channels: dict[int, list[int]] = {}
        for i, clip in enumerate(clips):
            by_channels.setdefault(clip.channels, []).append(i)
        parts = [
            super(SndfileCodec, self).encode([clips[i] for i in members], None, num_codebooks, bitrate)
            for members in by_channels.values()
        ]
        if len(parts) == 1:
            return parts[0]
        order = torch.tensor([i for members in by_channels.values() for i in members])
        return Codes.cat(parts)[order.argsort()]

    # -- hooks ----------------------------------------------------------------------------------

    def bitrate_of(self, num_codebooks: int) -> float:
        return self.bitrate

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        samples = waveform.float().cpu().numpy()
        files = _map_in_threads(
            self._compress, (row[:, :n].T for row, n in zip(samples, lengths.tolist(), strict=True))
        )
        codes, sizes = pad_stack([torch.from_numpy(np.frombuffer(file, np.uint8).astype(np.int64)) for file in files])
        return Encoded(codes[:, None].to(self.device), sizes.to(self.device))

    def _decode(self, codes: Tensor, lengths: Tensor, side_info: Mapping[str, Tensor], num_samples: Tensor) -> Decoded:
        rows = codes[:, 0].to(torch.uint8).cpu().numpy()
        work = zip(range(len(rows)), rows, lengths.tolist(), num_samples.tolist(), strict=True)
        clips = _map_in_threads(lambda item: self._decompress(item[0], item[1][: item[2]].tobytes(), item[3]), work)
        channels = max(len(clip) for clip in clips)  # a mono file among stereo ones is copied to both channels
        waveform, counts = pad_stack([clip.expand(channels, -1).to(self.device, self.dtype) for clip in clips])
        return Decoded(waveform, counts)

    def _encode_long(self, waveform: Tensor, lengths: Tensor, num_codebooks: int, samples: int) -> Encoded:
        return self._encode(waveform, lengths, num_codebooks)  # libsndfile goes through a clip frame by frame

    def _plan(self, lengths: Tensor, samples_each: int, encoding: bool) -> tuple[list[slice], Strategy]:
        # all at once: each clip is a file, and several are written side by side
        return [slice(0, len(lengths))], Strategy(self._chunk_seconds())

    # -- one clip -------------------------------------------------------------------------------

    def _compress(self, samples: np.ndarray) -> bytes:
        """[T, C] float32 → a file."""
        buffer = io.BytesIO()
        sf.write(
            buffer,
            samples,
            self.sample_rate,
            format=self.container,
            subtype=self.subtype,
            **self.compression(samples.shape[1]),
        )
        return self.pack(buffer.getvalue())

    def _decompress(self, index: int, file: bytes, num_samples: int) -> Tensor:
        """A file → [C, T]. `num_samples`: -1 if unknown."""
        what = f"{self.name}: item {index}: these codes are not a whole {self.subtype} file"
        try:
            with sf.SoundFile(io.BytesIO(file)) as source:
                found = (source.format, source.subtype, source.samplerate)
                if found != (self.container, self.subtype, self.sample_rate) or source.channels > 2:
                    raise ValueError(f"{what} of {self.sample_rate} Hz, but {found}, {source.channels} channels")
                found_channels, blocks = source.channels, []
                while len(block := source.read(READ_BLOCK_SAMPLES, dtype="float32", always_2d=True)):
                    blocks.append(block)
        except sf.LibsndfileError as error:
            raise ValueError(f"{what} ({error.error_string})") from error
        clip = np.empty((found_channels, sum(map(len, blocks))), np.float32)
        end = clip.shape[-1]
        while blocks:  # each is freed once it is copied, so that an hour of audio is in memory once
            block = blocks.pop()
            clip[:, end - len(block) : end] = block.T
            end -= len(block)
        clip = clip[:, self.delay(file) :]
        if clip.shape[-1] < max(num_samples, 1):
            raise ValueError(f"{what}: they hold {clip.shape[-1]} samples" + f" of {num_samples}" * (num_samples > 0))
        return torch.from_numpy(clip)


class Opus(SndfileCodec):
    """Opus (RFC 6716, 2012): the internet's codec for speech and music, by libopus. It has no weights.

    Audio [B, C, T] at 8, 16 or 48 kHz, C 1 or 2 ↔ codes [B, 1, bytes] of an Ogg file, 6 to 128 kbit/s by variant.

        codec = load_codec("opus_12k")
        audio = codec.decode(codec.encode("talk.wav"))
    """

    container, subtype = "OGG", "OPUS"
    latency = 0.0265

    def __init__(self, config: SndfileConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        if config.bitrate < 2 * OPUS_MIN_BITRATE:
            self.channels = (1,)

    def compression(self, channels: int) -> dict[str, Any]:
        each = self.bitrate / channels
        return {"compression_level": (OPUS_MAX_BITRATE - each) / (OPUS_MAX_BITRATE - OPUS_MIN_BITRATE)}

    def pack(self, file: bytes) -> bytes:
        head, tags, *audio = ogg.minimal(file)
        speech = [packet[0] >> 3 < OPUS_FIRST_CELT for packet in ogg.packets(audio)]
        if self.sample_rate == 48000 and 2 * sum(speech) > len(speech):
            # Let the file begin two samples sooner. The first two bytes behind name, version and channels say where.
            skip = int.from_bytes(head.body[10:12], "little") - OPUS_SPEECH_LEAD
            head = head._replace(body=head.body[:10] + skip.to_bytes(2, "little") + head.body[12:])
            end = max([audio[-1].granule - OPUS_SPEECH_LEAD, *(page.granule for page in audio[:-1])])
            audio[-1] = audio[-1]._replace(granule=end)
        return ogg.write_pages([head, tags, *audio])


class Vorbis(SndfileCodec):
    """Vorbis (Xiph.Org, 2000): a codec for music with a variable bitrate, by libvorbis. It has no weights.

    Audio [B, C, T], C 1 or 2 ↔ codes [B, 1, bytes] of an Ogg file.

        codec = load_codec("vorbis_64k")
        audio = codec.decode(codec.encode("song.wav"))
    """

    container, subtype = "OGG", "VORBIS"

    def __init__(self, config: SndfileConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.channels = (1, 2)[: len(config.levels)]

    def compression(self, channels: int) -> dict[str, Any]:
        return {"compression_level": self.config.levels[channels - 1]}

    def pack(self, file: bytes) -> bytes:
        return ogg.write_pages(ogg.minimal(file))


class Mp3(SndfileCodec):
    """MP3 (MPEG-1/2 layer III, 1993): the classic codec for music at a constant bitrate, by LAME. It has no weights.

    Audio [B, C, T], C 1 or 2 ↔ codes [B, 1, bytes] of an MP3 file.

        codec = load_codec("mp3_64k")
        audio = codec.decode(codec.encode("song.wav"))
    """

    container, subtype = "MP3", "MPEG_LAYER_III"

    def compression(self, channels: int) -> dict[str, Any]:
        least, most = MPEG_1_KBPS if self.sample_rate >= 32000 else MPEG_2_KBPS
        # libsndfile rounds down, and LAME takes the next bitrate that exists.
        level = (most - self.bitrate / 1000 - 0.5) / (most - least)
        return {"compression_level": max(level, 0.0), "bitrate_mode": "CONSTANT"}

    def delay(self, file: bytes) -> int:
        # LAME writes the delay into an "Info" frame if that fits into one frame; mpg123 then removes it.
        return 0 if b"Info" in file[:64] else MP3_DELAY


def _map_in_threads(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """`function` of each item, in as many threads as torch may use: libsndfile runs without Python's lock."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(function, items))
