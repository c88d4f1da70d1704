"""Packed weights: bit for bit what went in, by the tensor and by the part, smaller, and never silently damaged."""

from __future__ import annotations

import hashlib
import itertools
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from codeczoo.weights.export import export_safetensors
from codeczoo.weights.int8 import restored
from codeczoo.weights.load import load_weights
from codeczoo.weights.packed import DTYPES, PackedFile, pack, read_packed, unpack
from codeczoo.weights.planes import SIZES, Coder, delta, join, split, undo_delta
from tests.support.command_line import run
from tests.support.small import ROOTS, codec_of, small_variant
from tests.support.sound import chirp
from tests.support.tiny_codec import tiny

pytest.importorskip("zstandard", reason="the extra [packed] is not installed")

LARGE = (1 << 20) + 12345  # values: more than a block


def any_bits(dtype: torch.dtype, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Values of any bits: NaN of every kind, -0, infinities, subnormal numbers."""
    generator = np.random.default_rng(seed)
    size = torch.empty((), dtype=dtype).element_size()
    raw = generator.integers(0, 2 if dtype == torch.bool else 256, (int(np.prod(shape)) * size,), dtype=np.uint8)
    return torch.from_numpy(raw).view(dtype).view(shape) if raw.size else torch.empty(shape, dtype=dtype)


def same_bits(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.numel() == 0 or torch.equal(*(tensor.reshape(-1).view(torch.uint8) for tensor in (one, other)))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "model.safetensors", tmp_path / "model.packed.safetensors"


@pytest.mark.parametrize("kind", SIZES)
def test_every_type_and_shape_comes_back_bit_for_bit(kind: str, files: tuple[Path, Path]) -> None:
    plain, packed = files
    tensors = {
        f"{kind} {shape}": any_bits(DTYPES[kind], shape, i)
        for i, shape in enumerate([(), (0,), (1,), (3, 5), (2, 0, 4), (7, 11, 13), (70000,)])
    }
    save_file(tensors, plain, {"format": "pt", "by": 'ä"\\'})
    pack(plain, packed)
    again, metadata = read_packed(packed)
    assert list(again) == list(PackedFile(packed).entries) and again.keys() == tensors.keys()
    assert all(same_bits(again[name], tensor) for name, tensor in tensors.items())
    assert metadata == {"format": "pt", "by": 'ä"\\'}
    unpack(packed, files[0].with_name("again.safetensors"))
    assert files[0].with_name("again.safetensors").read_bytes() == plain.read_bytes()


def weights(dtype: torch.dtype, values: int = LARGE) -> Tensor:
    return (torch.randn(values, generator=torch.Generator().manual_seed(1)) * 0.03).to(dtype)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 0.84), (torch.bfloat16, 0.68), (torch.float16, 0.87)])
def test_it_gets_as_small_as_exponents_allow(dtype: torch.dtype, most: float, files: tuple[Path, Path]) -> None:
    plain, packed = files
    save_file({"w": weights(dtype)}, plain)
    pack(plain, packed)
    assert packed.stat().st_size <= most * plain.stat().st_size
    assert same_bits(read_packed(packed)[0]["w"], weights(dtype))


def test_what_was_half_precision_once_gets_smaller_still(files: tuple[Path, Path]) -> None:
    plain, packed = files
    save_file({"w": weights(torch.float16).float()}, plain)
    pack(plain, packed)
    assert packed.stat().st_size <= 0.6 * plain.stat().st_size


@pytest.mark.parametrize("predict", [False, True])
def test_any_part_is_read_by_itself(predict: bool, files: tuple[Path, Path]) -> None:
    """And no other block is looked at: those are overwritten here."""
    plain, packed = files
    smooth = (torch.arange(LARGE // 7 * 7).view(-1, 7) % 50).to(torch.int8)
    save_file({"a": weights(torch.float32, 3 * LARGE), "b": smooth}, plain)
    pack(plain, packed, predict)
    file, truth = PackedFile(packed), load_file(plain)
    assert bool(file.entries["b"].row) == predict
    for name, start, stop in (("a", 5, 9), ("a", 1048570, 1048590), ("a", 7, 7), ("b", 1048570, 1048585), ("b", 0, 3)):
        assert same_bits(file.values(name, start, stop), truth[name].flatten()[start:stop]), (name, start)
    with pytest.raises(ValueError, match="a has 3182763 values; 5 to 3182764 were asked for"):
        file.values("a", 5, 3 * LARGE + 1)
    data = bytearray(packed.read_bytes())
    head = 8 + int.from_bytes(data[:8], "little")
    first = sum(file.entries["a"].planes[0])
    data[head : head + first] = bytes(first)
    packed.write_bytes(data)
    assert same_bits(PackedFile(packed).values("a", 1 << 20, 1 << 21), truth["a"][1 << 20 : 1 << 21])
    with pytest.raises(
        ValueError, match=r"model\.packed\.safetensors: the packed file is damaged \(.*\): get it again"
    ):
        PackedFile(packed).values("a", 0, 1)


def test_prediction_is_taken_where_it_helps_and_nowhere_else(files: tuple[Path, Path]) -> None:
    plain, packed = files
    generator = torch.Generator().manual_seed(2)
    smooth = torch.randn(4000, 1, generator=generator) * 40 + torch.linspace(-20, 20, 64)
    rough = torch.randn(4000, 64, generator=generator) * 30
    tensors = {name: values.clamp(-127, 127).to(torch.int8) for name, values in (("smooth", smooth), ("rough", rough))}
    save_file(tensors, plain)
    pack(plain, packed, predict=True)
    file = PackedFile(packed)
    assert (file.entries["smooth"].row, file.entries["rough"].row) == (64, 0)
    assert all(same_bits(file.tensor(name), tensor) for name, tensor in tensors.items())
    size = packed.stat().st_size
    pack(plain, packed)
    assert size < 0.8 * packed.stat().st_size


def test_planes_and_differences_are_undone() -> None:
    for kind, size in SIZES.items():
        raw = np.random.default_rng(3).integers(0, 256, 1000 * size, dtype=np.uint8)
        out = np.empty_like(raw)
        join(split(raw, kind), kind, out)
        assert np.array_equal(out, raw), kind
    raw = np.random.default_rng(4).integers(0, 256, 21 * 50, dtype=np.uint8)
    assert np.array_equal(undo_delta(delta(raw, 21), 21), raw)


def test_any_zstd_reads_a_plane_and_a_frame_cannot_ask_for_memory() -> None:
    import zstandard

    plane = np.random.default_rng(5).integers(0, 9, 50000, dtype=np.uint8)
    coded = Coder().encode(plane)
    assert len(coded) < 25000 and zstandard.ZstdDecompressor().decompress(coded) == plane.tobytes()
    with pytest.raises(ValueError, match="a plane of another size"):
        Coder().decode(np.frombuffer(coded, np.uint8), np.empty(50001, np.uint8))
    huge = zstandard.ZstdCompressor().compress(bytes(1 << 26))  # 64 MiB in a few kB
    with pytest.raises(ValueError, match="a plane of another size"):
        Coder().decode(np.frombuffer(huge, np.uint8), np.empty(50000, np.uint8))


# -- loading --------------------------------------------------------------------------------------


def test_a_codec_loads_from_it_and_its_weights_are_the_plain_files(files: tuple[Path, Path]) -> None:
    plain, packed = files
    save_file({key: tensor.contiguous() for key, tensor in tiny_weights().items()}, plain)
    pack(plain, packed)
    one, other = tiny(), tiny()
    load_weights(one, plain)
    load_weights(other, packed)
    assert all(torch.equal(other.state_dict()[key], tensor) for key, tensor in one.state_dict().items())
    assert one.weights_hash == other.weights_hash == hashlib.sha256(plain.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["encodec_24k", "mimi", "dac_44k"])
def test_a_model_keeps_the_tensors_that_were_unpacked(name: str, files: tuple[Path, Path]) -> None:
    """They are its own: apart from each other, and from the file."""
    plain, packed = files
    codec = codec_of(name, "small", torch.float32)
    export_safetensors(codec, plain)
    pack(plain, packed)
    other = small_variant(name).build().eval()
    load_weights(other, packed)
    packed.write_bytes(bytes(packed.stat().st_size))
    wanted = codec.state_dict()
    places = {key: (tensor.data_ptr(), tensor.nbytes) for key, tensor in other.state_dict().items()}
    ends = sorted(places.values())
    assert all(start + size <= after for (start, size), (after, _) in itertools.pairwise(ends))
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in other.state_dict().items())
    audio = chirp(6000, codec.sample_rate)
    codes = other.encode(audio, codec.sample_rate)
    assert torch.equal(codes.codes, codec.encode(audio, codec.sample_rate).codes)
    assert torch.equal(other.decode(codes).waveform, codec.decode(codes, allow_other_weights=True).waveform)


@pytest.mark.parametrize("name", ROOTS)
def test_nothing_but_a_model_itself_refers_to_its_tensors(name: str) -> None:
    """So `load_weights` may replace them. (An LSTM has a list of its own, which PyTorch keeps up.)"""
    model = small_variant(name).build()
    own = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values() if tensor.numel()}
    for path, module in model.named_modules():
        held = {key: value for key, value in vars(module).items() if key not in ("_parameters", "_buffers", "_modules")}
        held.pop("_flat_weights", None)
        held |= {key: module._buffers[key] for key in module._non_persistent_buffers_set}
        for key, tensor in tensors_in(held, key=path):
            assert tensor.untyped_storage().data_ptr() not in own, key


def tensors_in(tree: object, key: str, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """All tensors that attributes of an object lead to, but those of modules."""
    if isinstance(tree, Tensor):
        if tree.numel():
            yield key, tree
    elif depth < 5 and not isinstance(tree, nn.Module | type):
        inside = vars(tree) if hasattr(tree, "__dict__") else tree
        items = (
            inside.items()
            if isinstance(inside, dict)
            else enumerate(inside)
            if isinstance(inside, list | tuple)
            else ()
        )
        for name, value in items:
            yield from tensors_in(value, f"{key}.{name}", depth + 1)


def tiny_weights() -> dict[str, Tensor]:
    codec = tiny()
    load_weights(codec, "random")
    return codec.state_dict()


def test_int8_is_a_quarter_near_the_weights_and_says_so(
    files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    plain, packed = files
    codec = codec_of("wavtokenizer_large_40", "small", torch.float32)
    export_safetensors(codec, plain, "INT8")
    pack(plain, packed)
    for path in files:
        again = small_variant("wavtokenizer_large_40").build()
        caplog.clear()
        load_weights(again, path)
        assert caplog.text.count("stored as int8 a row") == 1
        for key, tensor in codec.state_dict().items():
            step = tensor.flatten(1).abs().amax(1) / 127 if tensor.ndim > 1 else tensor.new_zeros(len(tensor))
            error = (again.state_dict()[key] - tensor).abs().flatten(1 if tensor.ndim > 1 else 0)
            assert bool((error <= 0.51 * (step[:, None] if tensor.ndim > 1 else step)).all()), key
    assert sum(tensor.dtype == torch.int8 for tensor in load_file(plain).values()) > 10
    assert not any("codebook" in key for key, tensor in load_file(plain).items() if tensor.dtype == torch.int8)


def test_int8_that_cannot_be_made_or_read(tmp_path: Path) -> None:
    codec = small_variant("wavtokenizer_large_40").build()
    load_weights(codec, "random")
    with torch.no_grad():
        codec.head.out.weight[3, 4] = torch.inf
    with pytest.raises(ValueError, match=r"head\.out\.weight has values that are not finite"):
        export_safetensors(codec, tmp_path / "own.safetensors", "INT8")
    with pytest.raises(ValueError, match="'F16' was asked for"):
        export_safetensors(codec, tmp_path / "own.safetensors", "F16")
    with pytest.raises(ValueError, match="w is stored as int8, and its scales are missing"):
        restored({"w": torch.ones(3, 4, dtype=torch.int8)}, {"storage": "int8, a scale a row"})


# -- damaged --------------------------------------------------------------------------------------


def test_hundreds_of_damaged_files_give_an_error_or_the_very_tensors(files: tuple[Path, Path]) -> None:
    """Cut short, or with bytes changed in the header, the table or the tensors."""
    plain, packed = files
    tensors = {
        "a": weights(torch.float32, 3000).view(30, 100),
        "b": weights(torch.bfloat16, 500),
        "c": any_bits(torch.int8, (40, 20)),
    }
    save_file(tensors, plain)
    pack(plain, packed)
    whole, random = packed.read_bytes(), np.random.default_rng(6)
    header = 8 + int.from_bytes(whole[:8], "little")
    refused = unharmed = 0
    for number in range(400):
        data = bytearray(whole)
        if number % 4 == 0:
            del data[random.integers(len(whole)) :]
        else:
            first, last = (0, header) if number % 2 else (header, len(whole))
            for place in random.integers(first, last, size=1 + number % 3):
                data[place] ^= 1 << random.integers(8)
        packed.write_bytes(data)
        try:
            again, _ = read_packed(packed)
        except ValueError as error:
            refused += str(packed) in str(error)
            continue
        assert again.keys() == tensors.keys() and all(same_bits(again[name], tensors[name]) for name in tensors), number
        unharmed += 1
    assert refused + unharmed == 400 and refused > 380


def test_a_table_that_promises_too_much(files: tuple[Path, Path]) -> None:
    plain, packed = files
    save_file({"w": weights(torch.float32, 3000)}, plain)
    pack(plain, packed)
    for number, value in (
        (1, [1 << 60]),
        (2, 1 << 40),
        (2, 0),
        (3, 7),
        (0, "F99"),
        (4, []),
        (4, [[1, 2]]),
        (4, [[1, 2, 3, 0]]),
    ):
        change_table(packed, number, value)
        with pytest.raises(ValueError, match=r"damaged \(the table"):
            PackedFile(packed)
        pack(plain, packed)


def change_table(path: Path, number: int, value: object) -> None:
    data = path.read_bytes()
    length = 8 + int.from_bytes(data[:8], "little")
    head = json.loads(data[8:length])
    table = json.loads(head["__metadata__"]["table"])
    table["w"][number] = value
    about = head["__metadata__"]
    about["table"] = json.dumps(table)
    about["check"] = f"{zlib.crc32((about['header'] + about['sha256'] + about['table']).encode()):010}"
    text = json.dumps(head).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[length:])


def test_other_files_are_told_apart(files: tuple[Path, Path]) -> None:
    plain, packed = files
    save_file({"w": weights(torch.float32, 3000)}, plain)
    pack(plain, packed)
    with pytest.raises(ValueError, match="it is packed already"):
        pack(packed, plain.with_name("twice.safetensors"))
    with pytest.raises(ValueError, match="not a packed file; `codeczoo pack` makes one"):
        unpack(plain, plain.with_name("no.safetensors"))
    (plain.with_name("text.safetensors")).write_text("hello, this is no model")
    with pytest.raises(ValueError, match=r"text\.safetensors: not a whole safetensors file"):
        pack(plain.with_name("text.safetensors"), packed)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors: no such file"):
        pack(plain.with_name("nowhere.safetensors"), packed)
    assert sorted(path.name for path in plain.parent.iterdir()) == [packed.name, plain.name, "text.safetensors"]


def test_the_commands(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    plain, packed = files
    save_file({"w": weights(torch.bfloat16)}, plain)
    before = plain.read_bytes()
    assert run("pack", plain) == 0
    assert f"{packed}: 1.4 MB, from 2.1 (66" in capsys.readouterr().err
    assert run("unpack", packed) == 1
    assert "--overwrite replaces it" in capsys.readouterr().err
    plain.unlink()
    assert run("unpack", packed) == 0
    assert plain.read_bytes() == before
    assert run("pack", plain, "-o", plain) == 1 and plain.read_bytes() == before
    assert "is the input" in capsys.readouterr().err
