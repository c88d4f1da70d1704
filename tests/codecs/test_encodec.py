"""EnCodec: golden cases in both namings, segments at 48 kHz, the start of a stream, `.ecdc` files."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from codeczoo import Codes, codec_info, load_codec
from codeczoo.codecs.encodec import SegmentedEncodec
from codeczoo.codecs.formats.ecdc import from_ecdc, read_ecdc, to_ecdc, write_ecdc
from tests.support.golden import (
    GOLDEN,
    assert_audio_agrees,
    assert_codes_agree,
    golden_case,
    golden_codec,
    golden_state_dict,
)
from tests.support.packagings import HF, Packaging, flat_pickle, of_transformers
from tests.support.small import codec_of

IN_TRANSFORMERS = ("encodec_24k", "encodec_24k", "manifest_hf.json")
CASES = [
    (("encodec_24k", "encodec_24k"), "public"),
    (IN_TRANSFORMERS, "public_hf"),
    (("encodec_48k", "encodec_48k"), "public"),
]

# -- for the tests of all families (tests/support/declarations.py) --------------------------------

SMALL: dict[str, object] = {"filters": 4, "dim": 16, "codebook_size": 64}
TRANSFORMERS = ("encodec_48k",)
LONG_VARIANTS = ("encodec_48k",)

LICENCE = {"encodec_48k": "MIT by its card"}

PACKAGINGS = {
    "encodec": Packaging("encodec_24k", "encodec_24k", flat_pickle("encodec_24khz-d7cc33bc.th")),
    "encodec at 48 kHz": Packaging("encodec_48k", "encodec_48k", flat_pickle("encodec_48khz-7e698e3e.th")),
    "encodec of transformers": Packaging("encodec_24k", "encodec_24k", of_transformers, HF),
    "encodec of older transformers": Packaging("encodec_24k", "encodec_24k", flat_pickle("pytorch_model.bin"), HF),
}


@pytest.fixture(scope="module", params=CASES, ids=["24k", "24k_transformers", "48k"])
def golden(request: pytest.FixtureRequest) -> tuple[tuple[str, ...], str]:
    return request.param


@pytest.fixture(scope="module")
def segmented() -> SegmentedEncodec:
    """With segments of a tenth of the published length, to be quick: 4800 samples every 4752, 15 frames."""
    codec = codec_of("encodec_48k", "small", torch.float64)
    variant = replace(codec.variant, network={**codec.variant.network, "segment": 4800, "segment_stride": 4752})
    short = variant.build()
    short.load_state_dict(codec.state_dict())
    return short.double().eval().requires_grad_(False)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- golden ---------------------------------------------------------------------------------------


def test_golden(golden: tuple[tuple[str, ...], str]) -> None:
    of, name = golden
    codec, (case, _) = golden_codec(*of), golden_case(of[1], name)
    codes = codec.encode(case["audio"], codec.sample_rate, num_codebooks=case["codes"].shape[1])
    assert_codes_agree(codes.codes, case["codes"], case["codes_stable"])
    side = {"scale": case["scale"]} if "scale" in case else {}
    for key, value in side.items():
        torch.testing.assert_close(codes.side_info[key], value, rtol=1e-6, atol=0)
    assert_audio_agrees(
        codec.decode(codec.codes_from_tensor(case["codes"], side_info=side)).waveform, case["reconstruction"]
    )
    clip = case["reconstruction"][..., : case["audio"].shape[-1]]
    assert_audio_agrees(codec.decode(codes).waveform, clip)
    assert_audio_agrees(codec.quantizer.decode(case["codes"]), case["quantized"])
    if not side:
        assert_audio_agrees(codec.latents(case["audio"], codec.sample_rate).values, case["latent"])


def test_golden_latents_of_segments() -> None:
    """Each segment by itself, brought to its own level."""
    codec, (case, _) = golden_codec("encodec_48k", "encodec_48k"), golden_case("encodec_48k")
    assert isinstance(codec, SegmentedEncodec)
    latents = []
    for i, start in enumerate(range(0, case["audio"].shape[-1], 47520)):
        x = case["audio"][..., start : start + 48000]
        level = codec.level(x, torch.tensor([x.shape[-1]]))
        torch.testing.assert_close(level, case["scale"][:, i], rtol=1e-6, atol=0)
        latents.append(codec.encoder(x / level[:, None, None])[0])
    assert [latent.shape[-1] for latent in latents] == case["segment_frames"].tolist()
    assert_audio_agrees(torch.cat(latents, dim=-1), case["latent"])


def as_recent_torch_spells_it(key: str) -> str:
    """Weight norm as a parametrization."""
    key = key.replace("weight_g", "parametrizations.weight.original0")
    return key.replace("weight_v", "parametrizations.weight.original1")


def as_transformers_spells_it(key: str) -> str:
    key = re.sub(r"\.model\.", ".layers.", key)
    key = re.sub(r"\.(conv|convtr)\.(conv|convtr|norm)\.", lambda m: ".norm." if m[2] == "norm" else ".conv.", key)
    return key.replace("quantizer.vq.layers.", "quantizer.layers.").replace("._codebook.", ".codebook.")


@pytest.mark.parametrize("renamed", [as_recent_torch_spells_it, as_transformers_spells_it])
def test_other_namings(golden: tuple[tuple[str, ...], str], renamed: Callable[[str], str]) -> None:
    of, _ = golden
    tensors = golden_state_dict(*of[1:])
    other = {renamed(key): value for key, value in tensors.items()}
    if list(other) == list(tensors):
        pytest.skip("spelled so already")
    codec = load_codec(of[0], weights=other, device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(codec.parameters(), golden_codec(*of).parameters(), strict=True))


# -- rates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count", "bitrate"),
    [
        ("encodec_24k", 8, 6000),
        ("facebook/encodec_24khz", 8, 6000),
        ("encodec_24k_1_5bps", 2, 1500),
        ("encodec_24k_3bps", 4, 3000),
        ("encodec_24k_6bps", 8, 6000),
        ("encodec_24k_12bps", 16, 12000),
        ("encodec_24k_24bps", 32, 24000),
        ("encodec_48k", 4, 6000),
        ("facebook/encodec_48khz", 4, 6000),
    ],
)
def test_names_and_their_rates(name: str, count: int, bitrate: int) -> None:
    info = codec_info(name)
    assert (info.num_codebooks, info.bitrate) == (count, bitrate)


def test_rates_are_those_that_were_trained() -> None:
    assert codec_info("encodec_24k").bitrates == (1500, 3000, 6000, 12000, 24000)
    assert codec_info("encodec_48k").bitrates == (3000, 6000, 12000, 24000)
    codec = codec_of("encodec_24k", "small", torch.float64)
    with pytest.raises(ValueError, match=r"\(2, 4, 8, 16, 32\) of them; num_codebooks=3"):
        codec.encode(noise(1, 1000), 24000, num_codebooks=3)


def test_the_names_of_the_rates_share_codes_and_weights() -> None:
    few = load_codec("encodec_24k_1_5bps", weights=golden_state_dict("encodec_24k"), device="cpu")
    codec, (case, _) = golden_codec("encodec_24k", "encodec_24k"), golden_case("encodec_24k")
    codes = few.encode(case["audio"], 24000)
    assert torch.equal(codes.codes, case["codes"][:, :2])
    assert torch.equal(codec.decode(codes).waveform, few.decode(codes).waveform)


def test_the_scale_is_counted_in_the_bits(segmented: SegmentedEncodec) -> None:
    codes = segmented.encode([noise(2, 4800), noise(2, 1000)], 48000)
    assert codes.lengths.tolist() == [16, 4]
    assert codes.num_bits.tolist() == [16 * 4 * 6 + 2 * 32, 4 * 4 * 6 + 32]  # 4 codebooks of 64 entries here


# -- segments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "frames"),
    [
        (1, [1]),
        (47520, [149]),
        (47521, [149, 1]),
        (47680, [149, 1]),
        (47681, [150, 1]),
        (48000, [150, 2]),
        (95040, [150, 149]),
        (95040 + 480, [150, 150, 2]),
    ],
)
def test_segments_follow_from_the_samples_and_from_the_frames(samples: int, frames: list[int]) -> None:
    codec = codec_of("encodec_48k", "small", torch.float64)
    scale = torch.ones(len(frames))
    for known in (samples, None):
        assert [s.frames for s in codec.segments_of(0, sum(frames), known, scale)] == frames


def test_whole_segments_without_scales_stay_whole() -> None:
    """150 frames could be 149 and 1; as a bare tensor they are what they look like."""
    codec = codec_of("encodec_48k", "small", torch.float64)
    assert [s.frames for s in codec.segments_of(0, 300, None, None)] == [150, 150]


@pytest.mark.parametrize("samples", [4752, 4760, 4952, 14000])
def test_codes_end_where_their_last_frame_does(segmented: SegmentedEncodec, samples: int) -> None:
    codes = segmented.encode(noise(2, samples), 48000)
    unknown = replace(codes, num_samples=torch.tensor([-1]))
    whole, cut = segmented.decode(unknown).waveform, segmented.decode(codes).waveform
    torch.testing.assert_close(whole[..., :samples], cut)
    start = (samples - 1) // 4752 * 4752
    assert whole.shape[-1] == start + -(-(samples - start) // 320) * 320


@pytest.mark.parametrize("samples", [3000, 4760, 4952, 10000])
def test_segments_are_scaled_coded_and_faded_as_published(segmented: SegmentedEncodec, samples: int) -> None:
    """Written out: each segment alone, times its scale, under a triangle of weights; divided by the weights' sum."""
    x = noise(2, samples, seed=samples)
    codes = segmented.encode(x, 48000)
    decoded, place = [], 0
    for i, start in enumerate(range(0, samples, 4752)):
        segment = x[:, start : start + 4800]
        scale = segment.mean(0).square().mean().sqrt() + 1e-8
        torch.testing.assert_close(codes.side_info["scale"][0, i], scale)
        found = segmented.quantizer.encode(segmented.encoder(segment[None] / scale)[0], 4)
        count = found.shape[-1]
        assert torch.equal(codes.codes[..., place : place + count], found)
        decoded.append(segmented.decoder(segmented.quantizer.decode(found))[0][0] * scale)
        place += count
    longest = 4752 * (len(decoded) - 1) + 4800
    total, weights = torch.zeros(2, longest, dtype=x.dtype), torch.zeros(longest, dtype=x.dtype)
    t = torch.linspace(0, 1, decoded[0].shape[-1] + 2, dtype=x.dtype)[1:-1]
    weight = 0.5 - (t - 0.5).abs()
    end = 4752 * (len(decoded) - 1) + decoded[-1].shape[-1]
    for i, segment in enumerate(decoded):
        stop = min(4752 * i + segment.shape[-1], end)
        place = slice(4752 * i, stop)
        total[:, place] += (segment * weight[: segment.shape[-1]])[:, : stop - 4752 * i]
        weights[place] += weight[: segment.shape[-1]][: stop - 4752 * i]
    expected = (total / weights)[:, :samples]
    torch.testing.assert_close(segmented.decode(codes).waveform[0], expected)


