"""`Codes`: counted to the bit, cut, joined, saved and read again, with all that belongs to them."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from codeczoo import Codes, load_codec
from codeczoo.base.codes import PAD
from codeczoo.base.codes_file import CodesFile
from codeczoo.base.device import available_devices
from tests.support.sound import chirp


def multiscale() -> Codes:
    """Two clips of three codebooks at three rates (as SNAC's), with a gain each and a scale for every two frames."""
    codes = torch.full((2, 3, 8), PAD)
    for b, frames in enumerate((8, 5)):
        for k, stride in enumerate((4, 2, 1)):
            count = -(-frames // stride)
            codes[b, k, :count] = torch.arange(count) + 100 * k
    return Codes(
        codes=codes,
        lengths=torch.tensor([8, 5]),
        num_samples=torch.tensor([800, 450]),
        sample_rate=1000,
        codec="made_up",
        codebook_sizes=(4096, 1024, 1000),
        frame_rate=10.0,
        strides=(4, 2, 1),
        side_info={
            "gain": torch.tensor([0.5, 2.0]),
            "scale": torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, torch.nan]]),
        },
    )


def voiced() -> Codes:
    """Two clips with a stream of codes, and three tokens each that are of a clip as a whole (as BiCodec's)."""
    return Codes(
        codes=torch.tensor([[[5, 6, 7, 8]], [[1, 2, PAD, PAD]]]),
        lengths=torch.tensor([4, 2]),
        num_samples=torch.tensor([40, 20]),
        sample_rate=10,
        codec="made_up",
        codebook_sizes=(1024,),
        frame_rate=1.0,
        side_info={"voice": torch.tensor([[9, 4095, 0], [7, 8, 9]], dtype=torch.int32)},
        side_sizes={"voice": 4096},
    )


def plain(*lengths: int, codec: str = "g711_ulaw", sizes: tuple[int, ...] = (256,)) -> Codes:
    codes = torch.full((len(lengths), len(sizes), max(lengths)), PAD)
    for b, n in enumerate(lengths):
        codes[b, :, :n] = torch.arange(n) + b
    return Codes(codes, torch.tensor(lengths), torch.tensor(lengths), 8000, codec, sizes, 8000.0)


