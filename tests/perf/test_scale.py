"""The plan's arithmetic and the simulation's laws: docs/scale.md stands on both."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from perf.scale.__main__ import main
from perf.scale.plan import Work, plan
from perf.scale.rates import Rates, read_rates

simpy = pytest.importorskip("simpy")

from perf.scale.simulate import Cluster, Outcome, simulate  # noqa: E402 (after the question whether simpy is there)

RATES = Rates(
    gpu={"mimi": {"exact": 3600.0}},
    local={
        "decode": [{"audio": "flac 24 kHz mono", "core_rate": 1800.0, "bytes_per_second": 20_000.0}],
        "tokens": [{"codec": "mimi", "bytes_per_second": {"czt": 150.0}}],
        "host": {
            "header_us": 100.0, "take_over_us": 0.0, "take_over_us_per_second": 200.0, "result_us": 300.0,
            "write_us": {"safetensors": 100.0},
        },
        "listing": [{"form": "tar", "us_per_clip": 36.0, "bytes_per_clip": 1000.0}],
        "resume": {"start_seconds": 10.0, "us_per_shard": 50.0},
    },
)  # fmt: skip


def test_units_of_a_plan() -> None:
    """A million hours of 10 s clips on 64 GPUs that each encode an hour a second, by hand."""
    work = Work(hours=1e6, gpus=64, gpu_price=2.0, storage_price=20.0)
    found = {row.name: (row.value, row.unit) for row in plan(work, RATES)}
    assert found == {
        "GPU-hours": (pytest.approx(277.78, rel=1e-4), "GPU h"),  # 1e6 s
        "time, all GPUs busy": (pytest.approx(4.3403, rel=1e-4), "h"),
        "decoding": (pytest.approx(555.56, rel=1e-4), "core h"),
        "readers a GPU": (2.0, "cores"),
        "main process of a GPU": (pytest.approx(360 * (200e-6 + 10 * 200e-6)), "cores"),  # 360 clips a second
        "audio": (pytest.approx(72.0), "TB"),  # 3.6e9 s × 20 kB
        "reading, a GPU": (72.0, "MB/s"),
        "reading, all GPUs": (pytest.approx(4.608), "GB/s"),
        "tokens as czt": (pytest.approx(0.54), "TB"),
        "clips": (3.6e8, "clips"),
        "shards": (360_000, "shards"),
        "list of clips (tar)": (pytest.approx(360.0), "GB"),
        "time to list": (pytest.approx(3.6), "core h"),
        "runs to split it into": (45, "runs"),
        "lost when a process dies": (pytest.approx(10_000 / 3600 / 2), "GPU s"),
        "resume, without the list": (pytest.approx(10 + 360_000 / 64 * 50e-6), "core s"),
        "GPUs that one Ray driver feeds": (pytest.approx(2000 / 360), "GPUs"),  # 500 µs a clip
        "cost of GPUs": (pytest.approx(555.56, rel=1e-4), "money"),
        "cost of tokens as czt": (pytest.approx(10.8), "money a month"),
    }


def test_plans_scale_as_they_should() -> None:
    one, ten = ({row.name: row.value for row in plan(Work(hours=hours), RATES)} for hours in (1e5, 1e6))
    for name in ("GPU-hours", "decoding", "audio", "clips", "shards", "time to list"):
        assert ten[name] == pytest.approx(10 * one[name])
    for name in ("readers a GPU", "reading, a GPU", "lost when a process dies"):
        assert ten[name] == one[name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--codec", "mimmi"], "mimmi was not measured on a GPU; measured are academicodec"),
        (["--audio", "8-track"], "audio '8-track' was not measured; measured are wav 24 kHz mono"),
        (["--codec", "auv"], "shards of auv were not measured; measured are mimi"),
        (["--gpus", "0"], "gpus must be positive; it is 0"),
    ],
)
def test_what_was_not_measured_is_said(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", *arguments])
    assert message in capsys.readouterr().err


def test_the_measured_rates_make_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--hours", "1e6", "--codec", "mimi", "--gpus", "64"]) == 0
    lines = capsys.readouterr().out.splitlines()
    hours = 1e6 / read_rates().encode("mimi", "exact")
    assert lines[2].startswith(f"| GPU-hours | {hours:,.0f} | GPU h |")


def balanced(cluster: Cluster, outcome: Outcome) -> None:
    """All shards are done once, and no time is unaccounted for."""
    assert outcome.done == cluster.shards
    spent = outcome.useful + outcome.lost + outcome.down + outcome.starting + outcome.idle
    assert spent == pytest.approx(cluster.workers * outcome.finish)
    assert min(outcome.useful, outcome.lost, outcome.down, outcome.starting) >= 0
    assert outcome.idle >= -1e-6 * spent


@pytest.mark.parametrize("policy", ["static", "queue"])
@pytest.mark.parametrize(("workers", "shards"), [(1, 7), (4, 10), (8, 8), (8, 3), (16, 1600)])
def test_equal_nodes_that_do_not_fail_take_the_ideal_time(policy: str, workers: int, shards: int) -> None:
    cluster = Cluster(workers=workers, shards=shards, shard_seconds=2.0, start=5.0, policy=policy)
    outcome = simulate(cluster)
    balanced(cluster, outcome)
    assert outcome.finish == pytest.approx(5.0 + 2.0 * math.ceil(shards / workers))
    assert (outcome.lost, outcome.down, outcome.failures) == (0, 0, 0)


def test_one_node_that_fails_takes_the_time_of_theory() -> None:
    """A shard of s seconds that begins anew after each failure takes (M + R)(e^(s/M) - 1) seconds on average."""
    s, mean, restart, shards = 100.0, 80.0, 30.0, 4000
    cluster = Cluster(workers=1, per_node=1, shards=shards, shard_seconds=s, mtbf=mean, restart=restart, start=0.0)
    outcome = simulate(cluster, seed=1)
    balanced(cluster, outcome)
    again = 1 - math.exp(-s / mean)  # failures of a shard are geometric
    deviation = (mean + restart) * math.sqrt(again / (1 - again) ** 2) / math.sqrt(shards)
    assert outcome.finish / shards == pytest.approx((mean + restart) * math.expm1(s / mean), abs=4 * deviation)
    assert outcome.failures / shards == pytest.approx(math.expm1(s / mean), rel=0.1)


def test_a_slow_node_holds_back_its_share_and_the_queue_does_not_wait() -> None:
    common = {
        "workers": 10,
        "shards": 10_000,
        "shard_seconds": 1.0,
        "start": 0.0,
        "slow_share": 0.1,
        "slow_speed": 0.25,
    }
    static, queue = (simulate(Cluster(**common, policy=policy)) for policy in ("static", "queue"))
    assert static.finish == pytest.approx(4000.0)
    assert queue.finish == pytest.approx(10_000 / 9.25, abs=4 * 5)  # a lease of 5 shards on the slow one
    assert queue.finish < static.finish / 3


@pytest.mark.parametrize("slices", [None, (8, 64)])
@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_or_done_twice_whatever_dies(slices: tuple[int, int] | None, seed: int) -> None:
    cluster = Cluster(
        workers=12, per_node=4, shards=3000, shard_seconds=1.0, mtbf=60.0, restart=20.0, start=3.0, spread=0.1,
        slow_share=0.2, policy="queue", slices=slices, notice=2.0,
    )  # fmt: skip
    outcome = simulate(cluster, seed)
    balanced(cluster, outcome)
    assert outcome.failures > 0 and outcome.lost > 0
    assert outcome == simulate(cluster, seed)
    static = replace(cluster, policy="static", slices=None)
    balanced(static, simulate(static, seed))


def test_a_death_that_is_certain_costs_its_shard_and_its_time() -> None:
    cluster = Cluster(workers=2, per_node=1, shards=20, shard_seconds=2.0, start=1.0, start_again=0.5, restart=4.0,
                      deaths=((1, 6.5),))  # fmt: skip
    outcome = simulate(cluster)
    balanced(cluster, outcome)  # two shards and 1.5 s of the third, 4 s down, 0.5 s of start, eight shards
    assert (outcome.failures, outcome.lost, outcome.down) == (1, pytest.approx(1.5), 4.0)
    assert outcome.finish == pytest.approx(6.5 + 4 + 0.5 + 8 * 2)


def test_each_slice_costs_a_start() -> None:
    common = {"workers": 4, "shards": 8 + 16 + 32 + 32 + 12, "shard_seconds": 1.0, "start": 10.0, "policy": "queue"}
    assert simulate(Cluster(**common)).finish == pytest.approx(10 + 25)
    assert simulate(Cluster(**common, slices=(8, 32))).finish == pytest.approx(5 * 10 + 2 + 4 + 8 + 8 + 3)


def test_settings_of_the_simulation_that_make_no_sense() -> None:
    good = Cluster(workers=2, shards=2, shard_seconds=1.0)
    with pytest.raises(ValueError, match="policy must be one of static, queue; it is 'ray'"):
        replace(good, policy="ray")
    with pytest.raises(ValueError, match="mtbf must be positive; it is 0"):
        replace(good, mtbf=0)
    with pytest.raises(ValueError, match="slices go with the queue"):
        replace(good, slices=(1, 2))
    with pytest.raises(ValueError, match="3 speeds were given for 2 workers"):
        replace(good, speeds=(1.0, 1.0, 1.0))
    assert np.isfinite(simulate(good).finish)
