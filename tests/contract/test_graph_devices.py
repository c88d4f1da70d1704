"""Which hooks can be captured as CUDA graphs: on the fake device, where each wait for the device is written down, and a
graph runs its function again."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from codeczoo.base.graphs import Graphs
from codeczoo.base.recording import Operations, ReadsDeviceError, Recorder
from tests.contract.test_devices import ONE_OF_EACH
from tests.contract.test_registry import clips_of
from tests.support.fake_device import DEVICE, FakeDevice
from tests.support.small import codec_of

# What runs without a graph; docs/graphs.md has the same list.
WITHOUT = {
    "encodec_48k": {"encode ragged", "encode dense", "decode ragged", "decode dense"},
    "funcodec_en_libritts_16k_gr1nq32ds320": {"encode ragged"},
    "unicodec_24k": {"encode ragged", "encode dense"},
    "xy_tokenizer_16k": {"encode ragged", "encode dense", "decode ragged", "decode dense"},
}
NETWORKS = [name for name in ONE_OF_EACH if name not in ("opus_12k", "g711_ulaw")]
QUICK = ("mimi", "encodec_24k", "dac_44k", "zoo_16k", *WITHOUT)


def cases() -> list[object]:
    return [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in dict.fromkeys(NETWORKS)]


@pytest.mark.filterwarnings("ignore:.*runs without a graph")
@pytest.mark.parametrize("name", cases())
def test_a_graph_does_not_wait_for_the_device(name: str) -> None:
    """Ragged and dense: codes are those of the CPU, and what runs as a graph neither reads nor sends a number."""
    here = codec_of(name, "small", torch.float64)
    hop = here.hop_length or 1
    with FakeDevice() as device:
        codec = copy.deepcopy(here).to(DEVICE)
        codec.graphs = graphs = Graphs()
        for lengths in ([7 * hop + 5, 3 * hop], [8 * hop] * 2):
            clips = clips_of(codec, lengths)
            expected = here.encode(clips, codec.sample_rate)
            with graphs.at_once():
                codes = codec.encode(clips, codec.sample_rate)
                assert torch.equal(codes.codes.cpu(), expected.codes)
                if codec.supports_decode:
                    codec.decode(codes)
        assert graphs.refused.keys() == WITHOUT.get(name, set())
        captured = {f"{bucket.side} {'dense' if bucket.dense else 'ragged'}" for bucket in graphs.buckets}
        assert "encode ragged" in captured | graphs.refused.keys()
        for graph in graphs._graphs.values():
            with torch.no_grad(), device.no_wait():
                graph.run()


def test_the_page_names_those_that_run_without() -> None:
    page = (Path(__file__).parents[2] / "docs" / "graphs.md").read_text("utf-8")
    assert all(f"`{name}`" in page for name in WITHOUT)


def test_what_is_sent_is_kept_and_what_is_read_is_an_error() -> None:
    table = torch.tensor([1.0, 2.0, 3.0])

    def sends(x: torch.Tensor) -> torch.Tensor:
        y = x + table.to(DEVICE) + torch.tensor([0.5, 0.5, 0.5], device=DEVICE) + x.new_tensor([1, 1, 1])
        y[..., :2] = torch.tensor([7.0, 8.0])
        return y

    with FakeDevice() as device:
        x = torch.zeros(2, 3).to(DEVICE)
        recorder = Recorder(dense=False)
        expected = sends(x).cpu()
        for run in range(4):
            before = len(device.waits)
            assert torch.equal(recorder(sends, x).inner, expected)
            assert (len(device.waits) > before) == (run < 2)
        for reads in (
            lambda x: x + float(x.sum()),
            lambda x: x.tolist() and x,
            lambda x: x[x > 0],
            lambda x: x.nonzero(),
            lambda x: x.cpu().to(DEVICE),
            lambda x: x[:, torch.tensor([0, 1])],
        ):
            recorder = Recorder(dense=False)
            recorder(reads, x)
            with pytest.raises(ReadsDeviceError, match="it reads values from the device"):
                recorder(reads, x)
        numbers = iter(range(10))
        recorder = Recorder(dense=False)
        for _ in range(2):
            recorder(lambda x: x + torch.tensor([next(numbers)], device=DEVICE), x)
        with pytest.raises(ReadsDeviceError, match="other numbers"):
            recorder(lambda x: x + torch.tensor([next(numbers)], device=DEVICE), x)


def test_memory_that_a_graph_reads_is_held() -> None:
    """A table in a cache that forgets it; not what the run makes itself."""
    recorder, cache = Recorder(dense=False), [torch.ones(5)]

    def run() -> None:
        y = torch.full((5,), 2.0)
        (y * cache[0]).add_(1)

    for count in (2, 3):
        recorder.runs = count
        with Operations(recorder):
            run()
    address = cache[0].data_ptr()
    cache.clear()
    assert [storage.data_ptr() for storage in recorder.kept] == [address]
