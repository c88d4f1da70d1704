"""Names: globs, aliases, near misses; and what the registry makes of a family's table."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
import torch

from codeczoo import codec_info, list_codecs, load_codec
from codeczoo.base.catalogue import find_variant, parse_family, variants
from codeczoo.base.codec_toml import markdown
from codeczoo.base.info import FACTS, facts_of, known_facts, write_facts
from codeczoo.separation.registry import separators


def test_globs_list_names_in_order() -> None:
    assert list_codecs("g711_*") == ["g711_alaw", "g711_ulaw"]
    assert list_codecs("G711_?LAW") == ["g711_alaw", "g711_ulaw"]
    assert set(list_codecs("opus_*")) >= {"opus_6k", "opus_12k", "opus_24k", "opus_64k"}
    assert {"mp3_32k", "vorbis_48k"} <= set(list_codecs())
    assert list_codecs() == sorted(variants())
    assert list_codecs("nothing*") == []


@pytest.mark.parametrize("alias", ["mulaw", "ULAW", "pcmu", "G711_uLaw", "g711_mulaw"])
def test_aliases_in_any_case_are_the_codec(alias: str) -> None:
    codec = load_codec(alias, device="cpu")
    assert codec.name == "g711_ulaw" == codec_info(alias).name


def test_every_alias_leads_to_its_own_codec() -> None:
    for name, variant in variants().items():
        assert all(find_variant(alias.upper()).name == name for alias in (name, *variant.aliases))
        for copy in variant.copies:
            place = copy.repo or copy.url
            assert place and find_variant(place.upper()).name == name
            assert find_variant(place.upper()).weights == copy != variant.weights
            assert codec_info(place).weights == str(copy)
            assert copy.repo is None or copy.repo in codec_info(name).aliases


# Names that other projects give the same weights: converted copies on the hub, codec.cpp's architectures, file stems.
OTHERS_NAMES = {
    "mlx-community/snac_24khz": "snac_24khz",
    "onnx-community/snac_24khz-ONNX": "snac_24khz",
    "mlx-community/encodec-24khz-float32": "encodec_24k",
    "mlx-community/encodec-48khz-float32": "encodec_48k",
    "mlx-community/descript-audio-codec-44khz": "dac_44k",
    "mlx-community/S3TokenizerV2": "s3tokenizer_v2_25hz",
    "mlx-community/S3TokenizerV3": "s3tokenizer_v3_25hz",
    "mlx-community/MOSS-Audio-Tokenizer-Nano": "moss_audio_tokenizer_nano",
    "mlx-community/higgs-audio-v2-tokenizer": "higgs_audio_v2",
    "kyutai/moshiko-pytorch-bf16": "mimi",
    "chatterbox_s3t": "s3tokenizer_v2_25hz",
    "moss_audio": "moss_audio_tokenizer_24k",
    "nemo_nano_codec": "nanocodec_0k6bps_12hz",
    "distill_neucodec": "distill_neucodec_24k",
    "qwen3_tts_tokenizer": "qwen3_tts_tokenizer_12hz",
    "xy_tokenizer": "xy_tokenizer_16k",
    "xcodec2": "xcodec2_16k",
    "wavtokenizer_large_speech_320_v2": "wavtokenizer_large_speech_75",
    "SparkAudio/Spark-TTS-0.5B": "bicodec",
    "Alethia/BigCodec": "bigcodec_1k",
}


@pytest.mark.parametrize(("theirs", "ours"), OTHERS_NAMES.items())
def test_names_of_other_projects_lead_to_the_codec(theirs: str, ours: str) -> None:
    assert find_variant(theirs).name == ours


def test_what_is_pinned_is_pinned_in_full() -> None:
    """A revision is a whole commit, a sha256 whole or eight digits of a file's name; no file has a size beside it."""
    pinned = 0
    for variant in (*variants().values(), *separators().values()):
        for source in (variant.weights, *variant.copies):
            for file in () if source is None else (vars(source), *source.more):
                assert re.fullmatch("[0-9a-f]{40}", file.get("revision") or "0" * 40), variant.name
                sha256 = file.get("sha256") or "0" * 8
                assert re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}", sha256), variant.name
                assert not (file.get("size") and file.get("sha256")), variant.name
                pinned += len(sha256) == 64
    assert pinned > 35


def test_a_second_name_is_kept_and_its_codes_decode_under_every_name_of_the_weights() -> None:
    names = find_variant("encodec_24k").same_weights
    assert len(names) == 11 and "encodec_24k_6kbps" in names
    for name in names:
        variant = find_variant(name.upper())
        assert (variant.name, variant.root) == (name, "encodec_24k")
        assert set(variant.also) == {*names} - {name}
    low = load_codec("encodec_24k_1_5kbps", "random", device="cpu")
    assert (low.name, low.info.name, low.num_codebooks, low.info.bitrate) == (*["encodec_24k_1_5kbps"] * 2, 2, 1500)
    codes = low.encode(torch.zeros(1, 2400), 24000)
    assert codes.codec == "encodec_24k_1_5kbps" and codes.num_codebooks == 2
    for name in ("encodec_24k", "encodec_24k_1_5bps", "encodec_24k_24kbps"):
        other = load_codec(name, "random", device="cpu")
        assert torch.equal(other.decode(codes).waveform, low.decode(codes).waveform)
    with pytest.raises(ValueError, match="made by encodec_24k_1_5kbps; encodec_48k cannot decode"):
        load_codec("encodec_48k", "random", device="cpu").decode(codes)


