"""Every family's checkpoint in its published packaging, whole and damaged, through `load_codec`.

The networks are small ones of one architecture (tests/support/published.py); keys, nesting and what lies beside the
tensors are as published.
"""

from __future__ import annotations

import json
import logging
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor

from codeczoo import BaseCodec, load_codec
from codeczoo.base.catalogue import find_variant, variants
from codeczoo.weights import load as weights_module
from tests.support.golden import manifest_of
from tests.support.published import by_entry, save_lightning, save_onnx, small_checkpoint
from tests.support.small import small_variant

Tensors = dict[str, Tensor]
Write = Callable[["Packaging", Tensors, Path], Path]  # into an empty folder → what is given as weights=


@dataclass(frozen=True)
class Packaging:
    """One form that a family is published in."""

    codec: str
    folder: str  # of the golden case whose manifest lists the tensors
    write: Write
    manifest: str = "manifest.json"

    def tensors(self) -> tuple[Tensors, list[str]]:
        return small_checkpoint(find_variant(self.codec).name, self.folder, self.manifest)


def flat_safetensors(file: str) -> Write:
    def write(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / file, {"format": "pt"})
        return folder / file

    return write


def of_transformers(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    """The folder of a hub repository."""
    flat_safetensors("model.safetensors")(packaging, tensors, folder)
    (folder / "config.json").write_text(json.dumps({"architectures": ["Model"], "torch_dtype": "float32"}))
    return folder


def flat_pickle(file: str) -> Write:
    def write(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
        torch.save(OrderedDict(tensors), folder / file)
        return folder / file

    return write


def with_settings(file: str, settings: Callable[[Any], dict[str, Any]]) -> Write:
    """A flat pickle beside a config.json, of which the folder is given."""

    def write(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
        torch.save(OrderedDict(tensors), folder / file)
        config = small_variant(find_variant(packaging.codec).name).build().config
        (folder / "config.json").write_text(json.dumps(settings(config)))
        return folder

    return write


def numbers_of(config: Any, *more: str) -> dict[str, Any]:
    """What DAC and SNAC call as we do."""
    sides = (f"{side}_{what}" for side in ("encoder", "decoder") for what in ("dim", "rates"))
    return {name: getattr(config, name) for name in (*sides, "codebook_size", "codebook_dim", *more)}


def of_snac(config: Any) -> dict[str, Any]:
    own = {"sampling_rate": config.sample_rate, "attn_window_size": config.window, "noise": True, "depthwise": True}
    return {**own, **numbers_of(config, "vq_strides")}


def of_speechtokenizer(config: Any) -> dict[str, Any]:
    return {
        "sample_rate": 16000,
        "sampling_rate": 16000,
        "n_filters": config.filters,
        "strides": [8, 5, 4, 2],
        "dimension": config.dim,
        "semantic_dimension": 768,
        "codebook_size": 1024,
        "n_q": 8,
        "lstm_layers": 2,
        "bidirectional": True,
        "dilation_base": 2,
        "residual_kernel_size": 3,
        "n_residual_layers": 1,
        "activation": {"elu": "ELU", "snake": "Snake"}[config.activation],
    }


def entries(file: str) -> Write:
    """A pickle of state dicts, by the first part of each key."""

    def write(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
        torch.save(by_entry(tensors), folder / file)
        return folder / file

    return write


def lightning(file: str) -> Write:
    def write(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
        others = ("multiperioddisc.discriminators.0.convs.0.weight_v", "dac.discriminators.0.bias",
                  "dacdiscriminator.discriminator.discriminators.0.bias", "melspec_loss.mel_spec.spectrogram.window",
                  "multiresddisc.discriminators.0.conv_post.bias")  # fmt: skip
        save_lightning({**tensors, **{key: torch.ones(3) for key in others}}, folder / file)
        return folder / file

    return write


def descript(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    config = small_variant(packaging.codec).build().config
    kwargs = numbers_of(config, "sample_rate")
    kwargs |= {
        "n_codebooks": config.num_codebooks,
        "latent_dim": config.latent_channels,
        "quantizer_dropout": 0.5,
    }
    torch.save({"state_dict": OrderedDict(tensors), "metadata": {"kwargs": kwargs}}, folder / "weights.pth")
    return folder / "weights.pth"


def two_trainers(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    """AudioDec's two files in their folders, with what its trainer writes beside the model."""
    golden = manifest_of(packaging.folder)
    number = {entry["key"]: entry["file"] for entry in golden["tensors"]}
    for i, file in enumerate(golden["checkpoint"]["files"]):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        own = {key: tensor for key, tensor in tensors.items() if number[key.removesuffix("_more")] == i}
        own = {key.removeprefix(f"{Path(file).stem}."): tensor for key, tensor in own.items()}
        model = {"generator": own, "discriminator": {"mpd.0.weight": torch.ones(2, 3)}}
        optimizer = {"generator": {"state": {0: {"step": 1, "exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-4}]}}
        torch.save({"model": model, "optimizer": optimizer, "steps": 500000, "epochs": 7}, folder / file)
        (folder / file).with_name("config.yml").write_text("model_type: symAudioDec\n")
    return folder


def zipped_trainers(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    two_trainers(packaging, tensors, folder / "exp")
    with zipfile.ZipFile(folder / "exp.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((folder / "exp").rglob("*")):
            archive.write(path, path.relative_to(folder))
            if path.is_file():
                path.unlink()
    return folder / "exp.zip"


def five_files(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    source = find_variant(packaging.codec).weights
    assert source is not None
    own = by_entry(tensors)
    for file in (source.file, *(entry["file"] for entry in source.more)):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        torch.save(own.pop(Path(file).stem, {}), folder / file)
    assert own == {}
    return folder


def onnx_graph(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    pytest.importorskip("onnx")
    save_onnx(tensors, packaging.folder, folder / "speech_tokenizer.onnx")
    return folder / "speech_tokenizer.onnx"


def chatterbox(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    others = ("flow.encoder.embed.out.0.weight", "mel2wav.conv_pre.bias", "speaker_encoder.head.bn1.bias",
              "tokenizer._mel_filters", "tokenizer.window")  # fmt: skip
    own = {f"tokenizer.{key}": tensor for key, tensor in tensors.items()}
    return flat_safetensors("s3gen.safetensors")(packaging, {**own, **{key: torch.ones(3) for key in others}}, folder)


def espnet(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    """With the settings of the manifest, but for the sizes of the small network."""
    torch.save(tensors, folder / "model.pth")
    config = small_variant(find_variant(packaging.codec).name).build().config
    settings = manifest_of(packaging.folder)["config"]
    settings["quantizer_conf"] |= {"codebook_size": config.codebook_size}
    settings["encoder_conf"] |= {"n_filters": config.filters, "dimension": config.dim}
    settings["decoder_conf"] |= {"n_filters": config.filters}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def older_weight_norm(packaging: Packaging, tensors: Tensors, folder: Path) -> Path:
    spelled = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    renamed = {re.sub("|".join(spelled), lambda m: spelled[m[0]], key): tensor for key, tensor in tensors.items()}
    return flat_pickle("auv.pt")(packaging, renamed, folder)


HF = "manifest_hf.json"
PACKAGINGS = {
    "mimi": Packaging("mimi", "mimi", flat_safetensors("tokenizer-e351c8d8-checkpoint125.safetensors")),
    "mimi of transformers": Packaging("mimi", "mimi", of_transformers, HF),
    "dac": Packaging("dac_44k", "dac_44k", descript),
    "dac at 24 kHz": Packaging("dac_24k", "dac_24k", descript),
    "dac of transformers": Packaging("dac_44k", "dac_44k", of_transformers, HF),
    "encodec": Packaging("encodec_24k", "encodec_24k", flat_pickle("encodec_24khz-d7cc33bc.th")),
    "encodec at 48 kHz": Packaging("encodec_48k", "encodec_48k", flat_pickle("encodec_48khz-7e698e3e.th")),
    "encodec of transformers": Packaging("encodec_24k", "encodec_24k", of_transformers, HF),
    "encodec of older transformers": Packaging("encodec_24k", "encodec_24k", flat_pickle("pytorch_model.bin"), HF),
    "wavtokenizer": Packaging("wavtokenizer_small_40", "wavtokenizer_40", lightning("WavTokenizer_small_600.ckpt")),
    "wavtokenizer of 75": Packaging("wavtokenizer_small_75", "wavtokenizer_75", lightning("wavtokenizer_320.ckpt")),
    "speechtokenizer": Packaging(
        "speechtokenizer", "speechtokenizer_16k", with_settings("SpeechTokenizer.pt", of_speechtokenizer)
    ),
    "speechtokenizer, snake": Packaging(
        "speechtokenizer_snake", "speechtokenizer_snake_16k", with_settings("ckpt.dev", of_speechtokenizer)
    ),
    "bigcodec": Packaging("bigcodec", "bigcodec_16k", entries("bigcodec.pt")),
    "academicodec": Packaging(
        "academicodec_hifi_16k_320d_large_uni",
        "academicodec_hifi_16k_320d",
        entries("HiFi-Codec-16k-320d-large-universal"),
    ),
    "academicodec of 240": Packaging(
        "academicodec_hifi_24k_240d", "academicodec_hifi_24k_240d", entries("HiFi-Codec-24k-240d")
    ),
    "audiodec": Packaging("audiodec_24k", "audiodec_24k", two_trainers),
    "audiodec in its archive": Packaging("audiodec_24k_320d", "audiodec_24k", zipped_trainers),
    "audiodec of three kernels": Packaging("audiodec_48k_v0", "audiodec_48k_v0", zipped_trainers),
    "audiodec, one autoencoder twice": Packaging(
        "audiodec_48k_activate_symmetric", "audiodec_48k_activate_symmetric", zipped_trainers
    ),
    "audiodec of 16 codebooks": Packaging(
        "audiodec_48k_c16h320_symmetric", "audiodec_48k_c16h320_symmetric", two_trainers
    ),
    "funcodec": Packaging("funcodec", "funcodec_en_libritts_16k_nq32ds320", espnet),
    "funcodec of 640": Packaging("funcodec_zh_en_16k_nq32ds640", "funcodec_en_libritts_16k_nq32ds640", espnet),
    "funcodec, frequencies": Packaging(
        "funcodec_en_libritts_16k_gr8nq32ds320", "funcodec_en_libritts_16k_gr8nq32ds320", espnet
    ),
    "funcodec, frequencies, grouped": Packaging(
        "funcodec_en_libritts_16k_gr1nq32ds320", "funcodec_en_libritts_16k_gr1nq32ds320", espnet
    ),
    "auv": Packaging("auv", "auv", flat_pickle("auv.pt")),
    "auv with the older weight norm": Packaging("auv", "auv", older_weight_norm),
    "llmcodec": Packaging("llmcodec_abl_k3", "llmcodec", flat_pickle("llm-codec.pt")),
    **{
        name: Packaging(name, name, onnx_graph)
        for name in ("s3tokenizer_v1", "s3tokenizer_v1_25hz", "s3tokenizer_v2_25hz", "s3tokenizer_v3_25hz")
    },
    "s3tokenizer, converted": Packaging("s3tokenizer_v1", "s3tokenizer_v1", flat_pickle("speech_tokenizer_v1.pt")),
    "s3tokenizer in chatterbox": Packaging("s3tokenizer_v2_25hz", "s3tokenizer_v2_25hz", chatterbox),
    "unicodec": Packaging("unicodec", "unicodec_24k", lightning("unicode.ckpt")),
    "sqcodec of three strides": Packaging("sqcodec_16k_0k75bps", "sqcodec_16k_0k75bps", five_files),
    "sqcodec of two strides": Packaging("sqcodec_24k_24kbps", "sqcodec_24k_24kbps", five_files),
    "snac": Packaging("snac", "snac_24khz", with_settings("pytorch_model.bin", of_snac)),
    "snac with attention": Packaging("snac_44khz", "snac_32khz", with_settings("pytorch_model.bin", of_snac)),
    "xcodec2": Packaging("xcodec2", "xcodec2_16k", of_transformers),
}


@pytest.fixture(params=PACKAGINGS)
def packaging(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packaging:
    """A packaging, with a small network under its codec's name, and a cache of its own."""
    row = PACKAGINGS[request.param]
    row.tensors()  # is made from the full network too, and kept
    name = find_variant(row.codec).root
    monkeypatch.setitem(variants(), name, small_variant(name))  # type: ignore[arg-type]
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    weights_module._say_licence.cache_clear()
    return row


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "published").mkdir()
    return tmp_path / "published"


def load(packaging: Packaging, weights: Path | Tensors) -> BaseCodec:
    return load_codec(packaging.codec, weights=weights, device="cpu")


def test_it_holds_what_its_tensors_are(packaging: Packaging, place: Path) -> None:
    tensors, _ = packaging.tensors()
    codec = load(packaging, packaging.write(packaging, tensors, place))
    expected = load(packaging, tensors).state_dict()
    for name, value in codec.state_dict().items():
        assert torch.equal(value, expected[name]), name


def without(tensors: Tensors, key: str) -> tuple[Tensors, str, str]:
    return {name: tensor for name, tensor in tensors.items() if name != key}, "missing", key


def one_more(tensors: Tensors, key: str) -> tuple[Tensors, str, str]:
    more = "encoder.blocks.9.mlp.2.bias" if "encoder.blocks.0.mlp.2.bias" in tensors else f"{key}_more"
    return {**tensors, more: torch.ones(3)}, "unexpected", more


def another_shape(tensors: Tensors, key: str) -> tuple[Tensors, str, str]:
    return {**tensors, key: torch.cat([tensors[key], tensors[key][:1]])}, "of the wrong shape", key


def with_nan(tensors: Tensors, key: str) -> tuple[Tensors, str, str]:
    values = tensors[key].clone()
    values.view(-1)[values.numel() // 2] = torch.nan
    return {**tensors, key: values}, "with NaN or infinity", key


@pytest.mark.parametrize("fault", [without, one_more, another_shape, with_nan])
def test_what_does_not_fit_is_named(packaging: Packaging, fault: Callable, place: Path) -> None:
    tensors, used = packaging.tensors()
    changed, kind, key = fault(tensors, used[2 * len(used) // 3])
    path = packaging.write(packaging, changed, place)
    with pytest.raises(ValueError, match=rf"\d {kind}: .*{as_told(key)}") as caught:
        load(packaging, path)
    assert f"{find_variant(packaging.codec).name}: " in str(caught.value)
    assert path.stem in str(caught.value), "the file"


def as_told(key: str) -> str:
    """An expression of a key, in either spelling of weight norm."""
    old, pattern = {"original0": "weight_g", "original1": "weight_v"}, re.escape(key)
    return re.sub(r"parametrizations\\\.weight\\\.(original\d)", lambda m: f"(?:{m[0]}|{old[m[1]]})", pattern)


def test_a_file_cut_at_its_half_is_named(packaging: Packaging, place: Path) -> None:
    path = packaging.write(packaging, packaging.tensors()[0], place)
    file = max(place.rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0) if path.is_dir() else path
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"{re.escape(file.name)}: not a whole ") as caught:
        load(packaging, path)
    assert str(caught.value).startswith(f"{find_variant(packaging.codec).name}: ")


@pytest.mark.parametrize(
    ("packaging", "setting", "value", "said"),
    [
        ("snac with attention", "attn_window_size", 64, "attn_window_size is 64 there and 32 here"),
        ("snac", "vq_strides", [8, 4, 1], r"vq_strides is \[8, 4, 1\] there and \[4, 2, 1\] here"),
        ("speechtokenizer", "activation", "Snake", "activation is snake there and elu here"),
        ("speechtokenizer, snake", "bidirectional", False, "bidirectional is False there and True here"),
    ],
    indirect=["packaging"],
)
def test_settings_of_another_network_are_refused(
    packaging: Packaging, setting: str, value: Any, said: str, place: Path
) -> None:
    """What these say leaves no trace in the tensors, or one that is hard to read."""
    path = packaging.write(packaging, packaging.tensors()[0], place)
    settings = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**settings, setting: value}))
    with pytest.raises(ValueError, match=f"the checkpoint is of another model: {said}"):
        load(packaging, path)


# -- what must be said of them --------------------------------------------------------------------

CLEAR = {"bigcodec": "MIT", "dac": "MIT", "funcodec": "MIT", "mimi": "CC-BY-4.0", "snac": "MIT"}


def test_licences_are_as_the_authors_state_them(
    packaging: Packaging, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "codeczoo"):
        codec = load(packaging, packaging.write(packaging, packaging.tensors()[0], place))
        load(packaging, packaging.tensors()[0])
    said = [message for message in caplog.messages if "of the weights" in message or "weights of" in message]
    if (licence := CLEAR.get(codec.info.family)) is not None:
        assert (codec.info.weights_licence, said) == (licence, [])
        return
    (once,) = said
    assert codec.info.weights_licence in once
    assert ("non-commercial use only" if codec.info.family == "audiodec" else "is unclear") in once
