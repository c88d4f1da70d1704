"""What a codec does to applications of speech and audio: the steps of the protocol `codec-superb-full`.

Each step has a name, the data and the model that it takes, and, where it cannot be carried out here, the reason. What a
step needs and a run does not have (transcripts, a trial list, weights) is such a reason too: nothing is left out in
silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from codeczoo.base.audio import Audio
from codeczoo.benchmark.results import audio_name
from codeczoo.benchmark.trials import Trial, read_trials
from codeczoo.metrics.networks.models import NoModelError, network, networks, with_room
from codeczoo.metrics.speaker_embedding import speaker_embeddings
from codeczoo.metrics.verification import detection_cost, equal_error_rate, speaker_score

ORIGINAL = "original"  # the folder of saved originals


@dataclass(frozen=True)
class Step:
    """One application.

    Attributes:
        name: as the results call it.
        measure: what is reported.
        data: what it asks of a data set; published numbers are of the one that is named.
        model: by which it judges; `pinned` = its revision or hash.
        kind: how it is carried out: by a metric of the run, by a trial list, or not at all.
        metric: the run's metric.
        absent: why it is not carried out.
    """

    name: str
    measure: str
    data: str
    model: str
    pinned: str | None
    kind: Literal["metric", "trials", "absent"]
    metric: str | None = None
    absent: str | None = None


CODEC_SUPERB = (
    Step(
        "asr",
        "word error rate against the transcripts, of all clips together",
        "clips with transcripts; LibriSpeech test-clean and test-other",
        "openai/whisper-large-v3",
        "06f233fe06e710322aca913c1bc4249a0d71fce1",
        "metric",
        metric="wer",
    ),
    Step(
        "speaker_verification",
        "equal error rate, both sides coded: half the cosine of whole clips, half of five crops each",
        "a trial list (--trials); VoxCeleb1-O, veri_test2.txt",
        "speechbrain/spkrec-ecapa-voxceleb (Codec-SUPERB: another ECAPA-TDNN, whose checkpoint no hub pins)",
        "0f99f2d0ebe89ac095bcc5903c4dd8f72b367286",
        "trials",
    ),
    Step(
        "emotion",
        "accuracy of the emotion that is recognised",
        "RAVDESS",
        "iic/emotion2vec_base_finetuned v2.0.4",
        None,
        "absent",
        absent="emotion2vec is published for FunASR on ModelScope, and there is no implementation of it here",
    ),
    Step(
        "audio_event",
        "zero-shot accuracy of the sound's class",
        "ESC-50",
        "Microsoft CLAP 2023",
        None,
        "absent",
        absent="CLAP 2023 is published for the package msclap, and there is no implementation of it here",
    ),
)


def run_steps(
    steps: Sequence[Step],
    results: Path,
    summary: Mapping[str, Any],
    *,
    trials: str | Path | None,
    speaker_network: str,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Carry out what can be of `steps` on a run that is complete.

    Args:
        results: its folder, with the audio of the clips in the trial list.
        summary: what `summarise` made of it.
        trials: a file for `read_trials`.
        speaker_network: one of `SPEAKER_NETWORKS`.

    Returns:
        For each step its facts, `done`, and `reason` (why it was not) or `codecs`: what was found of each.

    Raises:
        FileNotFoundError, ValueError: a trial list that cannot be read.
    """
    found = []
    for step in steps:
        facts = {key: getattr(step, key) for key in ("name", "measure", "data", "model", "pinned")}
        if step.kind == "absent":
            outcome: dict[str, Any] = {"done": False, "reason": step.absent}
        elif step.kind == "metric":
            outcome = _by_metric(str(step.metric), summary)
        elif trials is None:
            outcome = {"done": False, "reason": "no trial list was given (--trials)"}
        else:
            outcome = _by_trials(read_trials(trials), results, list(summary["codecs"]), speaker_network, device)
        found.append({**facts, **outcome})
    return found


def _by_metric(metric: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    values = {codec: entry["overall"].get(metric) for codec, entry in summary["codecs"].items()}
    there = {codec: value for codec, value in values.items() if value and value["count"]}
    if not there:
        reasons = sorted({reason for value in values.values() if value for reason in value["undefined"]})
        return {"done": False, "reason": f"{metric} was not measured" + (f": {', '.join(reasons)}" if reasons else "")}
    return {
        "done": True,
        "codecs": {
            codec: {
                metric: value.get("corpus", value["mean"]),
                "clips": value["count"],
                "undefined": value["undefined"],
            }
            for codec, value in there.items()
        },
    }


def _by_trials(
    trials: Sequence[Trial], results: Path, codecs: Sequence[str], name: str, device: torch.device
) -> dict[str, Any]:
    try:
        loaded = network(name, device)
    except NoModelError as error:
        return {"done": False, "reason": f"{error.reason}: {error}"}
    used = {"model": networks()[name].name, "pinned": loaded.sha256, "resampler": "hann"}
    ids = sorted({id for trial in trials for id in (trial.enrolled, trial.tested)})
    originals = _embeddings(results / "audio" / ORIGINAL, ids, name, device)
    found: dict[str, dict[str, Any]] = {}
    for codec in codecs:
        coded = _embeddings(results / "audio" / codec, ids, name, device)
        left_out = Counter(_missing(trial, originals, coded) for trial in trials)
        kept = [trial for trial in trials if _missing(trial, originals, coded) is None]
        left_out.pop(None, None)
        labels = [trial.target for trial in kept]
        if len(set(labels)) < 2:
            found[codec] = {"eer": None, "left_out": _by_reason(left_out), "reason": "no trials of both kinds are left"}
            continue
        own, other = (_scores(kept, side) for side in (coded, originals))
        rate = equal_error_rate(own, labels)
        found[codec] = {
            "eer": rate.rate,
            "original": equal_error_rate(other, labels).rate,  # on the same trials
            "min_dcf": detection_cost(own, labels),
            "targets": rate.targets,
            "others": rate.others,
            "left_out": _by_reason(left_out),
        }
    if all(entry["eer"] is None for entry in found.values()):
        return {**used, "done": False, "reason": "no clip of the trial list has saved audio", "codecs": found}
    return {**used, "done": True, "codecs": found}


def _by_reason(left_out: Mapping[str | None, int]) -> dict[str, int]:
    return {str(reason): count for reason, count in sorted(left_out.items(), key=str)}


def _embeddings(folder: Path, ids: Sequence[str], name: str, device: torch.device) -> dict[str, Tensor | str]:
    """Of each clip its embeddings, or why it has none."""
    found: dict[str, Tensor | str] = {}
    for id in ids:
        path = folder / audio_name(id)
        if not path.is_file():
            found[id] = "no saved audio"
            continue
        one = with_room(partial(speaker_embeddings, Audio.load(path), name, device))
        found[id] = "no voice is heard" if one is None else one
    return found


def _missing(trial: Trial, *sides: Mapping[str, Tensor | str]) -> str | None:
    """Why a trial cannot be scored."""
    for side in sides:
        for id in (trial.enrolled, trial.tested):
            if isinstance(reason := side[id], str):
                return reason
    return None


def _scores(trials: Sequence[Trial], side: Mapping[str, Tensor | str]) -> list[float]:
    pairs = ((side[trial.enrolled], side[trial.tested]) for trial in trials)
    return [speaker_score(one, other) for one, other in pairs if isinstance(one, Tensor) and isinstance(other, Tensor)]
