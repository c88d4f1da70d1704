"""Everything with its tensors on another device than the CPU: nothing may meet a tensor that was left behind there.

The device is that of tests/support/fake_device.py, which needs no GPU. In float64 the paths that a codec
takes on CUDA must give what those of the CPU give: the same codes, and audio that differs by rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch.utils._pytree import tree_leaves

from codeczoo import Audio, BaseCodec, Codes, metrics
from codeczoo.base.catalogue import variants
from codeczoo.base.cuda_graph import CapturedSteps, State
from codeczoo.base.resampling import FILTERS, resample, resampled_length
from codeczoo.codecs.formats import ecdc
from tests.contract.test_registry import assert_same_audio, clips_of, sound
from tests.support.declarations import FAMILIES, declared
from tests.support.fake_device import DEVICE, FakeDevice
from tests.support.small import CAUSAL, CAUSAL_DECODERS, ROOTS, codec_of


def family_of(name: str) -> str:
    return variants()[name].family


ONLY = {family: declared(family, "DEVICE_VARIANTS", None) for family in FAMILIES}
NETWORKS = [name for name in ROOTS if ONLY[family_of(name)] is None or name in ONLY[family_of(name)]]


@pytest.fixture
def device() -> Iterator[FakeDevice]:
    with FakeDevice() as fake:
        yield fake


@pytest.fixture(params=NETWORKS)
def codec(request: pytest.FixtureRequest) -> BaseCodec:
    return codec_of(request.param, "small", torch.float64)


# One network a family, and those that take paths of their own.
ONE_OF_EACH = list({family_of(name): name for name in reversed(NETWORKS)}.values())
ONE_OF_EACH += [name for family in FAMILIES for name in declared(family, "LONG_VARIANTS", ())]


@pytest.fixture(params=ONE_OF_EACH)
def family(request: pytest.FixtureRequest) -> BaseCodec:
    return codec_of(request.param, "small", torch.float64)


@pytest.fixture(params=CAUSAL)
def causal(request: pytest.FixtureRequest) -> BaseCodec:
    return codec_of(request.param, "small", torch.float64)


@pytest.fixture(params=CAUSAL_DECODERS)
def causal_decoder(request: pytest.FixtureRequest) -> BaseCodec:
    return codec_of(request.param, "small", torch.float64)


def moved(codec: BaseCodec) -> BaseCodec:
    """A copy on the device."""
    there = copy.deepcopy(codec).to(DEVICE)
    assert there.device == DEVICE
    return there


def assert_same_codes(there: Codes, here: Codes) -> None:
    assert there.device == DEVICE and here.device.type == "cpu"
    for ours, truth in zip(
        (there.codes, there.lengths, there.num_samples), (here.codes, here.lengths, here.num_samples), strict=True
    ):
        assert ours.device == DEVICE
        assert torch.equal(ours.cpu(), truth)
    assert there.side_info.keys() == here.side_info.keys()
    for name, value in there.side_info.items():
        assert value.device == DEVICE
        torch.testing.assert_close(value.cpu(), here.side_info[name], rtol=1e-9, atol=1e-12, equal_nan=True)


def assert_near(there: Audio, here: Audio) -> None:
    assert there.device == there.lengths.device == DEVICE
    assert torch.equal(there.lengths.cpu(), here.lengths)
    if here.waveform.numel() or there.waveform.numel():
        assert_same_audio(there.waveform.cpu(), here.waveform, 1e-9)


def test_a_codec_gives_there_what_it_gives_here(codec: BaseCodec, device: FakeDevice, tmp_path) -> None:
    """Encode, decode and keep a ragged batch; clips and codes come from either side."""
    there = moved(codec)
    hop = codec.hop_length or codec.sample_rate // 50
    clips = clips_of(codec, [6 * hop + 7, 9 * hop])
    codes = codec.encode(clips, codec.sample_rate)
    assert_same_codes(there.encode(clips, codec.sample_rate), codes)
    found = there.encode(Audio.of(clips, codec.sample_rate).to(DEVICE))
    assert_same_codes(found, codes)
    assert [codes.num_bits.tolist(), codes.bitrate.tolist()] == [found.num_bits.tolist(), found.bitrate.tolist()]
    found.save(tmp_path / "codes.safetensors")
    loaded = Codes.load(tmp_path / "codes.safetensors", device=DEVICE)
    assert_same_codes(loaded, codes)
    if codec.supports_decode:
        audio = codec.decode(codes)
        assert_near(there.decode(loaded), audio)
        assert_near(there.decode(codes), audio)
        assert_near(there.decode(found[1]), codec.decode(codes[1]))
        assert [str(item) for item in found.split()] == [str(item).replace("cpu", str(DEVICE)) for item in codes]


def test_a_long_clip_there_is_what_it_is_here(family: BaseCodec, device: FakeDevice) -> None:
    """In chunks."""
    there, codec = moved(family), copy.deepcopy(family)
    hop = codec.hop_length or codec.sample_rate // 50
    clips = clips_of(codec, [34 * hop + 3, 5 * hop], seed=3)
    codec.max_chunk_seconds = there.max_chunk_seconds = 15 * hop / codec.sample_rate
    codes = codec.encode(clips, codec.sample_rate)
    assert_same_codes(there.encode(clips, codec.sample_rate), codes)
    if codec.supports_decode:
        assert_near(there.decode(codes), codec.decode(codes))


@pytest.mark.parametrize("name", ["auv", "speech_tokenizer_16k"])
def test_chunks_there_are_as_long_as_here(name: str, device: FakeDevice, monkeypatch) -> None:
    """Codecs that are approximate in chunks: a device with more memory must not make other codes of a long clip."""
    codec = copy.deepcopy(codec_of(name, "small", torch.float64))
    codec.min_chunk_seconds = 0.4
    clips = clips_of(codec, [int(seconds * codec.sample_rate) for seconds in (0.9, 1.0, 0.3, 0.2)])
    sizes: dict[torch.device, list[int]] = {}

    def measured(self: BaseCodec, waveform: torch.Tensor, *rest: object) -> object:
        sizes.setdefault(waveform.device, []).append(waveform.shape[-1])
        return encode(self, waveform, *rest)

    encode = type(codec)._latents
    monkeypatch.setattr(type(codec), "_latents", measured)
    codes = codec.encode(clips, codec.sample_rate)
    assert_same_codes(moved(codec).encode(clips, codec.sample_rate), codes)
    assert sizes[DEVICE] == sizes[torch.device("cpu")]
    assert len(sizes[DEVICE]) >= 3, "the first two clips go by themselves"


@pytest.mark.parametrize("name", ["mimi", "encodec_48k", "opus_12k"])
def test_rates_lengths_and_channels_come_back_there(name: str, device: FakeDevice) -> None:
    codec = codec_of(name, "small", torch.float64)
    clips = [sound(n, 2, n, 22050) for n in (6001, 3500)]
    assert_near(moved(codec).reconstruct(Audio.of(clips, 22050).to(DEVICE)), codec.reconstruct(clips, 22050))


# -- streams --------------------------------------------------------------------------------------


def test_a_stream_there_is_what_it_is_here(causal: BaseCodec, device: FakeDevice) -> None:
    """Chunks, masks and items are given from the CPU, as a microphone and a user would."""
    hop = causal.hop_length or 1
    clips = torch.stack(clips_of(causal, [hop * 14] * 2, seed=5))
    here, there = causal.stream(2), moved(causal).stream(2)
    masks = {3: [True, False], 5: [True, True]}
    for tick, chunk in enumerate(clips.split(2 * hop, dim=-1)):
        if tick in masks:
            here.active = there.active = torch.tensor(masks[tick])
        if tick == 4:
            here.reset([0])
            there.reset([0])
        codes, found = here.encode(chunk), there.encode(chunk)
        assert_same_codes(found, codes)
        if codes.lengths.min() > 0:
            assert_near(there.decode(found if tick % 2 else found.cpu()), here.decode(codes))
    there.load_state_dict(there.state_dict())
    rest = clips[..., : hop - 1]
    assert_same_codes(there.flush(rest), here.flush(rest))
    assert_near(there.flush_decoder(), here.flush_decoder())


def test_a_stream_of_codes_there_is_what_it_is_here(causal_decoder: BaseCodec, device: FakeDevice) -> None:
    clips = torch.stack(clips_of(causal_decoder, [(causal_decoder.hop_length or 1) * 12] * 2, seed=6))
    codes = causal_decoder.encode(clips, causal_decoder.sample_rate).codes
    here, there = causal_decoder.stream(2), moved(causal_decoder).stream(2)
    for tick, chunk in enumerate(codes.split(2, dim=-1)):
        here.active = there.active = torch.tensor([True, tick != 3])
        if tick == 4:
            here.reset([0])
            there.reset([0])
        assert_near(there.decode(chunk.to(DEVICE) if tick % 2 else chunk), here.decode(chunk))
    there.load_state_dict(there.state_dict())
    assert_near(there.drain(), here.drain())


def test_a_step_of_a_running_stream_does_not_wait_for_the_device(causal: BaseCodec, device: FakeDevice) -> None:
    """So that it can be captured as a CUDA graph: nothing is read, and no number is sent either."""
    count = causal.num_codebooks
    codec = moved(causal)
    chunk = torch.stack(clips_of(causal, [(causal.hop_length or 1) * 2] * 2)).to(DEVICE)
    stream = codec.stream(2)
    while not codec._stream_encode_is_warm(stream.encoder_state):
        stream.encode(chunk)
    with torch.no_grad(), device.no_wait():
        codes, encoder = codec._stream_encode_step(chunk, stream.encoder_state, count)
    assert_same_shapes(encoder, stream.encoder_state)
    assert codes.shape == (2, count, 2)


def test_a_step_of_a_running_stream_of_codes_does_not_wait_for_the_device(
    causal_decoder: BaseCodec, device: FakeDevice
) -> None:
    codec = moved(causal_decoder)
    codes = torch.ones(2, codec.num_codebooks, 2, dtype=torch.int64, device=DEVICE)
    stream = codec.stream(2)
    while not codec._stream_decode_is_warm(stream.decoder_state):
        stream.decode(codec.codes_from_tensor(codes))
    with torch.no_grad(), device.no_wait():
        waveform, decoder = codec._stream_decode_step(codes, stream.decoder_state)
    # Nor does what keeps the state of paused items and writes the rest, which a graph holds too.
    graphs = CapturedSteps()
    graphs.state, graphs.active = stream.decoder_state, stream.active
    with torch.no_grad(), device.no_wait():
        graphs.step(codec._stream_decode_step, codes)
    assert_same_shapes(decoder, stream.decoder_state)
    assert waveform.shape == (2, codec.channels[0], 2 * (codec.output_hop_length or 1))


def assert_same_shapes(after: State, before: State) -> None:
    """The state can be fed back, and the next step is the same."""
    for new, old in zip(tree_leaves(after), tree_leaves(before), strict=True):
        assert (new.shape, new.dtype, new.device) == (old.shape, old.dtype, DEVICE)


# -- metrics, resampling, files -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_metrics_there_are_what_they_are_here(dtype: torch.dtype, device: FakeDevice) -> None:
    """All of them, of a ragged batch with a silent and a broken clip in it."""
    rate, lengths = 16000, [24000, 9000, 16000, 12000, 700]
    clips = [sound(n, 1, n, rate).to(dtype) for n in lengths]
    noise = [clip + 0.05 * sound(clip.shape[-1], 1, 7, rate).to(dtype) for clip in clips]
    clips[2], noise[3][..., 5] = torch.zeros_like(clips[2]), torch.nan
    noise[1] = noise[1][..., :8500]
    names = [name for name, metric in metrics.METRICS.items() if metric.extra is None]
    here = metrics.evaluate(clips, noise, rate, names)
    there = metrics.evaluate([clip.to(DEVICE) for clip in clips], [clip.to(DEVICE) for clip in noise], rate, names)
    assert there.reasons == here.reasons
    assert there.cropped.tolist() == here.cropped.tolist()
    tolerance = 1e-5 if dtype == torch.float32 else 1e-9
    for name in names:
        torch.testing.assert_close(
            there[name],
            here[name],
            rtol=tolerance,
            atol=tolerance,
            equal_nan=True,
            msg=lambda m, name=name: f"{name}: {m}",
        )


def test_each_metric_takes_tensors_from_there(device: FakeDevice) -> None:
    """By itself, with lengths that a user may have left on the CPU."""
    clips = torch.stack([sound(16000, 2, seed, 16000) for seed in (1, 2)])
    noise, lengths = clips + 0.05 * clips.flip(-1), torch.tensor([16000, 12000])
    for name, metric in metrics.METRICS.items():
        if metric.where == "device" and metric.extra is None:  # networks are loaded onto real devices only
            truth = metric.function(clips, noise, 16000, lengths)
            for ends in (lengths, lengths.to(DEVICE)):
                found = metric.function(clips.to(DEVICE), noise.to(DEVICE), 16000, ends)
                torch.testing.assert_close(found.values, truth.values, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("filter", FILTERS)
def test_resampling_there_is_what_it_is_here(filter: str, device: FakeDevice) -> None:
    clips, lengths = torch.stack([sound(5000, 2, seed, 24000) for seed in (1, 2)]), torch.tensor([5000, 3211])
    for rate in (16000, 44100):
        truth = resample(clips, 24000, rate, filter=filter, lengths=lengths)
        found = resample(clips.to(DEVICE), 24000, rate, filter=filter, lengths=lengths)
        assert torch.equal(found.cpu(), truth)
        assert torch.equal(
            resampled_length(lengths.to(DEVICE), 24000, rate).cpu(), resampled_length(lengths, 24000, rate)
        )


def test_codes_are_counted_there(device: FakeDevice) -> None:
    codes = torch.randint(0, 50, (3, 2, 40), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([40, 3, 17])
    truth = metrics.code_statistics(codes, lengths, [50, 50], 75.0)
    assert metrics.code_statistics(codes.to(DEVICE), lengths, [50, 50], 75.0) == truth


def test_audio_there_is_shown_cut_mixed_and_kept(device: FakeDevice, tmp_path) -> None:
    here = Audio.of([sound(n, 2, n, 8000).float() for n in (4000, 2500)], 8000)
    there = here.to(DEVICE)
    assert repr(there) == repr(here).replace("cpu", str(DEVICE))
    assert (there.numpy(1) == here.numpy(1)).all()
    assert "<audio" in there._repr_html_()
    for change in (lambda a: a[1], lambda a: a.trim(3000), lambda a: a.mix(1), lambda a: a.resample(11025)):
        assert_near(change(there), change(here))
    there.save([tmp_path / "a.wav", tmp_path / "b.flac"])
    assert Audio.load(tmp_path / "a.wav").lengths.tolist() == [4000]
    assert [clip.shape[-1] for clip in there.split()] == [4000, 2500]


@pytest.mark.parametrize("seconds", [0.6, 5.0])
def test_dac_files_are_written_and_read_there(seconds: float, device: FakeDevice, tmp_path) -> None:
    """In windows, and whole."""
    codec = codec_of("dac_24k", "small", torch.float64)
    clip = sound(24000, 1, 1, 24000)
    here, there = codec.compress(clip, 24000, win_duration=seconds), moved(codec).compress(clip, 24000, seconds)
    assert torch.equal(here.codes.cpu(), there.codes.cpu())
    there.save(tmp_path / "a.dac")
    assert_near(moved(codec).decompress(tmp_path / "a.dac"), codec.decompress(here))


def test_ecdc_files_are_written_there(device: FakeDevice) -> None:
    codec = codec_of("encodec_48k", "small", torch.float64)
    clip = sound(60000, 2, 1, 48000)
    assert ecdc.to_ecdc(moved(codec).encode(clip, 48000)) == ecdc.to_ecdc(codec.encode(clip, 48000))