def assert_same(one: Codes, other: Codes) -> None:
    for name in ("codes", "lengths", "num_samples"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    for name in ("sample_rate", "codec", "codebook_sizes", "frame_rate", "strides", "side_sizes"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.side_info.keys() == other.side_info.keys()
    for name, value in one.side_info.items():
        torch.testing.assert_close(value, other.side_info[name], rtol=0, atol=0, equal_nan=True)


# -- counting -------------------------------------------------------------------------------------


def test_bits_are_counted_exactly_over_strides_and_side_values() -> None:
    codes = multiscale()
    assert codes.counts.tolist() == [[2, 4, 8], [2, 3, 5]]
    assert codes.mask.sum((1, 2)).tolist() == [14, 10]
    expected = [
        2 * 12 + 4 * 10 + 8 * math.log2(1000) + 32 * (1 + 4),
        2 * 12 + 3 * 10 + 5 * math.log2(1000) + 32 * (1 + 3),  # NaN is no scale, and costs nothing
    ]
    assert codes.num_bits.tolist() == pytest.approx(expected, rel=1e-12)
    assert codes.bitrate.tolist() == pytest.approx([expected[0] / 0.8, expected[1] / 0.45], rel=1e-12)


def test_side_values_of_a_codebook_count_as_its_codes() -> None:
    codes = voiced()
    assert codes.side_info["voice"].dtype == torch.int64
    assert codes.num_bits.tolist() == [4 * 10 + 3 * 12, 2 * 10 + 3 * 12]
    unsized = Codes(**{**vars(codes), "side_sizes": {}})
    assert unsized.num_bits.tolist() == [4 * 10 + 3 * 64, 2 * 10 + 3 * 64], "the bits of their type"
    with pytest.raises(TypeError, match=r"'voice' is of a codebook and must be integers; its type is torch\.float32"):
        Codes(**{**vars(codes), "side_info": {"voice": torch.ones(2, 3)}})


def test_the_bitrate_falls_back_on_frames_and_is_nan_where_nothing_is_known() -> None:
    codes = plain(80, 40)
    assert codes.bitrate.tolist() == [64000, 64000]
    bare = load_codec("g711_ulaw", device="cpu").codes_from_tensor(codes.codes.clamp(min=0))
    assert bare.num_samples.tolist() == [-1, -1] and bare.bitrate.tolist() == [64000, 64000]
    compressed = load_codec("opus_24k", device="cpu").codes_from_tensor(codes.codes.clamp(min=0))
    assert bool(compressed.bitrate.isnan().all())


def test_codebooks_are_rows_without_padding() -> None:
    codes = multiscale()
    assert [row.tolist() for row in codes.codebook(0)] == [[0, 1], [0, 1]]
    assert [len(row) for row in codes.codebook(2)] == [8, 5]


def test_it_prints_what_it_is() -> None:
    assert repr(multiscale()) == (
        "Codes(made_up: 2 x 3 codebooks of 1000 to 4096 x 5 to 8 frames, 10 Hz, side values gain, scale, cpu)"
    )
    codes = load_codec("opus_24k", device="cpu").encode(chirp(100, 48000), 48000)
    assert (
        repr(codes) == f"Codes(opus_24k: 1 x 1 codebooks of 256 x {len(codes.codes[0, 0])} frames, no fixed rate, cpu)"
    )


# -- cutting and joining --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "items"),
    [(1, [1]), (-1, [2]), (slice(1, 3), [1, 2]), ([2, 0], [2, 0]), (torch.tensor([True, False, True]), [0, 2])],
)
def test_items_are_cut_to_the_longest_that_remains(index: object, items: list[int]) -> None:
    codes = plain(30, 50, 10)
    part = codes[index]
    assert part.lengths.tolist() == [codes.lengths.tolist()[i] for i in items]
    assert part.codes.shape[-1] == max(part.lengths.tolist())
    assert part.num_samples.tolist() == [codes.num_samples.tolist()[i] for i in items]


def test_parts_join_to_the_whole() -> None:
    codes = plain(30, 50, 10)
    assert_same(Codes.cat(codes.split()), codes)
    assert_same(Codes.cat([codes[2], codes[:2]]), codes[[2, 0, 1]])
    assert_same(Codes.cat(list(multiscale())), multiscale())


def test_side_values_of_different_lengths_join_with_nan() -> None:
    long, short = multiscale()
    short = Codes(
        **{**vars(short), "side_info": {"gain": short.side_info["gain"], "scale": short.side_info["scale"][:, :3]}}
    )
    joined = Codes.cat([short, long])
    torch.testing.assert_close(joined.side_info["scale"], multiscale().side_info["scale"][[1, 0]], equal_nan=True)
    assert joined.num_bits.tolist() == multiscale().num_bits[[1, 0]].tolist()


def test_side_values_of_a_codebook_are_cut_and_joined() -> None:
    one, other = voiced()
    assert_same(Codes.cat([one, other]), voiced())
    fewer = Codes(**{**vars(other), "side_info": {"voice": other.side_info["voice"][:, :2]}})
    joined = Codes.cat([one, fewer])
    assert joined.side_info["voice"].tolist() == [[9, 4095, 0], [7, 8, PAD]]
    assert joined.num_bits.tolist() == [4 * 10 + 3 * 12, 2 * 10 + 2 * 12], "PAD is no token, and costs nothing"


def test_codes_of_different_codecs_do_not_join() -> None:
    with pytest.raises(ValueError, match=r"g711_ulaw.*g711_alaw"):
        Codes.cat([plain(5), plain(5, codec="g711_alaw")])
    with pytest.raises(ValueError, match="no codes"):
        Codes.cat([])


def test_first_codebooks_are_a_lower_bitrate() -> None:
    first = multiscale().first(2)
    assert (first.num_codebooks, first.codebook_sizes, first.strides) == (2, (4096, 1024), (4, 2))
    assert first.side_info.keys() == {"gain", "scale"}
    assert bool((first.num_bits < multiscale().num_bits).all())
    for wrong in (0, 4):
        with pytest.raises(ValueError, match=f"3 codebooks; {wrong} were asked for"):
            multiscale().first(wrong)


def test_all_tensors_move_together() -> None:
    for name in available_devices():
        there = multiscale().to(name)
        tensors = (there.codes, there.lengths, there.num_samples, *there.side_info.values())
        assert {t.device for t in tensors} == {there.device} and str(there.device).startswith(name)
        assert there.num_bits.tolist() == multiscale().num_bits.tolist()
        assert_same(there.cpu(), multiscale())


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [256, 2**15, 2**15 + 1, 2**31 + 1])
def test_a_file_holds_all_of_it(largest: int, tmp_path: Path) -> None:
    codes = multiscale()
    wide = Codes(**{**vars(codes), "codebook_sizes": (4096, largest, 1000)})
    wide.codes[0, 1, 0] = largest - 1
    wide.save(tmp_path / "codes.safetensors")
    loaded = Codes.load(tmp_path / "codes.safetensors")
    assert_same(loaded, wide)
    assert loaded.codes.dtype == torch.int64
    assert loaded.num_bits.tolist() == wide.num_bits.tolist()


