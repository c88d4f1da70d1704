"""A run on a cluster, event by event: nodes that are slow, nodes that die, static shares or a common queue.

A worker (a process with a GPU) does shards of tokens one after the other. A node dies after an exponential time, with
all of its workers: each loses the shard that it is at, and nothing else. It is back after `restart` seconds, and its
workers load the program and the codec again (`start`). With static shares worker i has shards i, i + W, i + 2W ...;
with the queue (Ray) each takes the next that nobody has, and what a dead one held is taken by another after `notice`
seconds. With `slices` the queue is filled a slice at a time, as codeczoo's Ray executor does it: the next slice begins
`start` seconds after the last shard of the one before.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import simpy

POLICIES = ("static", "queue")
LEASES = 200  # a worker takes 1/200 of its share of the queue at a time: exact enough, and fewer events


@dataclass(frozen=True)
class Cluster:
    """What is simulated. Times in seconds.

    Attributes:
        workers: GPUs; per_node: of them, on a node, which die together.
        shards: of tokens, in all; shard_seconds: for one, on a GPU of usual speed.
        mtbf: mean time between failures of a node, while it is up; math.inf = none.
        restart: until a dead node is back; start: until a worker's program is at work.
        slow_share: of the workers, which have `slow_speed`; spread: of the others' speeds, as the standard deviation of
            their logarithm.
        policy: one of POLICIES.
        notice: until the queue gives away what a dead worker held.
        slices: (shards of the first slice, of the largest one); None = all at once.
        speeds: of each worker; None = drawn. deaths: (node, time) of those that are certain, beside those by `mtbf`.
        start_again: as `start`, after a death; None = the same.
    """

    workers: int
    shards: int
    shard_seconds: float
    per_node: int = 8
    mtbf: float = math.inf
    restart: float = 300.0
    start: float = 30.0
    slow_share: float = 0.0
    slow_speed: float = 0.5
    spread: float = 0.0
    policy: str = "static"
    notice: float = 30.0
    slices: tuple[int, int] | None = None
    speeds: tuple[float, ...] | None = None
    deaths: tuple[tuple[int, float], ...] = ()
    start_again: float | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "shards", "shard_seconds", "per_node", "mtbf", "slow_speed"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; it is {getattr(self, name)}")
        if self.policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}; it is {self.policy!r}")
        if self.slices is not None and self.policy != "queue":
            raise ValueError("slices go with the queue; static shares have none")
        if self.speeds is not None and len(self.speeds) != self.workers:
            raise ValueError(f"{len(self.speeds)} speeds were given for {self.workers} workers")


@dataclass
class Outcome:
    """What came of it, in seconds; all but `finish` are of all workers together.

    Attributes:
        finish: until the last shard is done.
        useful: work at shards that counted; lost: at shards that died; down: of dead nodes; starting: loading programs;
            idle: the rest, with nothing to do. Together they are workers × finish.
        failures: of nodes; done: shards.
    """

    finish: float = 0.0
    useful: float = 0.0
    lost: float = 0.0
    down: float = 0.0
    starting: float = 0.0
    idle: float = 0.0
    failures: int = 0
    done: int = 0


class _Pool:
    """Shards that nobody has taken: one worker's, or all workers'."""

    def __init__(self, env: simpy.Environment, slices: Iterator[int], pause: float) -> None:
        self._env, self._slices, self._pause = env, slices, pause
        self.free = self.left = next(slices)  # not taken; not done
        self.over = False
        self.changed = env.event()

    def take(self, most: int) -> int:
        taken = min(most, self.free)
        self.free -= taken
        return taken

    def give_back(self, count: int, after: float) -> None:
        self._env.process(self._later(after, count))

    def done(self, count: int) -> None:
        self.left -= count
        if self.left == 0 and count:
            following = next(self._slices, 0)
            self.left += following
            if following:
                self._env.process(self._later(self._pause, following))
            else:
                self.over = True
                self._tell()

    def _later(self, seconds: float, count: int) -> Generator[Any, Any, None]:
        yield self._env.timeout(seconds)
        self.free += count
        self._tell()

    def _tell(self) -> None:
        self.changed.succeed()
        self.changed = self._env.event()


class _Run:
    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster, self.env, self.out = cluster, simpy.Environment(), Outcome()
        self._random = np.random.default_rng(seed)
        count = cluster.workers
        speeds = np.exp(cluster.spread * self._random.standard_normal(count))
        speeds[self._random.permutation(count)[: round(cluster.slow_share * count)]] = cluster.slow_speed
        self._seconds = [cluster.shard_seconds / speed for speed in cluster.speeds or speeds.tolist()]
        if cluster.policy == "static":
            counts = [len(range(i, cluster.shards, count)) for i in range(count)]
            self._pools = [_Pool(self.env, iter([n]), 0) for n in counts]
            for pool in self._pools:
                pool.over = pool.left == 0
            self._lease, self._notice = cluster.shards, 0.0
        else:
            self._pools = [_Pool(self.env, _slices(cluster), cluster.start)] * count
            self._lease = max(1, (cluster.slices or (cluster.shards,))[-1] // (count * LEASES))
            self._notice = cluster.notice

    def run(self) -> Outcome:
        workers = [self.env.process(self._worker(i)) for i in range(self.cluster.workers)]
        self._finished = self.env.event()
        for number, first in enumerate(range(0, len(workers), self.cluster.per_node)):
            node = workers[first : first + self.cluster.per_node]
            certain = [at for which, at in self.cluster.deaths if which == number]
            self.env.process(self._node(node, sorted(certain)))
        self.env.run(until=self._finished)
        self.out.finish = self.env.now
        spent = self.out.useful + self.out.lost + self.out.down + self.out.starting
        self.out.idle = self.cluster.workers * self.out.finish - spent
        return self.out

    def _node(self, workers: list[simpy.Process], certain: list[float]) -> Generator[Any, Any, None]:
        while certain or math.isfinite(self.cluster.mtbf):
            at = self.env.now + float(self._random.exponential(self.cluster.mtbf))
            while certain and certain[0] < self.env.now:
                certain.pop(0)  # it was down then
            if certain and certain[0] <= at:
                at = certain.pop(0)
            if math.isinf(at):
                return
            yield self.env.timeout(at - self.env.now)
            self.out.failures += 1
            for worker in workers:
                if worker.is_alive:
                    worker.interrupt()
            yield self.env.timeout(self.cluster.restart)

    def _worker(self, number: int) -> Generator[Any, Any, None]:
        pool, each, start = self._pools[number], self._seconds[number], self.cluster.start
        while not pool.over:
            began, what, taken = self.env.now, "starting", 0
            try:
                yield self.env.timeout(start)
                self.out.starting += self.env.now - began
                while not pool.over:
                    began, what = self.env.now, "idle"
                    taken = pool.take(self._lease)
                    if not taken:
                        yield pool.changed
                        continue
                    what = "working"
                    yield self.env.timeout(taken * each)
                    self._count(pool, taken, taken * each)
                    taken = 0
            except simpy.Interrupt:
                spent = self.env.now - began
                if what == "starting":
                    self.out.starting += spent
                elif what == "working":
                    finished = min(taken, math.floor(spent / each + 1e-9))
                    self.out.lost += spent - finished * each
                    pool.give_back(taken - finished, self._notice)
                    self._count(pool, finished, finished * each)
                if pool.over:
                    return
                yield self.env.timeout(self.cluster.restart)
                self.out.down += self.cluster.restart
                start = self.cluster.start if self.cluster.start_again is None else self.cluster.start_again

    def _count(self, pool: _Pool, shards: int, seconds: float) -> None:
        self.out.done += shards
        self.out.useful += seconds
        pool.done(shards)
        if shards and self.out.done == self.cluster.shards:
            self._finished.succeed()


def _slices(cluster: Cluster) -> Iterator[int]:
    """The sizes of the slices: each twice the one before, up to the largest."""
    left, size = cluster.shards, (cluster.slices or (cluster.shards,))[0]
    while left:
        yield min(size, left)
        left -= min(size, left)
        size = min(2 * size, (cluster.slices or (cluster.shards,))[-1])


def simulate(cluster: Cluster, seed: int = 0) -> Outcome:
    """One run; equal seeds give equal runs."""
    return _Run(cluster, seed).run()


def simulate_often(cluster: Cluster, runs: int, seed: int = 0) -> dict[str, float]:
    """The mean of each figure of `Outcome` over some runs, and of `finish` the 5th, 50th and 95th percentile."""
    outcomes = [simulate(cluster, seed + i) for i in range(runs)]
    found = {field.name: float(np.mean([getattr(o, field.name) for o in outcomes])) for field in fields(Outcome)}
    for share in (5, 50, 95):
        found[f"finish_p{share}"] = float(np.percentile([o.finish for o in outcomes], share))
    return found