def test_codes_without_a_scale_are_decoded_at_a_scale_of_one(segmented: SegmentedEncodec) -> None:
    codes = segmented.encode(noise(2, 6000), 48000)
    bare = segmented.decode(codes.codes).waveform
    ones = segmented.codes_from_tensor(codes.codes, side_info={"scale": torch.ones(1, 2, dtype=torch.float64)})
    assert torch.equal(bare, segmented.decode(ones).waveform)
    louder = segmented.codes_from_tensor(codes.codes, side_info={"scale": torch.full((1, 2), 3.0, dtype=torch.float64)})
    torch.testing.assert_close(segmented.decode(louder).waveform, 3 * bare)


def test_scales_must_fit_the_segments(segmented: SegmentedEncodec) -> None:
    codes = segmented.encode(noise(2, 6000), 48000)
    with pytest.raises(ValueError, match="item 0 has 2 segments and 1 scales"):
        segmented.decode(replace(codes, side_info={"scale": codes.side_info["scale"][:, :1]}))
    with pytest.raises(ValueError, match="900 samples make 3 frames; item 0 has 19"):
        segmented.decode(replace(codes, num_samples=torch.tensor([900])))


def test_silence_has_a_scale_and_comes_back_silent(segmented: SegmentedEncodec) -> None:
    codes = segmented.encode(torch.zeros(2, 2000, dtype=torch.float64), 48000)
    assert codes.side_info["scale"].tolist() == [[1e-8]]
    assert float(segmented.decode(codes).waveform.abs().max()) < 1e-6


