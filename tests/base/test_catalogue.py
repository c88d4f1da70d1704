"""Names: globs, aliases, near misses; and what the registry makes of a family's table."""

from __future__ import annotations

import pytest

from codeczoo import codec_info, list_codecs, load_codec
from codeczoo.base.catalogue import parse_family, variants
from codeczoo.registry import find_variant


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


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("opus_24kb", "opus_24k"), ("g711ulaw", "g711_ulaw"), ("vorbis48k", "vorbis_48k"), ("mp3_32", "mp3_32k")],
)
def test_a_near_miss_is_told_what_was_meant(wrong: str, meant: str) -> None:
    for ask in (load_codec, codec_info):
        with pytest.raises(KeyError, match=f"no codec is called '{wrong}': did you mean .*'{meant}'"):
            ask(wrong)


def test_what_is_near_nothing_is_told_where_to_look() -> None:
    with pytest.raises(KeyError, match=r"no codec is called 'zzzzqqqq': list_codecs\(\)"):
        load_codec("zzzzqqqq")


def test_facts_are_known_without_loading() -> None:
    info = codec_info("opus_24k")
    assert (info.family, info.sample_rate, info.channels, info.bitrate) == ("sndfile", 48000, (1, 2), 24000)
    assert (info.frame_rate, info.hop_length, info.codebook_sizes) == (None, None, (256,))
    assert info.parameters == 0 and info.weights == "none needed" and info.supports_decode
    assert info == load_codec("opus_24k", device="cpu").info


def test_a_familys_table_is_shared_facts_and_each_ones_own() -> None:
    table = {
        "family": {"class": "Net", "code_licence": "MIT", "network": {"width": 8, "depth": 2}},
        "variants": {
            "net_16k": {"network": {"depth": 3}, "aliases": ["net"], "weights": {"repo": "a/net", "file": "w.bin"}},
            "net_16k_low": {"inherits": "net_16k", "num_codebooks": 2},
            "other": {"class": "Other"},
        },
    }
    base, low, other = parse_family("net", table)
    assert (base.codec_class, other.codec_class) == ("Net", "Other")
    assert base.network == low.network == {"width": 8, "depth": 3}
    assert other.network == {"width": 8, "depth": 2}
    assert (base.root, low.root, low.num_codebooks, low.aliases) == ("net_16k", "net_16k", 2, ())
    assert base.weights == low.weights and str(base.weights) == "a/net/w.bin"
    assert {v.code_licence for v in (base, low, other)} == {"MIT"}
