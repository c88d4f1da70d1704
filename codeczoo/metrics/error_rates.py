"""Error rates of recognised speech: `wer` and `cer` against what is said, `dwer` and `dcer` against what is recognised
in the original."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from codeczoo.base.device import matmul_precision
from codeczoo.metrics.judged import Memory, Rows, no_model
from codeczoo.metrics.networks.models import NoModelError
from codeczoo.metrics.networks.recogniser import Recogniser
from codeczoo.metrics.networks.transcriber import Transcriber, Written, transcriber
from codeczoo.metrics.pair import Pair, Result

COUNTS = ("hits", "substitutions", "deletions", "insertions")
ERROR_RATES = ("wer", "cer", "dwer", "dcer")
NO_TRANSCRIPT = "no_transcript"

_memory = Memory()


def wer(
    reference: Tensor,
    estimate: Tensor,
    sample_rate: int,
    lengths: Tensor | None = None,
    *,
    transcripts: Sequence[str | None] | None = None,
    recogniser: Recogniser | None = None,
) -> Result:
    """Word error rate of what is recognised in the estimate, against what is said; 0 is best, and it may exceed 1.

    Args:
        reference, estimate: [B, C, T]; channels are mixed to one.
        sample_rate: in Hz; resampled to 16 kHz with the `hann` filter.
        lengths: [B].
        transcripts: [B] texts, what is said in each clip; None among them where that is not known.
        recogniser: which network, language and normaliser; None = `Recogniser()`, Whisper large v3 in English.

    Substitutions, deletions and insertions over the words of the transcript, after the normaliser; counted by jiwer,
    and kept in `Result.details` with what was recognised. The rate of a set is the sum of errors over the sum of words
    (`Summary.corpus`); the mean over clips is another number, which papers report too. Digital silence is not
    recognised: nothing is said in it. Whisper may write words where there are none. The weights (3 GB of Whisper large
    v3) are downloaded once. Undefined: `no_model`, `no_transcript` (of the clip), `empty_reference` (its transcript
    holds no word; insertions count in the set's rate), `too_short`, `too_long` (over 30 s, and the network has no
    timestamps).
    """
    pair = Pair.of(reference, estimate, sample_rate, lengths)
    return error_rates(pair.told(transcripts, recogniser), ["wer"])["wer"]


def cer(
    reference: Tensor,
    estimate: Tensor,
    sample_rate: int,
    lengths: Tensor | None = None,
    *,
    transcripts: Sequence[str | None] | None = None,
    recogniser: Recogniser | None = None,
) -> Result:
    """Character error rate of what is recognised in the estimate, against what is said; 0 is best.

    Arguments and undefined cases as `wer`. Spaces are characters, as in jiwer.
    """
    pair = Pair.of(reference, estimate, sample_rate, lengths)
    return error_rates(pair.told(transcripts, recogniser), ["cer"])["cer"]


def dwer(
    reference: Tensor,
    estimate: Tensor,
    sample_rate: int,
    lengths: Tensor | None = None,
    *,
    recogniser: Recogniser | None = None,
) -> Result:
    """Word error rate of what is recognised in the estimate, against that in the original; 0 is best.

    Needs no transcripts. Arguments and undefined cases as `wer`; `empty_reference` where no word is recognised in the
    original.
    """
    pair = Pair.of(reference, estimate, sample_rate, lengths)
    return error_rates(pair.told(None, recogniser), ["dwer"])["dwer"]


def dcer(
    reference: Tensor,
    estimate: Tensor,
    sample_rate: int,
    lengths: Tensor | None = None,
    *,
    recogniser: Recogniser | None = None,
) -> Result:
    """Character error rate of what is recognised in the estimate, against that in the original; 0 is best.

    Arguments and undefined cases as `dwer`. Spaces are characters, as in jiwer.
    """
    pair = Pair.of(reference, estimate, sample_rate, lengths)
    return error_rates(pair.told(None, recogniser), ["dcer"])["dcer"]


def error_rates(pair: Pair, names: Collection[str]) -> dict[str, Result]:
    """Those of `names` that are error rates; each clip is recognised once for all of them, if any needs it."""
    wanted = [name for name in ERROR_RATES if name in names]
    against_original = any(name.startswith("d") for name in wanted)
    said: Sequence[str | None] = pair.transcripts or [None] * len(pair)
    told: list[Written] = [(text, None if text is not None else NO_TRANSCRIPT) for text in said]
    needed = [against_original or text is not None for text in said]
    if not any(needed):
        return {name: Result.of((None, reason or NO_TRANSCRIPT) for reason in pair.reasons) for name in wanted}
    try:
        with matmul_precision("exact"):  # the caller's autocast is not for networks that judge
            loaded = transcriber(pair.recogniser or Recogniser(), pair.reference.device)
            estimates = _written(pair, "estimate", loaded, needed)
            originals = _written(pair, "reference", loaded, needed) if against_original else told
    except NoModelError as error:
        return no_model(pair, wanted, error)
    return {
        name: _rates(name, loaded, pair.reasons, originals if name.startswith("d") else told, estimates)
        for name in wanted
    }


def corpus_rate(details: Iterable[Mapping[str, Any] | None]) -> float | None:
    """The errors of all clips over the words (or characters) of all; None without any, or of other metrics."""
    counts = [item for item in details if item is not None and all(name in item for name in COUNTS)]
    errors, units = (sum(pair) for pair in zip(*map(errors_and_units, counts), strict=True)) if counts else (0, 0)
    return errors / units if units else None


def errors_and_units(item: Mapping[str, Any]) -> tuple[int, int]:
    """Errors, and words (or characters) of the reference, of one clip's `COUNTS`."""
    hits, substitutions, deletions, insertions = (item[name] for name in COUNTS)
    return substitutions + deletions + insertions, hits + substitutions + deletions