def test_mono_is_coded_as_two_equal_channels(segmented: SegmentedEncodec) -> None:
    mono = noise(1, 5000)
    assert torch.equal(segmented.encode(mono, 48000).codes, segmented.encode(mono.expand(2, -1), 48000).codes)


# -- streaming ------------------------------------------------------------------------------------


def test_a_stream_gives_its_first_frame_with_the_seventh() -> None:
    codec = codec_of("encodec_24k", "small", torch.float64)
    stream, clip = codec.stream(), noise(1, 1, 320 * 9)
    given = [stream.encode(clip[..., i : i + 320]) for i in range(0, 320 * 9, 320)]
    assert [int(codes.lengths) for codes in given] == [0, 0, 0, 0, 0, 0, 7, 1, 1]
    codes = torch.cat([codes.codes for codes in given], dim=-1)
    assert torch.equal(codes, codec.encode(clip, 24000).codes)
    heard = [int(stream.decode(codes[..., i : i + 1]).lengths) for i in range(9)]
    assert heard == [0, 0, 0, 0, 0, 0, 7 * 320, 320, 320]


@pytest.mark.parametrize("samples", [1, 319, 320, 1999, 2240, 2241])
def test_a_short_clip_through_a_stream(samples: int) -> None:
    codec = codec_of("encodec_24k", "small", torch.float64)
    stream, clip = codec.stream(), noise(1, 1, samples, seed=samples)
    whole = samples // 320 * 320
    given = [stream.encode(clip[..., :whole]).codes] if whole else []
    codes = torch.cat([*given, stream.flush(clip[..., whole:]).codes], dim=-1)
    assert torch.equal(codes, codec.encode(clip, 24000).codes)
    audio = torch.cat([stream.decode(codes).waveform, stream.flush_decoder().waveform], dim=-1)
    torch.testing.assert_close(audio, codec.decode(codec.codes_from_tensor(codes)).waveform)