def test_names_that_were_canonical_once_are_taken_and_kept() -> None:
    old = ("speech_tokenizer_16k", "wavtokenizer_24k_large_600_4096", "audiodec_24k_320d", "encodec_24k_6bps")
    new = ("speechtokenizer_16k", "wavtokenizer_large_40", "audiodec_24k", "encodec_24k")
    assert [codec_info(name).name for name in old] == list(old)
    assert [find_variant(name).root for name in old] == list(new)
    assert set(new) <= set(list_codecs()) and not {*old} & {*list_codecs()}
    assert list_codecs("wavtokenizer_24k_*large*") == ["wavtokenizer_large_40", "wavtokenizer_large_speech_75"]


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("opus_24kb", "opus_24k"), ("g711ulaw", "g711_ulaw"), ("vorbis48k", "vorbis_48k"), ("mp3_32", "mp3_32k")],
)
def test_a_near_miss_is_told_what_was_meant(wrong: str, meant: str) -> None:
    for ask in (load_codec, codec_info):
        with pytest.raises(KeyError, match=f"no codec is called '{wrong}': did you mean .*'{meant}'"):
            ask(wrong)


def test_what_is_near_nothing_is_told_where_to_look() -> None:
    with pytest.raises(KeyError, match=r"no codec is called 'zzzzqqqq'; `codeczoo list` \(or list_codecs\(\)\) shows"):
        load_codec("zzzzqqqq")


def test_facts_are_known_without_loading() -> None:
    info = codec_info("opus_24k")
    assert (info.family, info.sample_rate, info.channels, info.bitrate) == ("sndfile", 48000, (1, 2), 24000)
    assert (info.frame_rate, info.hop_length, info.codebook_sizes) == (None, None, (256,))
    assert info.parameters == 0 and info.weights == "none needed" and info.supports_decode
    assert info == load_codec("opus_24k", device="cpu").info


def test_the_facts_beside_the_tables_are_those_of_the_networks() -> None:
    own = [variant for variant in variants().values() if variant.defined_in.startswith("configs/")]
    with torch.device("meta"):
        facts = facts_of(own)
        built = {name: find_variant(name).build().info for variant in own for name in variant.same_weights}
    kept = (resources.files("codeczoo") / "configs" / FACTS).read_text("utf-8")
    assert kept == write_facts(facts), "run: python scripts/update_readme.py"
    assert {name: known_facts(find_variant(name)) for name in built} == built


def test_facts_of_another_network_do_not_count() -> None:
    variant = find_variant("mimi")
    assert known_facts(variant) is not None
    assert known_facts(replace(variant, network={**variant.network, "dim": 256})) is None


def test_info_prints_as_a_table_also_in_a_notebook() -> None:
    info = codec_info("encodec_24k")
    lines = str(info).splitlines()
    assert lines == repr(info).splitlines() and max(map(len, lines)) <= 80
    assert lines[0].split() == ["name", "encodec_24k"]
    assert "bitrates         1500, 3000, 6000, 12000, 24000 bit/s" in lines
    page = info._repr_html_()
    assert page.startswith("<table>") and page.count("<tr>") == 22
    assert ">codebook sizes</th>" in page and ">32 x 1024</td>" in page


