"""`Graphs`: the hooks of a codec as CUDA graphs, one for each shape, of which there are few.

Clips come in any number and length, and a graph has one shape. So a batch is padded to the next `Bucket`: rows to the
next of 1, 2, 3, 4, 6, 8, 12, ..., frames to the next power of the fourth root of 2. What is padded does not show in
codes or audio, because hooks take lengths, which are inputs of the graph. A batch that fills its bucket to the last
sample has a graph of its own, without the work on ragged ends.

A graph reads and writes the memory that it was captured with; what a caller gets is a copy. All graphs of a codec share
their working memory, which is safe because one runs after the other.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from codeczoo.base.buckets import Bucket, frames_above, rows_above
from codeczoo.base.cuda_graph import STEPS_BEFORE_CAPTURE, capture_graph
from codeczoo.base.recording import ReadsDeviceError, Recorder
from codeczoo.base.warn_once import warn_once

if TYPE_CHECKING:
    from codeczoo.base.batches import CodecBatches
    from codeczoo.base.network import Decoded, Encoded

Output = TypeVar("Output", "Encoded", "Decoded")

MAX_GRAPHS = 32
MAX_SECONDS = 120.0  # of audio in a batch, with padding: a larger one keeps the device busy without a graph
MAX_SEEN = 4096  # buckets whose sightings are counted
SIGHTINGS = 2  # a bucket is captured when it comes for the second time: one that comes once is not worth it


class Graph(NamedTuple):
    """A captured hook, and the tensors that it reads and writes."""

    inputs: tuple[Tensor, ...]
    output: Any
    run: Callable[[], object]
    recorder: Recorder  # holds what else it reads


class Graphs:
    """The graphs of one codec: `codec.graphs`.

    Hooks that read values from the device cannot be captured: they run as they are, which is said once. On other
    devices than CUDA all do.

    Args:
        most: graphs at a time; the one that was not used for longest goes first.
        everywhere: take the same path on other devices, on which a graph runs its function again.
    """

    def __init__(self, most: int = MAX_GRAPHS, everywhere: bool = False) -> None:
        if most < 1:
            raise ValueError(f"most must be one graph or more; it is {most}")
        self.most, self.everywhere = most, everywhere
        self._lock = threading.Lock()
        self._sightings = SIGHTINGS
        self.clear()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a bucket is captured when it comes for the first time."""
        self._sightings = 1
        try:
            yield
        finally:
            self._sightings = SIGHTINGS

    def clear(self) -> None:
        """Drop all graphs: those of a network whose weights lie elsewhere now."""
        self._graphs: OrderedDict[Bucket, Graph] = OrderedDict()
        self._seen: dict[Bucket, int] = {}
        self._refused: dict[tuple[str, bool], str] = {}
        self._pool: Any = None
        self._last: Any = None  # event: the last graph has run, and its output is copied

    def __len__(self) -> int:
        return len(self._graphs)

    def __reduce__(self) -> Any:  # a copy of a codec has its weights elsewhere
        return Graphs, (self.most, self.everywhere)

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """Those that have a graph, the one used last at the end."""
        return tuple(self._graphs)

    @property
    def refused(self) -> dict[str, str]:
        """What runs without graphs → why: "encode ragged" → "it reads values from the device (...)"."""
        return {f"{side} {'dense' if dense else 'ragged'}": why for (side, dense), why in self._refused.items()}

    def __repr__(self) -> str:
        lines = [f"Graphs({len(self)} of at most {self.most})", *map(str, self.buckets)]
        return "\n  ".join([*lines, *(f"without a graph: {what}: {why}" for what, why in self.refused.items())])

    # -- the hooks ------------------------------------------------------------------------------

    def encode(self, codec: CodecBatches, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        """`codec._encode` of the same arguments."""
        rows, channels, samples = waveform.shape
        unit = (codec.hop_length or 1) * max(codec.strides or (1,))
        most = int(codec._whole_clip_seconds() * codec.sample_rate)
        bucket = self._bucket(codec, "encode", rows, samples, unit, most, lengths, num_codebooks, channels)

        def hook(waveform: Tensor, lengths: Tensor) -> Encoded:
            return codec._encode(waveform, lengths, num_codebooks)

        if bucket is None:
            return hook(waveform, lengths)
        return self._run(codec, bucket, hook, (waveform, lengths))

    def decode(
        self,
        codec: CodecBatches,
        codes: Tensor,
        lengths: Tensor,
        side_info: Mapping[str, Tensor],
        num_samples: Tensor,
    ) -> Decoded:
        """`codec._decode` of the same arguments."""
        rows, num_codebooks, frames = codes.shape
        names = tuple(side_info)
        shapes = tuple((name, side_info[name].shape[1:], side_info[name].dtype) for name in names)
        unit, most = max(codec.strides or (1,)), codec._frames_at_once()
        bucket = self._bucket(codec, "decode", rows, frames, unit, most, lengths, num_codebooks, shapes)

        def hook(codes: Tensor, lengths: Tensor, num_samples: Tensor, *side: Tensor) -> Decoded:
            return codec._decode(codes, lengths, dict(zip(names, side, strict=True)), num_samples)

        given = (codes, lengths, num_samples, *side_info.values())
        return hook(*given) if bucket is None else self._run(codec, bucket, hook, given)

    def _bucket(
        self,
        codec: CodecBatches,
        side: str,
        rows: int,
        steps: int,
        unit: int,
        most: int,
        lengths: Tensor,
        num_codebooks: int,
        more: Hashable,
    ) -> Bucket | None:
        """None: such a batch runs without a graph. `unit`: steps are whole ones of it; `most`: of steps in one clip."""
        if not (codec.device.type == "cuda" or self.everywhere) or torch.is_grad_enabled() or not codec.hop_length:
            return None
        wide, high = frames_above(-(-steps // unit)) * unit, rows_above(rows)
        wide = wide if wide <= most else max(most // unit * unit, steps)
        seconds = wide * (1 if side == "encode" else codec.hop_length) / codec.sample_rate
        if high * seconds > min(MAX_SECONDS, codec._chunk_seconds()):
            return None
        # Only a batch as large as its bucket is asked whether it is dense: to ask is to wait for the device.
        dense = (rows, steps) == (high, wide) and bool((lengths == steps).all())
        kind = codec.device.type
        cast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        more = (more, codec.device, codec.dtype, codec.precision, cast, codec.training, codec._graph_settings())
        return Bucket(side, high, wide, num_codebooks, dense, more)

    # -- one graph ------------------------------------------------------------------------------

    def _run(
        self, codec: CodecBatches, bucket: Bucket, hook: Callable[..., Output], given: tuple[Tensor, ...]
    ) -> Output:
        with self._lock:
            graph = self._graphs.get(bucket)
            if graph is None and (bucket.side, bucket.dense) not in self._refused:
                if len(self._seen) > MAX_SEEN:
                    self._seen.clear()
                self._seen[bucket] = self._seen.get(bucket, 0) + 1
                if self._seen[bucket] >= self._sightings:
                    graph = self._new(codec, bucket, hook, given)
            if graph is not None:
                self._graphs.move_to_end(bucket)
                try:
                    return self._result(graph, given)
                except ReadsDeviceError as error:  # not on CUDA, where what reads lengths was not captured
                    del self._graphs[bucket]
                    self._refuse(codec, bucket, str(error))
        return hook(*given)

    @torch.inference_mode(False)  # tensors made in a caller's inference mode could not be overwritten outside it
    @torch.no_grad()
    def _new(
        self, codec: CodecBatches, bucket: Bucket, hook: Callable[..., Output], given: tuple[Tensor, ...]
    ) -> Graph | None:
        """The graph of a bucket, kept in place of the oldest one; None where it cannot be captured."""
        sizes = [bucket.steps, *[0] * (len(given) - 1)]
        inputs = tuple(
            x.new_zeros(bucket.rows, *x.shape[1:-1], size) if size else x.new_zeros(bucket.rows, *x.shape[1:])
            for x, size in zip(given, sizes, strict=True)
        )
        recorder = Recorder(bucket.dense)

        def run() -> Output:
            return _plain(recorder(hook, *inputs))

        def prepare() -> None:  # networks may write into what they are given
            _fill(inputs, given)
            run()

        try:
            if codec.device.type == "cuda" and torch.cuda.is_available():
                self._wait(codec.device)
                if self._pool is None:
                    self._pool = torch.cuda.graph_pool_handle()
                cuda_graph, output = capture_graph(prepare, run, STEPS_BEFORE_CAPTURE, codec.device, self._pool)
                graph = Graph(inputs, output, cuda_graph.replay, recorder)
            else:
                prepare()
                prepare()
                _fill(inputs, given)
                output = tree_map(torch.clone, run())
                graph = Graph(inputs, output, lambda: _copy(output, run()), recorder)
        except (ReadsDeviceError, NotImplementedError) as error:
            self._refuse(codec, bucket, str(error))
            return None
        except torch.OutOfMemoryError:
            self.clear()  # what graphs hold may be what is missing
            raise
        except RuntimeError as error:
            self._refuse(codec, bucket, f"{type(error).__name__}: {str(error).splitlines()[0]}")
            return None
        self._graphs[bucket] = graph
        if len(self._graphs) > self.most:
            oldest, _ = self._graphs.popitem(last=False)
            self._seen.pop(oldest, None)
        return graph

    def _refuse(self, codec: CodecBatches, bucket: Bucket, why: str) -> None:
        self._refused[bucket.side, bucket.dense] = why
        if not self._graphs:
            self._pool = None  # it ends with the last graph in it
        what = f"{bucket.side} of {'dense' if bucket.dense else 'ragged'} batches"
        warn_once(
            f"graphs of {codec.name}: {what}",
            f"{codec.name} was loaded with compile=True, and its {what} runs without a graph: {why}",
        )

    @torch.inference_mode(False)
    @torch.no_grad()
    def _result(self, graph: Graph, given: tuple[Tensor, ...]) -> Any:
        """What the graph gives of `given`, as tensors of the caller's own."""
        rows, device = len(given[0]), given[0].device
        self._wait(device)
        _fill(graph.inputs, given)
        graph.run()
        result = tree_map(lambda x: x[:rows].clone(), graph.output)
        if device.type == "cuda" and torch.cuda.is_available():
            self._last = torch.cuda.Event()
            self._last.record(torch.cuda.current_stream(device))
        return result

    def _wait(self, device: torch.device) -> None:
        """For the last graph, which another stream may be running."""
        if self._last is not None:
            torch.cuda.current_stream(device).wait_event(self._last)


def use_graphs(codec: CodecBatches) -> None:
    """What `load_codec(compile=True)` does."""
    codec.graphs = Graphs()
    if codec.device.type != "cuda":
        warn_once(
            f"compile on {codec.device.type}",
            f"compile=True captures CUDA graphs: {codec.name} is on {codec.device.type}, where it changes nothing "
            "(torch.compile takes minutes there and was seen to gain nothing in a decoder, and little in an encoder)",
        )


def _fill(inputs: tuple[Tensor, ...], given: tuple[Tensor, ...]) -> None:
    """Copy a batch into a graph's tensors: zeros behind it, and its first row again in the rows that it lacks."""
    for ours, theirs in zip(inputs, given, strict=True):
        rows = len(theirs)
        if theirs.ndim > 1 and theirs.shape[-1] < ours.shape[-1]:
            ours[..., theirs.shape[-1] :].zero_()
            own = ours[..., : theirs.shape[-1]]
        else:
            own = ours
        own[:rows].copy_(theirs)
        if rows < len(ours):
            own[rows:].copy_(theirs[:1].expand_as(own[rows:]))


def _plain(output: Any) -> Any:
    """The same with side values as a dict, of which copies can be made."""
    return output._replace(side_info=dict(output.side_info)) if hasattr(output, "side_info") else output


def _copy(to: Any, source: Any) -> None:
    for ours, theirs in zip(tree_leaves(to), tree_leaves(source), strict=True):
        if ours.shape != theirs.shape:
            raise ReadsDeviceError("the shape of what it gives depends on the lengths of the clips")
        ours.copy_(theirs)