def edit_counts(reference: str, hypothesis: str, *, characters: bool = False) -> dict[str, int]:
    """`COUNTS` of the least edits from one text to the other, in words or in characters."""
    if not reference:  # jiwer calls it one word, and an error
        units = len(hypothesis) if characters else len(hypothesis.split())
        return dict(zip(COUNTS, (0, 0, 0, units), strict=True))
    import jiwer

    found = (jiwer.process_characters if characters else jiwer.process_words)(reference, hypothesis)
    return {name: int(getattr(found, name)) for name in COUNTS}


def _written(pair: Pair, side: str, loaded: Transcriber, needed: Sequence[bool]) -> list[Written]:
    """What is said in each item of one side. That of originals, which come again with every codec, is remembered.

    Args:
        needed: whether any metric wants to know it of the item; of others it is not asked.
    """
    rows = Rows(pair, side, shortest=1, mono=True)
    silent = f"silent_{side}"
    written: list[Written] = [
        ("", None) if reason == silent else (None, reason or NO_TRANSCRIPT) for reason in rows.reasons
    ]
    rows.keep(needed)
    identity = " ".join(str(loaded.facts.get(name)) for name in ("model", "revision", "commit", "sha256", "language"))
    values = rows.values(loaded, _memory if side == "reference" else None, identity)
    for i, value in zip(rows.index, values, strict=True):
        written[i] = (value[0], value[1])
    return written


def _rates(
    name: str, loaded: Transcriber, reasons: Sequence[str | None], told: Sequence[Written], heard: Sequence[Written]
) -> Result:
    """One error rate of what was `heard`, against what was `told`."""
    found: list[tuple[float | None, str | None]] = []
    details: list[Mapping[str, Any] | None] = []
    for own, (reference, unknown), (hypothesis, unheard) in zip(reasons, told, heard, strict=True):
        if (reason := own or unheard or unknown) or reference is None or hypothesis is None:
            found.append((None, reason))
            details.append(None)
            continue
        sides = loaded.normalise(reference), loaded.normalise(hypothesis)
        counts = edit_counts(*sides, characters=name.endswith("cer"))
        errors, units = errors_and_units(counts)
        found.append((errors / units, None) if units else (None, "empty_reference"))
        details.append({**counts, "reference": sides[0], "recognised": sides[1]})
    result = Result.of(found)
    return Result(result.values, result.reasons, details)