def test_a_familys_table_is_shared_facts_and_each_ones_own() -> None:
    table = {
        "family": {"class": "Net", "code_licence": "MIT", "network": {"width": 8, "depth": 2}},
        "variants": {
            "net_16k": {
                "network": {"depth": 3},
                "aliases": ["net"],
                "weights": {"repo": "a/net", "file": "w.bin"},
                "copies": [{"repo": "b/net-hf", "file": "model.safetensors", "revision": "1"}],
                "second_names": {"net_16k_low": {"num_codebooks": 2}},
            },
            "other": {"class": "theirs.nets:Other"},
        },
    }
    base, other = parse_family("net", table, "net.toml", module="ours.net")
    low = base.under("net_16k_low")
    assert (base.codec_class, other.codec_class) == ("ours.net:Net", "theirs.nets:Other")
    assert base.network == low.network == {"width": 8, "depth": 3}
    assert other.network == {"width": 8, "depth": 2}
    assert (base.root, low.root, low.name, low.num_codebooks) == ("net_16k", "net_16k", "net_16k_low", 2)
    assert base.weights == low.weights and str(base.weights) == "a/net/w.bin"
    copy = base.under("b/net-hf")
    assert (copy.name, copy.root, str(copy.weights)) == ("net_16k", "net_16k", "b/net-hf@1/model.safetensors")
    assert {v.code_licence for v in (base, low, other)} == {"MIT"}
    assert {v.family for v in parse_family("net", {**table, "family": {"class": "Net", "name": "named"}})} == {"named"}


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[familie]", "tiny.toml: 'familie' is no key; did you mean 'family'?"),
        ("[family]\nclass = 'A'", "tiny.toml: there is no table [variants.NAME]"),
        ("[variants.a]", "tiny.toml: [variants.a]: class is missing, and [family] has none"),
        ("[family]\nclas = 'A'", "tiny.toml: [family]: 'clas' is no key; did you mean 'class'?"),
        ("[family]\npaper = 7", "tiny.toml: [family]: paper must be a string; it is 7 (int)"),
        (
            "[variants.a]\nclass = 'A'\nwieghts = { repo = 'x' }",
            "tiny.toml: [variants.a]: 'wieghts' is no key; did you mean 'weights'?",
        ),
        (
            "[variants.a]\nclass = 'A'\naliases = 'x'",
            "tiny.toml: [variants.a]: aliases must be a list of strings; it is 'x' (str)",
        ),
        (
            "[variants.a]\nclass = 'A'\nnum_codebooks = true",
            "tiny.toml: [variants.a]: num_codebooks must be a whole number, 1 or more; it is True (bool)",
        ),
        (
            "[variants.a]\nclass = 'A'\nweights = { repo = 'x', sha265 = '0' }",
            "tiny.toml: [variants.a]: weights: 'sha265' is no key; did you mean 'sha256'?",
        ),
        (
            "[variants.a]\nclass = 'A'\nweights = { repo = 'x' }",
            "tiny.toml: [variants.a]: weights needs repo and file, package and file, or url",
        ),
        (
            "[variants.a]\nclass = 'A'\nweights = { url = 'x', more = [{ zzz = 'x' }] }",
            "tiny.toml: [variants.a]: weights.more[0]: 'zzz' is no key; the keys are repo, revision, file",
        ),
        (
            "[variants.a]\nclass = 'A'\nsecond_names = { b = { codebooks = 2 } }",
            "tiny.toml: [variants.a]: second_names.b: 'codebooks' is no key; did you mean 'num_codebooks'?",
        ),
        (
            "[variants.a]\nclass = 'A'\ncopies = [{ repo = 'x' }]",
            "tiny.toml: [variants.a]: copies[0] needs repo and file, or url",
        ),
        (
            "[variants.a]\nclass = 'A'\ncopies = [{ member = 'x' }]",
            "tiny.toml: [variants.a]: copies[0]: 'member' is no key; the keys are repo, revision, file, url",
        ),
        (
            "[variants.a]\nclass = 'A'\nweights = { url = 'x', mirrors = [{ url = 'y' }] }",
            "tiny.toml: [variants.a]: weights.mirrors: another host may hold another file: the whole sha256 is needed",
        ),
        (
            f"[variants.a]\nclass = 'A'\nweights = {{ url = '', sha256 = '{'0' * 64}', mirrors = [{{ repo = '' }}] }}",
            "tiny.toml: [variants.a]: weights.mirrors[0] needs repo and file, or url",
        ),
        ("[variants]\na = 3", "tiny.toml: [variants.a] must be a table; it is 3 (int)"),
    ],
)
def test_a_wrong_key_is_named_with_its_place_and_the_nearest(toml: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_family("tiny", tomllib.loads(toml), "tiny.toml")


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"hop": 4}, "network.hop is no number of G711.Config; the keys are law"),
        ({}, "network.law is missing; G711.Config has no default for it"),
        ({"law": "x"}, "network.law must be Literal['mu', 'a'] by G711.Config; it is 'x' (str)"),
    ],
)
def test_a_wrong_number_of_a_network_is_named(network: dict[str, object], said: str) -> None:
    variant = replace(find_variant("g711_ulaw"), network=network)
    with pytest.raises(ValueError, match=re.escape(f"configs/g711.toml: g711_ulaw: {said}")):
        variant.build()


@pytest.mark.parametrize(
    ("number", "value", "said"),
    [
        ("filters", "64", "must be int by Mimi.Config; it is '64' (str)"),
        ("filters", True, "must be int by Mimi.Config; it is True (bool)"),
        ("strides", [4, 5.5], "must be Sequence[int] by Mimi.Config; it is [4, 5.5] (list)"),
        ("rotary_base", None, "must be float by Mimi.Config; it is None (NoneType)"),
        ("filtres", 64, "is no number of Mimi.Config; did you mean 'filters'?"),
    ],
)
def test_a_number_of_another_type_is_named(number: str, value: object, said: str) -> None:
    variant = find_variant("mimi")
    with pytest.raises(ValueError, match=re.escape(f"configs/mimi.toml: mimi: network.{number} {said}")):
        replace(variant, network={**variant.network, number: value}).build()


def test_the_page_of_keys_is_the_generated_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "codec_toml.md").read_text("utf-8")
    table = re.search(r"<!-- keys: .*? -->\n(.*?)\n<!-- /keys -->", page, flags=re.DOTALL)
    assert table is not None and table.group(1) == markdown(), "run: python scripts/update_readme.py"
