"""What codeczoo promises, of one codec on a device: its golden case, ragged batches, long clips, streams."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from codeczoo import Audio, BaseCodec, Codes, load_codec
from codeczoo.codecs.snac import SNAC
from perf.compare import peak_error, synchronize
from tests.support import golden_weights
from tests.support.golden import golden_case, golden_state_dict

# Golden folders that are not called as their codec is.
NAMES = {"bigcodec_16k": "bigcodec_1k", "speechtokenizer_16k": "speech_tokenizer_16k"}
TOLERANCE = 1e-4  # of the peak
PROMISES = ("golden", "ragged", "passes", "stream", "graph")

Row = dict[str, Any]


class Check:
    """One codec on its device, with a golden case of it."""

    def __init__(self, codec: BaseCodec, case: Mapping[str, Tensor], quick: bool, weights: Path | None = None) -> None:
        self.codec, self.case, self.quick, self.weights = codec, case, quick, weights
        self.name, self.device, self.hop = codec.name, codec.device, codec.hop_length or 1

    @classmethod
    def of(cls, folder: str, weights: Path, device: torch.device, quick: bool) -> Check:
        codec = load_codec(NAMES.get(folder, folder), weights=load_file(weights), device=device)
        return cls(codec, golden_case(folder)[0], quick, weights)

    def golden(self) -> Iterator[Row]:
        codec, case = self.codec, self.case
        codes = codec.encode(case["audio"], codec.sample_rate, num_codebooks=self._count())
        if "codes" in case:
            pairs = [(codes.codes, case["codes"], case["codes_stable"])]
        else:  # codebooks of rates of their own
            pairs = [
                (torch.stack(codes.codebook(k)), case[f"codes_{k}"], case[f"codes_stable_{k}"])
                for k in range(codes.num_codebooks)
            ]
        differ = sum(int(((ours.cpu() != truth) & stable).sum()) for ours, truth, stable in pairs)
        same = sum(int((ours.cpu() == truth).sum()) for ours, truth, _ in pairs)
        row: Row = {"differ": differ, "codes": same / sum(truth.numel() for _, truth, _ in pairs)}
        if codec.supports_decode and "reconstruction" in case:
            given = codes
            if "codes" in case:
                side = {name: case[name] for name in codes.side_info if name in case}
                given = codec.codes_from_tensor(case["codes"], side_info=side)
            with without_noise(codec):
                row["error"] = peak_error(codec.decode(given).waveform.cpu(), _cut(case["reconstruction"], codec))
        yield {**row, "kept": differ == 0 and row.get("error", 0.0) <= TOLERANCE}

    def ragged(self) -> Iterator[Row]:
        clip = self.clips(1, 0.7 if self.quick else 3.0)[0]
        total = clip.shape[-1]
        clips = [clip[..., :n] for n in (total, total // 3, self.hop + 1, total - self.hop // 2 - 1)]
        batch = self.codec.encode(clips, self.codec.sample_rate)
        decoded = self.codec.decode(batch).split() if self.codec.supports_decode else []
        differ, error = 0, 0.0
        for i, part in enumerate(clips):
            alone = self.codec.encode(part, self.codec.sample_rate)
            differ += int((batch[i].codes != alone.codes).sum())
            if decoded:
                error = max(error, peak_error(decoded[i], self.codec.decode(alone).waveform[0]))
        total = int(batch.counts.sum())
        yield {"differ": differ, "of": total, "error": error, "kept": not differ and error <= TOLERANCE}

    def passes(self) -> Iterator[Row]:
        codec = self.codec
        clip = self.clips(1, 2.0 if self.quick else 20.0)
        codes, found = self._passes(lambda: codec.encode(clip, codec.sample_rate))
        row: Row = {}
        if "encode" not in codec.approximate_when_long:
            row = {"differ": int((codes.codes != found.codes).sum()), "of": codes.codes.numel()}
        if codec.supports_decode and "decode" not in codec.approximate_when_long:
            row["error"] = peak_error(*(a.waveform for a in self._passes(lambda: codec.decode(codes))))
        if row:
            yield {**row, "kept": not row.get("differ") and row.get("error", 0.0) <= TOLERANCE}

    def _passes(self, call: Callable[[], Any]) -> tuple[Any, Any]:
        """Whole, and in chunks."""
        out = []
        for seconds in (1e6, 0.7 if self.quick else 3.0):
            self.codec.max_chunk_seconds = seconds
            out.append(call())
        self.codec.max_chunk_seconds = None
        return out[0], out[1]

    def stream(self) -> Iterator[Row]:
        codec, hop = self.codec, self.hop
        if not codec.streams:
            return
        clip = self.clips(2, 1.0 if self.quick else 12.0)
        clip = clip[..., : clip.shape[-1] // hop * hop]
        whole = codec.encode(clip, codec.sample_rate)
        audio = codec.decode(codec.codes_from_tensor(whole.codes)).waveform
        for cuda_graph in (False, True):
            stream = codec.stream(2, cuda_graph=cuda_graph)
            row: Row = {"graph": cuda_graph}
            if "encode" in codec.streams:
                chunks = [stream.encode(part) for part in clip.split(2 * hop, dim=-1)]
                codes = torch.cat([p.codes[..., : int(p.lengths[0])] for p in [*chunks, stream.flush()]], dim=-1)
                row |= {"differ": int((codes != whole.codes).sum()), "of": codes.numel()}
            heard = [stream.decode(part) for part in whole.codes.split(2, dim=-1)]
            waveform = torch.cat(
                [a.waveform[..., : int(a.lengths[0])] for a in [*heard, stream.flush_decoder()]], dim=-1
            )
            row["error"] = peak_error(waveform, audio)
            yield {**row, "kept": not row.get("differ") and row["error"] <= TOLERANCE}

    def graph(self) -> Iterator[Row]:
        """One hop a step, as a user calls a stream."""
        codec, hop = self.codec, self.hop
        if not codec.streams:
            return
        steps, count = (6 if self.quick else 200), codec.num_codebooks
        codes = torch.randint(0, min(codec.codebook_sizes), (1, count, 1), generator=torch.Generator().manual_seed(0))
        plain, captured = codec.stream(1), codec.stream(1, cuda_graph=True)
        for op, given in (
            ("encode", self.clips(1, steps * hop / codec.sample_rate).split(hop, dim=-1)),
            ("decode", [codes.to(self.device)] * steps),
        ):
            if op not in codec.streams:
                continue
            wanted, slow = _fed(getattr(plain, op), given, self.device)
            found, fast = _fed(getattr(captured, op), given, self.device)
            differ = sum(int((a != b).sum()) for a, b in zip(wanted, found, strict=True))
            row = {"op": op, "differ": differ, "step_ms": slow, "graph_ms": fast}
            yield {**row, "hop_ms": 1e3 * hop / codec.sample_rate, "kept": differ == 0}

    def _count(self) -> int | None:
        return self.case["codes"].shape[1] if "codes" in self.case else None

    def clips(self, batch: int, seconds: float) -> Tensor:
        """[B, C, T], speech-like."""
        samples = max(int(seconds * self.codec.sample_rate), 4 * self.hop)
        made = golden_weights.audio(f"gpu/{self.name}", batch, self.codec.channels[-1], samples, self.codec.sample_rate)
        return torch.from_numpy(made).to(self.device)


def _fed(
    step: Callable[[Tensor], Codes | Audio], given: Sequence[Tensor], device: torch.device
) -> tuple[list[Tensor], float]:
    """Outputs, and the median of milliseconds a step, each waited for."""
    out, times = [], []
    for x in given:
        synchronize(device)
        began = time.perf_counter()
        found = step(x)
        synchronize(device)
        times.append(time.perf_counter() - began)
        out.append(found.codes if isinstance(found, Codes) else found.waveform)
    return out, 1e3 * statistics.median(times)


def _cut(waveform: Tensor, codec: BaseCodec) -> Tensor:
    return waveform if waveform.ndim == 3 else waveform.view(1, codec.channels[-1], -1)


@contextmanager
def without_noise(codec: BaseCodec) -> Iterator[None]:
    """As the golden cases of SNAC are decoded."""
    if not isinstance(codec, SNAC):
        yield
        return
    seed, codec.noise_seed = codec.noise_seed, None
    try:
        yield
    finally:
        codec.noise_seed = seed


def make_weights(folder: str, path: Path) -> Path:
    """The tensors of a golden manifest as a file. To make them takes longer than most checks, so other processes do."""
    save_file(golden_state_dict(folder), path)
    return path