def test_a_file_holds_side_values_of_a_codebook_as_narrow_as_codes(tmp_path: Path) -> None:
    voiced().save(tmp_path / "codes.safetensors")
    assert_same(Codes.load(tmp_path / "codes.safetensors"), voiced())
    with safe_open(tmp_path / "codes.safetensors", "pt") as file:
        assert file.get_tensor("side.voice").dtype == torch.int16


def test_the_codes_of_a_codec_decode_from_their_file(tmp_path: Path) -> None:
    for name in ("g711_alaw", "opus_12k"):
        codec = load_codec(name, device="cpu")
        codes = codec.encode([chirp(2000, 16000), chirp(700, 16000)], 16000)
        codes[1:].save(tmp_path / "codes.safetensors")
        loaded = Codes.load(str(tmp_path / "codes.safetensors"))
        assert_same(loaded, codes[1])
        assert torch.equal(codec.decode(loaded).waveform, codec.decode(codes[1]).waveform)


def test_bytes_and_open_files_are_as_good_as_paths(tmp_path: Path) -> None:
    codes = multiscale()
    codes.save(tmp_path / "codes.safetensors")
    content = (tmp_path / "codes.safetensors").read_bytes()
    buffer = io.BytesIO()
    codes.save(buffer)
    for source in (content, buffer.getvalue(), io.BytesIO(content)):
        assert_same(Codes.load(source), codes)
    with pytest.raises(ValueError, match=r"<bytes>: not a whole safetensors file"):
        Codes.load(content[:-20])
    with pytest.raises(ValueError, match=r"<bytes>: not a whole safetensors file"):
        Codes.load(b"")


def test_the_head_of_a_file_says_what_it_holds(tmp_path: Path) -> None:
    multiscale().save(tmp_path / "codes.safetensors")
    head = CodesFile.read(tmp_path / "codes.safetensors")
    assert head == CodesFile.of(multiscale()) == ("made_up", (4096, 1024, 1000), 2, 0.8, None)
    bare = Codes(**{**vars(multiscale()), "num_samples": torch.tensor(-1)})
    bare.save(tmp_path / "bare.safetensors")
    assert CodesFile.read(tmp_path / "bare.safetensors").seconds == 8 / 10
    with pytest.raises(FileNotFoundError, match="nowhere"):
        CodesFile.read(tmp_path / "nowhere.safetensors")
    (tmp_path / "text.safetensors").write_text("not codes")
    with pytest.raises(ValueError, match=r"text.safetensors: not a whole safetensors file"):
        CodesFile.read(tmp_path / "text.safetensors")


def test_small_alphabets_make_small_files(tmp_path: Path) -> None:
    plain(20000).save(tmp_path / "codes.safetensors")
    assert (tmp_path / "codes.safetensors").stat().st_size < 2 * 20000 + 1000


def test_what_is_not_a_file_of_codes_is_an_error_that_names_it(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError, match="nowhere"):
        Codes.load(tmp_path / "nowhere.safetensors")
    (tmp_path / "text.safetensors").write_text("not codes")
    with pytest.raises(ValueError, match=r"text.safetensors: not a whole safetensors file"):
        Codes.load(tmp_path / "text.safetensors")
    multiscale().save(tmp_path / "cut.safetensors")
    data = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-20])
    with pytest.raises(ValueError, match=r"cut.safetensors: not a whole safetensors file"):
        Codes.load(tmp_path / "cut.safetensors")
    save_file({"weight": torch.zeros(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"weights.safetensors: not a file of codes"):
        Codes.load(tmp_path / "weights.safetensors")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("<!DOCTYPE html><html>404</html>", "a web page, saved in place of the file"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n", "`git lfs pull`"),
        ("Not Found", "a text, which begins 'Not Found'"),
    ],
)
def test_what_lies_in_place_of_codes_is_called_what_it_is(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.codes.safetensors"
    path.write_text(content)
    for read in (Codes.load, CodesFile.read):
        with pytest.raises(ValueError, match=re.escape(f"{path}: not a whole safetensors file (")) as caught:
            read(path)
        assert says in str(caught.value)


def test_saving_where_there_is_no_folder_or_onto_one(tmp_path: Path) -> None:
    codes = plain(3, 5)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        codes.save(tmp_path / "missing" / "a.safetensors")
    with pytest.raises(IsADirectoryError, match="this is a folder"):
        codes.save(tmp_path)
