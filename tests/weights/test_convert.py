"""Key maps: which published tensor becomes which of ours, and what is said when they do not fit."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch
from torch import Tensor, nn

from codeczoo.base.key_map import KeyMap, Rule
from codeczoo.weights.convert import MAX_KEYS_LISTED, CheckpointError, convert, fit, fold_weight_norm

PLAIN = KeyMap("plain")


def test_the_first_rule_that_matches_holds_and_others_keep_their_names() -> None:
    key_map = KeyMap("authors", (Rule(r"a\.(\d)\.w", r"x.\1.weight"), Rule(r"a\..+", "never.for.a.0.w")))
    assert key_map.sources("a.0.w")[0] == ("x.0.weight",)
    assert key_map.sources("a.zero.w")[0] == ("never.for.a.0.w",)
    assert key_map.sources("b.0.w")[0] == ("b.0.w",)
    assert key_map.sources("xa.0.w")[0] == ("xa.0.w",), "an expression is of the whole name"


def test_several_tensors_are_combined_in_the_order_of_the_rule() -> None:
    key_map = KeyMap("qkv", (Rule(r"(.+)\.qkv", (r"\1.q", r"\1.k", r"\1.v"), lambda *parts: torch.cat(parts)),))
    parts = {f"att.{name}": torch.full((2, 3), float(i)) for i, name in enumerate("kqv")}
    got = convert(parts, {"att.qkv": torch.empty(6, 3)}, [key_map], "test")
    assert got["att.qkv"][:, 0].tolist() == [1, 1, 0, 0, 2, 2]


def test_tensors_take_the_type_of_ours() -> None:
    got = convert({"w": torch.ones(2, dtype=torch.bfloat16)}, {"w": torch.empty(2, dtype=torch.float64)}, [PLAIN], "t")
    assert got["w"].dtype == torch.float64
    with pytest.raises(CheckpointError, match=r"w \[2\] of type torch.int64 instead of torch.float32"):
        convert({"w": torch.ones(2, dtype=torch.int64)}, {"w": torch.empty(2)}, [PLAIN], "t")


MODULES = {
    "linear": (lambda: nn.Linear(5, 7), 0),
    "convolution": (lambda: nn.Conv1d(4, 6, 3, groups=2), 0),
    "depthwise": (lambda: nn.Conv1d(4, 4, 3, groups=4), 0),
    "one channel": (lambda: nn.Conv1d(4, 1, 3), 0),
    "transposed": (lambda: nn.ConvTranspose1d(4, 6, 8, 4), 0),
    "two dimensions": (lambda: nn.Conv2d(2, 3, (3, 5)), 0),
    "along time": (lambda: nn.Conv1d(4, 6, 9), 2),
}


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("recent", [False, True], ids=["weight_g", "parametrizations"])
def test_weight_norm_is_folded_as_torch_applies_it(kind: str, recent: bool) -> None:
    torch.manual_seed(0)
    make, axis = MODULES[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the old form is what is published
        wrap = nn.utils.parametrizations.weight_norm if recent else nn.utils.weight_norm
        module = wrap(make().double(), dim=axis)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
    published = {f"net.{key}": value for key, value in module.state_dict().items()}
    assert len(published) == 3
    wanted = {"net.weight": torch.empty_like(module.weight), "net.bias": torch.empty_like(module.bias)}
    got = convert(published, wanted, [PLAIN], "test")
    x = torch.randn(1, *{nn.Linear: (5,), nn.Conv2d: (2, 8, 8)}.get(type(make()), (4, 20)), dtype=torch.float64)
    plain = make().double()
    plain.load_state_dict({key.removeprefix("net."): value for key, value in got.items()})
    torch.testing.assert_close(plain(x), module(x), rtol=1e-12, atol=1e-12)


def test_weight_norm_of_float32_is_rounded_once() -> None:
    torch.manual_seed(0)
    v, g = torch.randn(64, 32, 7), torch.rand(64, 1, 1)
    exact = v.double() / v.double().flatten(1).norm(dim=1).view(-1, 1, 1) * g.double()
    assert torch.equal(fold_weight_norm(v, g), exact.float())


@pytest.mark.parametrize("g", [(7, 1, 1), (6,), (1, 1, 1), (6, 1), (6, 1, 3)])
def test_a_magnitude_that_does_not_go_with_its_direction_is_an_error(g: tuple[int, ...]) -> None:
    published = {"conv.weight_v": torch.randn(6, 4, 3), "conv.weight_g": torch.rand(g)}
    with pytest.raises(CheckpointError, match=r"1 of the wrong shape: conv\.weight_v \[6, 4, 3\] and conv\.weight_g"):
        convert(published, {"conv.weight": torch.empty(6, 4, 3)}, [PLAIN], "test")


def test_a_missing_half_of_weight_norm_is_named() -> None:
    wanted = {"conv.weight": torch.empty(6, 4, 3)}
    with pytest.raises(CheckpointError, match=r"\(read in the naming 'plain'\): 1 missing: conv\.weight_g$"):
        convert({"conv.weight_v": torch.ones(6, 4, 3)}, wanted, [PLAIN], "test")
    with pytest.raises(CheckpointError, match=r": 1 missing: conv\.parametrizations\.weight\.original1$"):
        convert({"conv.parametrizations.weight.original0": torch.ones(6, 1, 1)}, wanted, [PLAIN], "test")


def test_every_fault_is_listed_at_once() -> None:
    wanted = {f"w{i}": torch.empty(2) for i in range(5)}
    published = {
        "w1": torch.ones(3),
        "w2": torch.tensor([1.0, float("nan")]),
        "w3": torch.tensor([1.0, -float("inf")]),
        "w4": torch.ones(2),
        "extra": torch.ones(2),
    }
    with pytest.raises(CheckpointError) as caught:
        convert(published, wanted, [PLAIN], "tiny: weights.pt")
    assert str(caught.value) == (
        "tiny: weights.pt does not fit (read in the naming 'plain'): 1 missing: w0; 1 unexpected: extra; "
        "1 of the wrong shape: w1 [3] instead of [2]; 2 with NaN or infinity: w2, w3"
    )


def test_long_lists_are_cut_and_counted() -> None:
    wanted = {f"w{i:03}": torch.empty(2) for i in range(MAX_KEYS_LISTED + 30)}
    with pytest.raises(CheckpointError, match=rf"{MAX_KEYS_LISTED + 30} missing: w000, .* and 30 more"):
        convert({}, wanted, [PLAIN], "test")


def test_parts_that_cannot_be_combined_are_a_wrong_shape() -> None:
    key_map = KeyMap("qkv", (Rule("qkv", ("q", "k"), lambda *parts: torch.cat(parts)),))
    with pytest.raises(CheckpointError, match=r"1 of the wrong shape: q \[2, 3\] and k \[2, 4\] \("):
        convert({"q": torch.ones(2, 3), "k": torch.ones(2, 4)}, {"qkv": torch.empty(4, 3)}, [key_map], "test")


def test_the_odd_one_out_of_many_is_named() -> None:
    key_map = KeyMap("books", (Rule("books", tuple(f"book.{k}" for k in range(9)), lambda *b: torch.stack(b)),))
    published = {f"book.{k}": torch.ones(4 if k != 7 else 5, 2) for k in range(9)}
    with pytest.raises(CheckpointError, match=r"1 of the wrong shape: book\.7 \[5, 2\] and book\.0 \[4, 2\]"):
        convert(published, {"books": torch.empty(9, 4, 2)}, [key_map], "test")


def test_infinity_that_comes_of_combining_is_an_error() -> None:
    key_map = KeyMap("sums", (Rule("codebook", ("total", "usage"), lambda total, usage: total / usage[:, None]),))
    published = {"total": torch.ones(2, 3), "usage": torch.tensor([1.0, 0.0])}
    with pytest.raises(CheckpointError, match=r"1 with NaN or infinity: total \[2, 3\] and usage \[2\] once combined"):
        convert(published, {"codebook": torch.empty(2, 3)}, [key_map], "test")


def test_unused_tensors_may_be_anything() -> None:
    key_map = KeyMap("authors", unused=(r"discriminator\..+",))
    published = {"w": torch.ones(2), "discriminator.w": torch.tensor(float("nan"))}
    assert list(convert(published, {"w": torch.empty(2)}, [key_map], "test")) == ["w"]


def test_unusual_sizes_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    published = {"w": torch.tensor([1.0, -3e5]), "small": torch.ones(2)}
    with caplog.at_level(logging.WARNING):
        convert(published, {name: torch.empty(2) for name in published}, [PLAIN], "tiny: weights.pt")
    (record,) = caplog.records
    assert record.getMessage() == "tiny: weights.pt: unusually large values in w (3e+05)"


def test_the_naming_that_fits_best_is_chosen_though_a_key_is_missing() -> None:
    authors = KeyMap("authors", (Rule(r"layer\.(\d)", r"net.\1.w"),))
    transformers = KeyMap("transformers", (Rule(r"layer\.(\d)", r"model.layers.\1"),))
    wanted: dict[str, Tensor] = {f"layer.{i}": torch.empty(2) for i in range(5)}
    published = {f"model.layers.{i}": torch.ones(2) for i in range(4)}
    assert fit(published, wanted, [authors, transformers]) == ((4, 0), transformers)
    with pytest.raises(CheckpointError, match=r"naming 'transformers'\): 1 missing: model\.layers\.4$"):
        convert(published, wanted, [authors, transformers], "test")


def test_half_precision_checkpoints_are_checked_too() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(CheckpointError, match="1 with NaN or infinity: w"):
            convert({"w": torch.tensor([1.0, float("nan")], dtype=dtype)}, {"w": torch.empty(2)}, [PLAIN], "test")