# -- .ecdc files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["encodec_24k", "encodec_48k"])
def test_the_published_file_is_read_and_written_byte_for_byte(folder: str, tmp_path) -> None:
    case, _ = golden_case(folder)
    codes = read_ecdc(GOLDEN / folder / "public.ecdc")
    assert torch.equal(codes.codes, case["codes"]) and codes.num_samples.tolist() == [case["audio"].shape[-1]]
    assert (codes.codec, codes.sample_rate) == (folder, codec_info(folder).sample_rate)
    if "scale" in case:
        assert torch.equal(codes.side_info["scale"], case["scale"])
    write_ecdc(codes, tmp_path / "again.ecdc")
    assert (tmp_path / "again.ecdc").read_bytes() == (GOLDEN / folder / "public.ecdc").read_bytes()
    audio = golden_codec(folder, folder).decode(codes).waveform
    assert_audio_agrees(audio, case["reconstruction"][..., : audio.shape[-1]])


@pytest.mark.parametrize("name", ["encodec_24k", "encodec_24k_1_5bps", "encodec_48k"])
@pytest.mark.parametrize("samples", [1, 321, 47521, 60001])
def test_codes_survive_an_ecdc_file(name: str, samples: int) -> None:
    codec = codec_of(name, "small", torch.float64)
    codes = codec.encode(noise(codec.channels[0], samples, seed=samples), codec.sample_rate)
    again = from_ecdc(to_ecdc(codes))
    assert torch.equal(again.codes, codes.codes) and torch.equal(again.num_samples, codes.num_samples)
    for key, value in codes.side_info.items():
        assert torch.equal(again.side_info[key], value.float())


