"""In which order things are looked at: what is most wanted first, because a GPU is lent for minutes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from codeczoo.base.catalogue import find_variant
from perf.gpu_check.promises import NAMES, PROMISES
from tests.support.golden import GOLDEN

SECTIONS = ("hours", *PROMISES, "precision", "shapes", "drift")  # of each codec
OF_THE_SYSTEM = ("metric", "pipeline")
EVERYTHING = (*SECTIONS, *OF_THE_SYSTEM)

FIRST = ("mimi", "dac_44k", "encodec_24k", "wavtokenizer_40", "snac_24khz", "audiodec_24k", "encodec_48k")
HOURS = ("mimi",)
DRIFT = FIRST[:5]
# Not seen on a GPU in the runs of docs/measurements/gpu.md, one network of each kind.
UNSEEN = (
    *("sqcodec_16k_3kbps", "unicodec_24k", "s3tokenizer_v3_25hz", "xcodec2_16k", "wavtokenizer_75"),
    *("nanocodec_1k78bps_12hz", "focalcodec_50hz", "focalcodec_50hz_4k_causal", "qwen3_tts_tokenizer_12hz"),
    *("moss_audio_tokenizer_nano", "xy_tokenizer_16k", "bicodec", "dualcodec_12hz_v1", "neucodec_24k"),
    *("higgs_audio_v2_24k", "xcodec_hubert_16k"),
)
ALONE = {"hours": HOURS, "drift": DRIFT}  # sections that only these codecs have, unless codecs are asked for by name


class Step(NamedTuple):
    """What is looked at without a pause. `codec`: a golden folder; None: the section is not of a codec."""

    codec: str | None
    sections: tuple[str, ...]


def folders() -> list[str]:
    """Golden cases of codecs; separators and networks of metrics have cases too."""
    cases = [path.parent.name for path in sorted(GOLDEN.glob("*/public.safetensors"))]
    found = [name for name in cases if _is_codec(NAMES.get(name, name))]
    wanted = [*FIRST, *UNSEEN]
    return [*wanted, *(name for name in found if name not in wanted)]


def _is_codec(name: str) -> bool:
    try:
        return bool(find_variant(name))
    except KeyError:
        return False


def steps(codecs: Sequence[str] | None, sections: Sequence[str]) -> Iterator[Step]:
    """All that is wanted, each once."""
    done: set[tuple[str | None, str]] = set()
    rounds = [
        Step("first", ("golden", "hours", "precision", "shapes", "drift")),
        Step("unseen", ("golden", "ragged", "passes", "stream", "graph", "precision", "shapes")),
        Step(None, OF_THE_SYSTEM),
        Step("all", SECTIONS),
    ]
    groups = {"first": FIRST, "unseen": UNSEEN, "all": tuple(folders())}
    for group, own in rounds:
        names = (None,) if group is None else [name for name in groups[group] if codecs is None or name in codecs]
        for name in names:
            new = tuple(
                section
                for section in own
                if section in sections
                and (name, section) not in done
                and (codecs is not None or name is None or name in ALONE.get(section, (name,)))
            )
            done.update((name, section) for section in new)
            if new:
                yield Step(name, new)
