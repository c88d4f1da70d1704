"""Codecs on the same clips: Pareto fronts, anchors, paired differences, and speakers."""

from __future__ import annotations

import csv
import io
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wilcoxon

from codeczoo.cli import main
from codeczoo.report.clip_values import read_clip_values
from codeczoo.report.comparisons import Paired, paired_differences, wilcoxon_p, with_holm
from codeczoo.report.curves import codec_curves, find_anchor, pareto_front, pareto_fronts
from codeczoo.report.labels import HEIGHT, MARK, WIDTH, Labels
from codeczoo.report.results import read_report


def test_a_pareto_front_has_what_nothing_beats() -> None:
    points = [("cheap", 1.0, 1.0), ("good", 3.0, 3.0), ("dear", 4.0, 3.0), ("bad", 3.0, 2.0), ("middle", 2.0, 2.5)]
    assert pareto_front(points, "higher") == {"cheap", "middle", "good"}
    assert pareto_front([(name, rate, -score) for name, rate, score in points], "lower") == {"cheap", "middle", "good"}
    assert pareto_front([("a", 1.0, 1.0), ("b", 1.0, 1.0), ("c", 1.0, 0.5)], "higher") == {"a", "b"}
    assert pareto_front(points[:1], "higher") == set()
    assert pareto_front(points, "") == set()


def test_random_weights_are_on_no_front_and_have_facts_of_their_codes(neural: Path) -> None:
    report = read_report([neural])
    codec = next(codec for codec in report.codecs if codec.random_weights)
    assert codec.overall.bitrate == min(c.overall.bitrate or 0 for c in report.codecs)
    assert all(codec.label not in front for front in pareto_fronts(report).values())
    assert 0 < (codec.codebook_use or 0) <= 1 and codec.entropy_bitrate
    assert codec.speed.encode and codec.speed.decode
    assert all(c.codebook_use is None for c in report.codecs if c.name.startswith("opus"))  # bytes are no codes


def test_the_anchor_is_classical_or_the_one_that_was_named(results: Path, neural: Path) -> None:
    curves = codec_curves(read_report([results]))
    assert {curve.name: len(curve.codecs) for curve in curves} == {"opus": 2, "mp3_32k": 1, "g711_alaw": 1}
    assert find_anchor(curves, None) is find_anchor(curves, "opus_24k") is find_anchor(curves, "opus")
    with pytest.raises(ValueError, match="mp3_32k has one bitrate"):
        find_anchor(curves, "mp3_32k")
    with pytest.raises(ValueError, match=r"no codec 'nosuch' .* there are: opus"):
        find_anchor(curves, "nosuch")


def test_paired_differences_are_those_of_common_clips(results: Path) -> None:
    report = read_report([results])
    found = paired_differences(report, read_clip_values(report))
    rows = [json.loads(line) for line in (results / "clips.jsonl").read_text().splitlines()]
    values = {
        (row["codec"], row["id"]): row["metrics"]["si_sdr"] for row in rows if row["metrics"]["si_sdr"] is not None
    }
    ids = {id for _, id in values}
    assert len(found["si_sdr"]) == 6 and len(ids) == 3  # silence has none
    for (first, second), paired in found["si_sdr"].items():
        expected = [values[(first, id)] - values[(second, id)] for id in ids]
        assert paired.mean == pytest.approx(np.mean(expected)) and paired.clips == 3
        ends = [min(expected), paired.low, paired.mean, paired.high, max(expected)]
        assert all(a <= b + 1e-9 for a, b in pairwise(ends))
        assert paired.p is None  # of three clips none can be small
        assert paired.reversed().mean == -paired.mean and paired.reversed().low == -paired.high  # type: ignore[operator]


def test_p_is_scipys_and_exact_where_it_can_be() -> None:
    random = np.random.default_rng(0)
    table = random.normal(0.3, 1, (12, 4))
    table[:2, 1] = 0.5, -0.5  # a tie
    table[:, 2] = 0
    p = wilcoxon_p(table)
    assert p[0] == pytest.approx(wilcoxon(table[:, 0], method="exact").pvalue)
    assert p[1] == pytest.approx(wilcoxon(table[:, 1], method="asymptotic").pvalue)
    assert p[2] == 1.0
    assert wilcoxon_p(np.abs(random.normal(size=(6, 1)))) == [pytest.approx(2 / 2**6)]
    assert wilcoxon_p(table[:5]) == [None] * 4


def test_holms_correction_by_hand() -> None:
    pairs = [Paired(0.0, None, None, None, None, p, 9, None) for p in (0.04, 0.01, None, 0.03, 0.5)]
    assert [pair.p for pair in with_holm(pairs)] == [
        pytest.approx(v) if v else None for v in (0.09, 0.04, None, 0.09, 0.5)
    ]


def test_speakers_of_a_manifest_have_intervals_of_their_own(neural: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = json.loads((neural / "summary.json").read_text())
    value = summary["codecs"]["opus_12k"]["overall"]["mel"]
    rows = [json.loads(line) for line in (neural / "clips.jsonl").read_text().splitlines()]
    means = {}
    for row in rows:
        if row["codec"] == "opus_12k":
            means.setdefault(row["speaker"], []).append(row["metrics"]["mel"])
    assert value["speakers"] == len(means) == 3
    low, high = value["ci95_speakers"]
    ends = sorted(np.mean(speaker) for speaker in means.values())
    assert ends[0] == pytest.approx(low, rel=1e-5) and ends[-1] == pytest.approx(high, rel=1e-5)  # three of one speaker

    assert main(["report", str(neural), "--format", "csv"]) == 0
    row = next(row for row in csv.DictReader(io.StringIO(capsys.readouterr().out)) if row["codec"] == "opus_12k")
    assert (row["mel_speakers"], float(row["mel_ci95_speakers_low"])) == ("3", low)
    assert main(["report", str(neural), "--format", "pairs"]) == 0
    for row in csv.DictReader(io.StringIO(capsys.readouterr().out)):
        assert row["speakers"] == "3" and float(row["speaker_low"]) <= float(row["mean"]) <= float(row["speaker_high"])
        assert row["p"] == ""  # of three speakers none can be small, though there are six clips


def test_runs_without_speakers_say_nothing_of_them(results: Path) -> None:
    assert "speaker" not in (results / "summary.json").read_text() + (results / "clips.jsonl").read_text()


def test_bd_rates_as_csv(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(results), "--format", "bd-rate"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {(row["anchor"], row["codec"]) for row in rows} == {("opus", "mp3_32k"), ("opus", "g711_alaw")}
    assert len(rows) == 2 * 3 and all(bool(row["percent"]) or row["reason"] for row in rows)


def test_labels_lie_on_nothing() -> None:
    random = np.random.default_rng(0)
    points = [(float(x), float(y)) for x, y in random.uniform(0.1, 0.9, (12, 2))]
    labels = Labels(points)
    placed = [labels.place(x, y, "opus_24k") for x, y in points]
    assert sum(place is not None for place in placed) >= 8
    boxes = labels._taken
    for i, (left, bottom, right, top) in enumerate(boxes[len(points) :], len(points)):
        assert left >= 0 and right <= WIDTH and bottom >= 0 and top <= HEIGHT
        assert not any(
            left < b[2] and b[0] < right and bottom < b[3] and b[1] < top for k, b in enumerate(boxes) if k != i
        )
    crowd = Labels([(0.5, 0.5)] * 40 + [(0.5 + MARK / WIDTH * i, 0.5) for i in range(-9, 9)])
    assert [crowd.place(0.5, 0.5, "opus_24k") for _ in range(9)].count(None) >= 1
