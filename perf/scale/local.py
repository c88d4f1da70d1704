"""A run of several nodes on this machine, one of them slow and one killed; and the simulation of the same.

Nodes are processes. Their devices are `node.Paced`: G.711 that waits, so that many of them fit onto two cores. All else
is codeczoo's: listing, headers, readers, batches, shards, resuming, Ray.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codeczoo.tokens import TokenSet
from codeczoo.tokens.tokenize import tokenize
from perf.scale import node
from perf.scale.files import write_forms
from perf.scale.simulate import Cluster, simulate

CLIP, SHARD_CLIPS, SHARD_SECONDS = 0.1, 25, 2.0  # seconds; clips; seconds on a device of usual speed
PACE = SHARD_CLIPS * CLIP / SHARD_SECONDS
SLOW = 0.5
DOWN = 3.0  # seconds until a killed node is started again
SLOW_NODE, KILLED_NODE = 0, 1


def run_here(nodes: int, clips: int, engines: Sequence[str]) -> list[dict[str, Any]]:
    """Each engine, compared with an uninterrupted run and with the simulation."""
    node.register()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        dataset = str(write_forms(here, clips, CLIP)["tar"])
        whole = here / "whole"
        tokenize(node.settings(dataset, str(whole), SHARD_CLIPS))
        for engine in engines:
            run = _static if engine == "static" else _ray
            row = run(nodes, dataset, here / engine)
            row |= {"engine": engine, "clips": clips, "same_bytes": _same(here / engine, whole, clips)}
            row["error"] = row["predicted"] / row["seconds"] - 1
            print(json.dumps(row), flush=True)
            rows.append(row)
    return rows


def _same(out: Path, whole: Path, clips: int) -> bool:
    """Whether every clip is there once, and all files are those of the uninterrupted run.

    Raises:
        RuntimeError: a clip is lost or there twice.
    """
    ids = [clip.id for clip in TokenSet(out, verify=True)]
    if len(ids) != clips or len(set(ids)) != clips:
        raise RuntimeError(f"{out}: {len(ids)} clips, {len(set(ids))} of them different, of {clips}")
    return all(
        (out / path.name).read_bytes() == path.read_bytes() for path in [*whole.glob("tokens-*"), whole / "index.json"]
    )


def _shards(out: Path) -> int:
    return len(list(out.glob("shards/*.json")))


# -- static shares ----------------------------------------------------------------------------------


def _static(nodes: int, dataset: str, out: Path) -> dict[str, Any]:
    """`--shard I/N` in `nodes` processes; one is killed when a third of the shards are there, and started again."""
    out.mkdir()
    total = (TokenSet(out.parent / "whole").index["clips"] + SHARD_CLIPS - 1) // SHARD_CLIPS
    began = time.time()
    running = {i: _start(i, nodes, dataset, out) for i in range(nodes)}
    launched = dict.fromkeys(running, began)
    died = again = 0.0
    while any(process.poll() is None for process in running.values()) or not again:
        time.sleep(0.02)
        if not died and _shards(out) > total // 3:
            os.killpg(running[KILLED_NODE].pid, signal.SIGKILL)
            running[KILLED_NODE].wait()
            died = time.time()
        if died and not again and time.time() > died + DOWN:
            again = launched[KILLED_NODE] = time.time()
            running[KILLED_NODE] = _start(KILLED_NODE, nodes, dataset, out, "again")
    finish = time.time()
    if bad := [i for i, process in running.items() if process.returncode]:
        raise RuntimeError(f"nodes {bad} failed")
    starts = [_first(out, i) - began for i in range(nodes)]
    cluster = Cluster(
        workers=nodes, per_node=1, shards=total, shard_seconds=SHARD_SECONDS, start=sum(starts) / nodes,
        start_again=_first(out, KILLED_NODE, "again") - again, restart=again - died,
        deaths=((KILLED_NODE, died - began),),
        speeds=tuple(SLOW if i == SLOW_NODE else 1.0 for i in range(nodes)),
    )  # fmt: skip
    return _compared(finish - began, cluster, nodes)


def _start(number: int, nodes: int, dataset: str, out: Path, name: str = "") -> subprocess.Popen[bytes]:
    pace = PACE * (SLOW if number == SLOW_NODE else 1)
    environment = {**os.environ, node.PACE: str(pace), node.LOG: str(_log(out, number, name)), "OMP_NUM_THREADS": "1"}
    more = json.dumps({"shard": [number, nodes]})
    command = [sys.executable, "-m", "perf.scale.node", dataset, str(out), str(SHARD_CLIPS), more]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def _log(out: Path, number: int, name: str = "") -> Path:
    return out.parent / f"node{number}{name}.log"


def _first(out: Path, number: int, name: str = "") -> float:
    """When the first batch of a node began."""
    return float(_log(out, number, name).read_text().split()[0])


def _compared(seconds: float, cluster: Cluster, nodes: int) -> dict[str, Any]:
    outcome = simulate(cluster)
    return {
        "nodes": nodes,
        "seconds": seconds,
        "predicted": outcome.finish,
        "start": cluster.start,
        "shards": cluster.shards,
        "lost": outcome.lost,
        "idle": outcome.idle,
    }


# -- Ray --------------------------------------------------------------------------------------------


def _ray(nodes: int, dataset: str, out: Path) -> dict[str, Any]:
    """A cluster of as many raylets on this machine; one is killed when a third of the shards are there, and stays
    away."""
    import threading

    import ray
    from ray.cluster_utils import Cluster as Machines

    import codeczoo.executor.ray  # noqa: F401 (no usage statistics, no chatter: before Ray starts)

    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4,
             "worker_register_timeout_seconds": 120,
             "memory_monitor_refresh_ms": 0}  # fmt: skip
    memory = {"object_store_memory": 100 << 20}
    machines = Machines(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": quick, **memory},
    )
    total = (TokenSet(out.parent / "whole").index["clips"] + SHARD_CLIPS - 1) // SHARD_CLIPS
    times: dict[str, float] = {}
    try:
        raylets = []
        for i in range(nodes):
            pace = PACE * (SLOW if i == SLOW_NODE else 1)
            environment = {node.PACE: str(pace), node.LOG: str(_log(out, i, "ray"))}
            raylets.append(machines.add_node(num_cpus=1, env_vars=environment, **memory))
        ray.init(machines.address, log_to_driver=False)

        def strike() -> None:
            while "finish" not in times and _shards(out) <= total // 3:
                time.sleep(0.02)
            if "finish" in times:
                return
            times["died"] = time.time()
            raylets[KILLED_NODE].all_processes["raylet"][0].process.kill()

        thread = threading.Thread(target=strike)
        began = time.time()
        thread.start()
        tokenize(node.settings(dataset, str(out), SHARD_CLIPS, engine="ray", actors=nodes))
        times["finish"] = time.time()
        thread.join()
    finally:
        ray.shutdown()
        machines.shutdown()
    begins = {
        i: [float(t) for t in _log(out, i, "ray").read_text().split()]
        for i in range(nodes)
        if _log(out, i, "ray").exists()
    }
    first = {i: min(found) for i, found in begins.items()}
    found = _ray_prediction(total, times, began, first)
    return {
        **_compared(times["finish"] - began, found, nodes),
        "begins": {i: len(found) for i, found in begins.items()},
    }


def _ray_prediction(shards: int, times: Mapping[str, float], began: float, first: Mapping[int, float]) -> Cluster:
    """The queue, of the nodes that had an actor."""
    order = sorted(first)
    return Cluster(
        workers=len(order), per_node=1, shards=shards, shard_seconds=SHARD_SECONDS, policy="queue", notice=5.0,
        start=sum(first.values()) / len(order) - began, restart=1e9,
        speeds=tuple(SLOW if i == SLOW_NODE else 1.0 for i in order),
        deaths=tuple((order.index(KILLED_NODE), times["died"] - began) for _ in [0] if KILLED_NODE in order),
    )  # fmt: skip
