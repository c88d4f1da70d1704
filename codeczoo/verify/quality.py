"""How the embedded speech comes back, against a floor. Weights that were put into the wrong places give noise, which
falls far below; how good a codec is, the benchmark says."""

from __future__ import annotations

from collections.abc import Iterator

from codeczoo import metrics
from codeczoo.base.audio import Audio
from codeczoo.base.codec import BaseCodec
from codeczoo.data.embedded import embedded_clips
from codeczoo.verify import superb
from codeczoo.verify.checks import Check
from codeczoo.verify.promises import SPEECH

OF_PUBLISHED = 0.75  # the least share of the published STOI (of other speech) that is asked for
USUAL_STOI = 0.5  # where none is published


def quality(codec: BaseCodec) -> Iterator[Check]:
    """The mean STOI of three sentences."""
    if not codec.supports_decode:
        yield Check.skipped("quality", str(codec.variant.decode_unsupported_reason))
        return
    paths = {path.stem: path for path in embedded_clips()}
    scores = []
    for name in SPEECH:
        audio = Audio.load(paths[name])
        scores.append(metrics.evaluate(audio, codec.reconstruct(audio), metrics=["stoi"], device="cpu").mean()["stoi"])
    found = sum(scores) / len(scores)
    table = superb.published(codec)
    published = table["Speech"]["stoi"] if table and "Speech" in table else None
    floor = USUAL_STOI if published is None else OF_PUBLISHED * published
    told = f"{floor:.2f} or more" + (
        " (no published number)" if published is None else f", of {published:.2f} in Codec-SUPERB's table"
    )
    yield Check.of("STOI of the embedded speech", found >= floor, f"{found:.3f}", told)