@pytest.mark.parametrize("folder", ["encodec_24k", "encodec_48k"])
def test_a_file_that_is_cut_anywhere_or_too_long_is_refused(folder: str) -> None:
    data = (GOLDEN / folder / "public.ecdc").read_bytes()
    for size in (*range(80), len(data) // 2, len(data) - 1):
        with pytest.raises(ValueError, match=r"cut short|not an \.ecdc file"):
            from_ecdc(data[:size])
    with pytest.raises(ValueError, match="cut short or broken"):
        from_ecdc(data + b"\0")


def with_header(**changes: object) -> bytes:
    settings = {"m": "encodec_24khz", "al": 100, "nc": 2, "lm": False, **changes}
    text = json.dumps({key: value for key, value in settings.items() if value is not ...}).encode()
    return struct.pack(">4sBI", b"ECDC", 0, len(text)) + text + bytes(3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"m": "encodec_16khz"}, "its model 'encodec_16khz' is not known"),
        ({"m": ["encodec_24khz"]}, "is not known"),
        ({"al": 0}, "0 samples"),
        ({"al": 2.5}, "2.5 samples"),
        ({"al": True}, "True samples"),
        ({"al": 10**18}, "do not fit in it"),
        ({"nc": 0}, "0 codebooks"),
        ({"nc": 33}, "33 codebooks; encodec_24k has 1 to 32"),
        ({"nc": "2"}, "'2' codebooks"),
        ({"lm": 1}, "lm must be true or false; it is 1"),
        ({"al": ...}, "must tell m, al and nc"),
    ],
)
def test_impossible_headers_are_refused(changes: dict[str, object], message: str) -> None:
    assert from_ecdc(with_header()).codes.tolist() == [[[0], [0]]]
    with pytest.raises(ValueError, match=re.escape(message)):
        from_ecdc(with_header(**changes))


def test_other_broken_files_are_refused(tmp_path) -> None:
    data = with_header()
    with pytest.raises(ValueError, match="version 1"):
        from_ecdc(data[:4] + b"\1" + data[5:])
    for text in (b"{", b"\xff", b"[" * 5000, b"[]", b"7"):
        with pytest.raises(ValueError, match="header"):
            from_ecdc(struct.pack(">4sBI", b"ECDC", 0, len(text)) + text)
    golden = bytearray((GOLDEN / "encodec_48k" / "public.ecdc").read_bytes())
    place = 9 + struct.unpack(">I", golden[5:9])[0]
    golden[place : place + 4] = struct.pack(">f", float("nan"))
    (tmp_path / "broken.ecdc").write_bytes(golden)
    with pytest.raises(ValueError, match=r"broken\.ecdc: broken: a scale is not a positive number"):
        read_ecdc(tmp_path / "broken.ecdc")


def test_only_whole_codes_of_one_clip_are_written() -> None:
    codec = codec_of("encodec_48k", "small", torch.float64)
    codes = codec.encode([noise(2, 1000), noise(2, 6000)], 48000)
    with pytest.raises(ValueError, match="one clip; these are codes of 2"):
        to_ecdc(codes)
    one = codes[1]
    for broken, message in (
        (replace(one, side_info={}), "side information 'scale'"),
        (replace(one, side_info={"scale": one.side_info["scale"] * torch.nan}), "finite scales"),
        (replace(one, num_samples=torch.tensor([-1])), "number of samples"),
        (replace(one, num_samples=torch.tensor([5000])), "5000 samples make 16 frames; these codes have 19"),
        (replace(one, codes=one.codes + 1024), "0 to 1023"),
        (replace(one, codec="mimi"), "made by mimi"),
    ):
        with pytest.raises(ValueError, match=message):
            to_ecdc(broken)
    assert isinstance(from_ecdc(to_ecdc(one)), Codes)
