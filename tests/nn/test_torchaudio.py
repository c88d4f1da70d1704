"""Our resampler and mel spectra equal torchaudio's, where it imports (the extra `torchaudio`).

Its last release imports beside one CUDA build of torch only; without its folder `lib` it imports beside any, and all
that is compared here is Python. Nothing in codeczoo needs it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from codeczoo import load_codec
from codeczoo.base.resampling import resample
from codeczoo.nn.fbank import w2v_bert_features
from codeczoo.nn.log_mel import whisper_log_mel
from codeczoo.nn.mel import mel_filters
from tests.support.sound import chirp

try:
    import torchaudio
    import torchaudio.compliance.kaldi
except (ImportError, OSError) as error:
    pytest.skip(f"torchaudio does not import: {str(error).splitlines()[0]}", allow_module_level=True)

ta: Any = torchaudio


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("orig", "new"), [(8000, 16000), (16000, 24000), (24000, 16000), (44100, 16000), (22050, 24000), (48000, 44100)]
)
def test_the_resampler(orig: int, new: int, dtype: torch.dtype) -> None:
    clip = chirp(20000, orig).to(dtype)
    expected = ta.functional.resample(clip, orig, new)
    found = resample(clip, orig, new)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=2e-6 if dtype == torch.float32 else 1e-12, rtol=0)


@pytest.mark.parametrize(("rate", "window", "mels"), [(16000, 400, 128), (24000, 2048, 150), (44100, 512, 80)])
def test_mel_filters(rate: int, window: int, mels: int) -> None:
    expected = ta.functional.melscale_fbanks(window // 2 + 1, 0.0, rate / 2, mels, rate, "slaney", "slaney")
    torch.testing.assert_close(mel_filters(rate, window, mels).float(), expected, atol=1e-6, rtol=1e-4)


def test_whispers_log_mel() -> None:
    clip = chirp(32000, 16000)
    spectrum = ta.transforms.MelSpectrogram(16000, 400, hop_length=160, n_mels=128, norm="slaney", mel_scale="slaney")
    log = spectrum(clip)[..., :-1].clamp(min=1e-10).log10()
    expected = (torch.maximum(log, log.max() - 8) + 4) / 4
    torch.testing.assert_close(whisper_log_mel(clip), expected, atol=1e-4, rtol=0)


def test_the_filter_bank_of_w2v_bert() -> None:
    clip = chirp(16000, 16000)
    bands = ta.compliance.kaldi.fbank(
        clip * 32768, num_mel_bins=80, sample_frequency=16000, window_type="povey", low_freq=20, high_freq=8000
    )
    expected = (bands - bands.mean(0)) / (bands.var(0) + 1e-7).sqrt()
    found = w2v_bert_features(clip).reshape(-1, 80)[: len(bands)]
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_what_load_returns_is_audio(tmp_path: Any) -> None:
    """(waveform [C, T], rate), as its functions pass it on."""
    codec = load_codec("g711_ulaw", device="cpu")
    clip = chirp(3000, 16000)
    pair = (ta.functional.resample(clip, 16000, 8000), 8000)
    assert codec.encode(pair) == codec.encode(clip, 16000)
