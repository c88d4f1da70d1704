"""What people do with a codec and its types beside calling them: copies, pickles, workers, threads, torch's modes."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from codeczoo import Audio, BaseCodec, Codes, load_codec, metrics
from codeczoo.data import embedded_clips
from tests.support.small import codec_of
from tests.support.sound import chirp

CLIPS = [chirp(n, 16000, seed=n) for n in (9000, 16000, 12345)]


@pytest.fixture(scope="module", params=["g711_alaw", "opus_24k", "encodec_24k"])
def codec(request: pytest.FixtureRequest) -> BaseCodec:
    """One that computes on the device, one of a library, one with a network."""
    if request.param != "encodec_24k":
        return load_codec(request.param, device="cpu")
    return codec_of(request.param, "small", torch.float32)


def through_torch(thing: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "torch.save": through_torch,
}


@pytest.mark.parametrize("how", COPIES)
def test_everything_can_be_copied(how: str, codec: BaseCodec) -> None:
    audio = Audio.of(CLIPS, 16000)
    codes = codec.encode(audio)
    again = COPIES[how](audio)
    assert torch.equal(again.waveform, audio.waveform) and again.sample_rate == 16000
    other = COPIES[how](codec)
    assert repr(other) == repr(codec)
    assert torch.equal(other.encode(again).codes, codes.codes)
    assert torch.equal(codec.decode(COPIES[how](codes)).waveform, codec.decode(codes).waveform)


def test_a_codec_is_a_module(codec: BaseCodec) -> None:
    audio = Audio.of(CLIPS[0], 16000)
    back = codec(audio)
    assert (back.sample_rate, back.lengths.tolist()) == (16000, [9000])
    assert torch.equal(codec.to("cpu")(audio).waveform, back.waveform)
    assert torch.equal(codec(CLIPS[0], 16000).waveform, back.waveform)
    codes = codec.encode(audio).codes
    codec.train()
    assert torch.equal(codec.encode(audio).codes, codes), "training mode changes nothing"
    codec.eval()


class Encoded(Dataset):
    """Clips that worker processes encode."""

    def __init__(self, codec: BaseCodec) -> None:
        self.codec = codec

    def __len__(self) -> int:
        return len(CLIPS)

    def __getitem__(self, index: int) -> Codes:
        return self.codec.encode(CLIPS[index], 16000)


def test_a_data_loaders_workers_encode(codec: BaseCodec) -> None:
    loader = DataLoader(Encoded(codec), batch_size=3, num_workers=2, collate_fn=Codes.cat)
    (codes,) = list(loader)
    assert torch.equal(codes.codes, codec.encode(CLIPS, 16000).codes)


def test_threads_share_a_codec(codec: BaseCodec) -> None:
    alone = [codec.encode(clip, 16000).codes for clip in CLIPS]
    found: dict[int, list[torch.Tensor]] = {}

    def work(i: int) -> None:
        found[i] = [codec.encode(CLIPS[i], 16000).codes for _ in range(3)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(CLIPS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(codes, alone[i]) for i in range(len(CLIPS)) for codes in found[i])


def test_threads_share_the_metrics_and_leave_torchs_threads_alone() -> None:
    reference, estimate = Audio.of(CLIPS, 16000), Audio.of([0.9 * clip for clip in CLIPS], 16000)
    names = ["stft", "stoi", "vuv_error"]
    expected = metrics.evaluate(reference, estimate, metrics=names)
    found, counts = [], []
    begun = threading.Barrier(3, timeout=60)

    def work() -> None:
        torch.set_num_threads(2)
        # A thread asks PyTorch for the number when it first computes, and would get the one that another has just set.
        assert torch.get_num_threads() == 2
        begun.wait()
        found.append(metrics.evaluate(reference, estimate, metrics=names))
        counts.append(torch.get_num_threads())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [2, 2, 2]
    assert all(torch.equal(scores[name], expected[name]) for scores in found for name in names)


def test_what_inference_mode_made_is_used_outside_of_it(codec: BaseCodec, tmp_path: Path) -> None:
    with torch.inference_mode():
        codes = codec.encode(CLIPS, 16000)
        audio = codec.decode(codes)
    codes.save(tmp_path / "codes.safetensors")
    audio[0].save(tmp_path / "audio.wav")
    assert torch.equal(codec.decode(codes[1:]).waveform, audio[1:].waveform)
    assert torch.equal(audio.resample(16000).lengths, codec.decode(codes).resample(16000).lengths)


def test_autocast_around_it_changes_no_code(codec: BaseCodec) -> None:
    """Somebody's training loop has it on; "exact" is exact all the same."""
    codes = codec.encode(CLIPS, 16000)
    audio = codec.decode(codes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(codec.encode(CLIPS, 16000).codes, codes.codes)
        assert torch.equal(codec.decode(codes).waveform, audio.waveform)
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16, "and is on again afterwards"


def test_autocast_around_it_changes_no_metric() -> None:
    reference, estimate = (Audio.of(CLIPS, 16000), Audio.of([clip + 0.01 for clip in CLIPS], 16000))
    # Of networks those are in tests/metrics/test_networks.py.
    names = [name for name, metric in metrics.METRICS.items() if metric.where == "device" and metric.extra is None]
    expected = metrics.evaluate(reference, estimate, metrics=names)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = metrics.evaluate(reference, estimate, metrics=names)
    for name in names:
        assert torch.equal(scores[name], expected[name]), name


def test_gradients_stay_outside(codec: BaseCodec) -> None:
    mine = CLIPS[0].clone().requires_grad_()
    assert torch.equal(codec.encode(mine, 16000).codes, codec.encode(CLIPS[0], 16000).codes)
    assert not codec(mine, 16000).waveform.requires_grad
    scores = metrics.evaluate(mine, mine, 16000, ["mel", "stoi", "si_sdr", "f0_rmse"])
    assert not any(values.requires_grad for values in scores.values())
    assert Audio.of(mine, 16000)._repr_html_().count("<audio") == 1


def test_float64_as_torchs_default_changes_no_code(codec: BaseCodec) -> None:
    codes = codec.encode(CLIPS, 16000)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(codec.encode(CLIPS, 16000).codes, codes.codes)
        assert codec.decode(codes).waveform.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_one_codecs_audio_goes_into_another() -> None:
    first, second = load_codec("opus_12k", device="cpu"), load_codec("mp3_32k", device="cpu")
    audio = first.decode(first.encode(embedded_clips()[:2]))
    codes = second.encode(audio)
    assert second.decode(codes).lengths.tolist() == codes.num_samples.tolist()
    for one, code in zip(audio, codes, strict=True):
        assert torch.equal(second.encode(one).codes, code.codes)
