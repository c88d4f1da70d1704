"""codec.cpp (mybigday/codec.cpp) through its own C interface, `include/codec.h`, by ctypes.

    cmake -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DCODEC_BUILD_TTS_CLI=OFF
    ninja -C build codec_shared                     # in a clone with its submodule ggml: build/libcodec.so

    engine = CodecCpp("build/libcodec.so", "mimi.gguf", threads=1)      # codeczoo export mimi --format gguf --type f32
    codes = engine.encode(waveform)                 # float32 [B, 1, T] at the codec's rate → int32 [B, K, N]
    audio = engine.decode(codes)                    # → float32 [B, 1, T]

Its encoder takes one clip a call; its `codec_decode_batch` takes several and runs one after the other.
The structures are those of commit c5ef02b1 of July 2026.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_bool, c_char_p, c_float, c_int, c_int32, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

F32 = 0  # codec_pcm_type


class ModelParams(Structure):
    _fields_ = [("use_gpu", c_bool), ("n_threads", c_int32)]


class ContextParams(Structure):
    _fields_ = [("seed", c_int32)]


class EncodeParams(Structure):
    _fields_ = [("n_threads", c_int32), ("frame_size", c_int32), ("hop_size", c_int32), ("n_q", c_int32)]


class DecodeParams(Structure):
    _fields_ = [("n_threads", c_int32), ("n_q", c_int32)]


class AudioIn(Structure):
    _fields_ = [
        ("data", c_void_p),
        ("n_samples", c_int32),
        ("sample_rate", c_int32),
        ("n_channels", c_int32),
        ("pcm_type", c_int),
    ]


class Tokens(Structure):
    _fields_ = [
        ("data", POINTER(c_int32)),
        *((name, c_int32) for name in ("n_tokens", "n_frames", "n_q", "codebook_size", "sample_rate", "hop_size")),
    ]


class Samples(Structure):
    _fields_ = [
        ("data", POINTER(c_float)),
        ("n_samples", c_int32),
        ("sample_rate", c_int32),
        ("n_channels", c_int32),
    ]


class Batch(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("n_seq", "n_seq_alloc", "n_seq_max")),
        *((name, POINTER(c_int32)) for name in ("seq_id", "n_frames", "n_q")),
        ("mode", c_int),
        ("codes", POINTER(c_int32)),
        *((name, c_int32) for name in ("codes_size", "codes_used")),
        ("latent", POINTER(c_float)),
        *((name, c_int32) for name in ("latent_dim", "latent_size", "latent_used")),
        *((name, POINTER(c_int32)) for name in ("codes_offset", "latent_offset")),
        *((name, c_int32) for name in ("sample_rate", "hop_size")),
    ]


SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "codec_model_load_from_file": (c_void_p, [c_char_p, ModelParams]),
    "codec_model_free": (None, [c_void_p]),
    "codec_init_from_model": (c_void_p, [c_void_p, ContextParams]),
    "codec_free": (None, [c_void_p]),
    "codec_context_default_params": (ContextParams, []),
    "codec_encode": (c_int, [c_void_p, POINTER(AudioIn), POINTER(Tokens), EncodeParams]),
    "codec_decode_batch": (c_int, [c_void_p, POINTER(Batch), POINTER(Samples), DecodeParams]),
    "codec_batch_init_codes": (Batch, [c_int32, c_int32, c_int32]),
    "codec_batch_add_seq_codes": (c_int32, [POINTER(Batch), c_int32, c_int32, c_int32, POINTER(c_int32)]),
    "codec_batch_free": (None, [Batch]),
    "codec_token_buffer_free": (None, [POINTER(Tokens)]),
    "codec_pcm_buffer_free": (None, [POINTER(Samples)]),
    "codec_get_last_error": (c_char_p, [c_void_p]),
    "codec_model_sample_rate": (c_int32, [c_void_p]),
    "codec_model_n_q": (c_int32, [c_void_p]),
}


class CodecCpp:
    """A GGUF file in codec.cpp, on the CPU, with all its codebooks.

    Raises:
        OSError: the library does not load.
        ValueError: codec.cpp does not take the file; or what it says of a call that it refuses.
    """

    def __init__(self, library: str | Path, path: str | Path, threads: int = 1) -> None:
        self._library = ctypes.CDLL(str(Path(library).resolve()))
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        self._context: int | None = None
        self._model = self._library.codec_model_load_from_file(str(path).encode(), ModelParams(False, threads))
        if not self._model:
            raise ValueError(f"{path}: codec.cpp did not load it")
        self._context = self._library.codec_init_from_model(self._model, self._library.codec_context_default_params())
        if not self._context:
            raise ValueError(f"{path}: codec.cpp made no context of it")
        self.sample_rate = int(self._library.codec_model_sample_rate(self._model))
        self.num_codebooks = int(self._library.codec_model_n_q(self._model))
        self._threads = threads

    def close(self) -> None:
        """Give back its memory; a second call does nothing."""
        if self._context:
            self._library.codec_free(self._context)
        if self._model:
            self._library.codec_model_free(self._model)
        self._context = self._model = None

    def encode(self, waveform: np.ndarray) -> np.ndarray:
        """float32 [B, 1, T] at the codec's rate → codes, int32 [B, K, N]; one clip after the other."""
        return np.stack([self._encode_clip(clip) for clip in waveform[:, 0]])

    def _encode_clip(self, samples: np.ndarray) -> np.ndarray:
        samples = np.ascontiguousarray(samples, np.float32)
        audio = AudioIn(samples.ctypes.data, len(samples), self.sample_rate, 1, F32)
        tokens = Tokens()
        params = EncodeParams(self._threads, 0, 0, 0)
        self._check(self._library.codec_encode(self._context, byref(audio), byref(tokens), params))
        try:
            rows = np.ctypeslib.as_array(tokens.data, (tokens.n_frames, tokens.n_q))  # frame by frame
            return rows.T.copy()
        finally:
            self._library.codec_token_buffer_free(byref(tokens))

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes [B, K, N] → float32 [B, 1, T]; a batch of theirs."""
        count, levels, frames = codes.shape
        batch = self._library.codec_batch_init_codes(count, codes.size, count)
        samples = (Samples * count)()
        try:
            for item, grid in enumerate(codes):
                rows = np.ascontiguousarray(grid.T, np.int32)
                added = self._library.codec_batch_add_seq_codes(
                    byref(batch), item, frames, levels, rows.ctypes.data_as(POINTER(c_int32))
                )
                if added < 0:
                    raise ValueError(f"codec.cpp refused codes [{levels}, {frames}] as item {item} of a batch")
            params = DecodeParams(self._threads, levels)
            self._check(self._library.codec_decode_batch(self._context, byref(batch), samples, params))
            return np.stack([np.ctypeslib.as_array(one.data, (1, one.n_samples)).copy() for one in samples])
        finally:
            for one in samples:
                self._library.codec_pcm_buffer_free(byref(one))
            self._library.codec_batch_free(batch)

    def _check(self, status: int) -> None:
        if status:
            said = (self._library.codec_get_last_error(self._context) or b"").decode("utf-8", "replace")
            raise ValueError(f"codec.cpp: status {status}: {said or 'no reason given'}")
