"""EnCodec's language models: the probabilities of a frame's codes, by which `.ecdc` files are entropy-coded.

Paper: "High Fidelity Neural Audio Compression" (arXiv 2210.13438). Upstream: facebookresearch/encodec, `LMModel`.

    the last frame's codes → the sum of an embedding a codebook, normed, and the place in time
    → 5 post-norm transformer layers over the last 3.5 s → a softmax over 1024 codes a codebook

A reader needs the writer's probabilities to the last bit. So this is float32 on the CPU, and each operation has the
shape that it has upstream: keys and values of all past frames are projected anew at each frame, and one zero vector
stands before the first. The last bits also depend on the processor, PyTorch's build, and its number of threads.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from codeczoo.base.catalogue import read_configs
from codeczoo.base.device import matmul_precision, torch_threads
from codeczoo.base.key_map import KeyMap, Rule
from codeczoo.base.model import Model
from codeczoo.base.variant import Variant
from codeczoo.nn.attention import Attention, AttentionMask
from codeczoo.nn.sequential import Linear
from codeczoo.nn.transformer import FeedForward
from codeczoo.weights.download import WeightsUnavailableError
from codeczoo.weights.load import load_model

_one_at_a_time = threading.RLock()  # PyTorch has one number of threads for the whole process


@dataclass(frozen=True)
class EncodecLMConfig:
    """The network's numbers."""

    sample_rate: int = 24000  # Hz, of the codec whose codes it knows
    num_codebooks: int = 32
    codebook_size: int = 1024
    dim: int = 200
    layers: int = 5
    heads: int = 8
    hidden: int = 800  # of the feed-forward
    past: int = 262  # frames that a frame sees before itself
    max_period: float = 10000.0  # of the places in time, in frames


class PostNormLayer(nn.Module):
    """norm1(x + attention), then norm2(x + feed-forward): x [B, T, dim] over `seen` [B, S, dim] → [B, T, dim]."""

    def __init__(self, config: EncodecLMConfig) -> None:
        super().__init__()
        self.attention = Attention(config.dim, config.heads, bias=True)
        self.feed_forward = FeedForward(config.dim, config.hidden, bias=True)
        self.norm1, self.norm2 = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        mask = AttentionMask(torch.ones(1, 1, 1, seen.shape[1], dtype=torch.bool, device=seen.device))
        x = self.norm1(x + self.attention.attend_to(x, seen, mask))
        return self.norm2(x + self.feed_forward(x))


class EncodecLM(Model):
    """Codes of one frame [K] → probabilities [K, codes] of the next frame's; K may be less than all codebooks."""

    Config = EncodecLMConfig
    config: EncodecLMConfig
    key_maps = (
        KeyMap(
            "encodec",
            (
                Rule(r"layers\.(\d+)\.attention\.in_proj\.(\w+)", r"transformer.layers.\1.self_attn.in_proj_\2"),
                Rule(r"layers\.(\d+)\.attention\.out_proj\.(\w+)", r"transformer.layers.\1.self_attn.out_proj.\2"),
                Rule(r"layers\.(\d+)\.feed_forward\.(.+)", r"transformer.layers.\1.\2"),
                Rule(r"layers\.(.+)", r"transformer.layers.\1"),
                Rule(r"norm\.(\w+)", r"transformer.norm_in.\1"),
                Rule(r"embeddings\.(.+)", r"emb.\1"),
                Rule(r"heads\.(.+)", r"linears.\1"),
            ),
        ),
    )

    def __init__(self, config: EncodecLMConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.threads = 1  # of PyTorch while it computes
        codebooks = range(config.num_codebooks)
        self.embeddings = nn.ModuleList(nn.Embedding(config.codebook_size + 1, config.dim) for _ in codebooks)
        self.norm = nn.LayerNorm(config.dim)
        self.layers = nn.ModuleList(PostNormLayer(config) for _ in range(config.layers))
        self.heads = nn.ModuleList(Linear(config.dim, config.codebook_size) for _ in codebooks)

    def predictions(self, num_codebooks: int) -> Predictions:
        """The probabilities of a segment's frames, one after the other."""
        return Predictions(self, num_codebooks)

    @contextmanager
    def reproducible(self, threads: int | None = None) -> Iterator[None]:
        """Inside, PyTorch computes in plain float32 and with so many threads (`self.threads` unless given), for one
        caller at a time."""
        with _one_at_a_time, matmul_precision("exact"), torch.inference_mode(), torch_threads(threads or self.threads):
            yield

    def place(self, frame: int) -> Tensor:
        """[1, 1, dim]: cosines and sines of a frame's number, of periods from 2π to 2π · `max_period` frames."""
        half = self.config.dim // 2
        octaves = torch.arange(half, device=self.device).view(1, 1, -1) / (half - 1)
        phase = torch.tensor([[[frame]]], device=self.device) / self.config.max_period**octaves
        return torch.cat([phase.cos(), phase.sin()], dim=-1)

    def step(self, entries: Tensor, frame: int, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One frame.

        Args:
            entries: [1, K, 1], the codes of the frame before plus 1; 0 before the first.
            past: of each layer, what went into it [1, S, dim].

        Returns:
            Probabilities [1, codes, K, 1], and the past of the next frame.
        """
        pairs = list(zip(self.embeddings, self.heads, strict=True))[: entries.shape[1]]
        x = sum(embedding(entries[:, k]) for k, (embedding, _) in enumerate(pairs))
        x = self.norm(x) + self.place(frame)
        after = []
        for layer, before in zip(self.layers, past, strict=True):
            seen = torch.cat([before, x], dim=1)
            after.append(seen[:, -self.config.past :])
            x = layer(x, seen)
        logits = torch.stack([head(x) for _, head in pairs], dim=1)  # [1, K, 1, codes]
        return torch.softmax(logits.permute(0, 3, 1, 2), dim=1), after


class Predictions:
    """The probabilities of a segment's frames. To be used inside `EncodecLM.reproducible`.

    predictions = language_model.predictions(num_codebooks)
    for codes in frames:
        probabilities = predictions.next()
        predictions.saw(codes)
    """

    def __init__(self, model: EncodecLM, num_codebooks: int) -> None:
        config = model.config
        self._model, self._frame = model, 0
        self._entries = torch.zeros(1, num_codebooks, 1, dtype=torch.int64, device=model.device)
        self._past = [torch.zeros(1, 1, config.dim, device=model.device) for _ in range(config.layers)]

    def next(self) -> npt.NDArray[np.float32]:
        """[K, codes] of the next frame."""
        probabilities, self._past = self._model.step(self._entries, self._frame, self._past)
        self._frame += 1
        return cast("npt.NDArray[np.float32]", probabilities[0, :, :, 0].T.cpu().numpy())

    def saw(self, codes: npt.NDArray[np.int64]) -> None:
        """The codes [K] that this frame has."""
        self._entries = torch.from_numpy(codes + 1).view(1, -1, 1).to(self._model.device)


# -- loading ----------------------------------------------------------------------------------------


@functools.cache
def language_models() -> Mapping[str, Variant]:
    """The models of `configs/`, by the codec whose codes they know. The file has the form of the codecs'
    (docs/codec_toml.md)."""
    package = "codeczoo.codecs.formats"
    found = read_configs(files(package) / "configs", "codecs/formats/configs", package)
    return {one.name.replace("_lm_", "_"): one for one in found}


def load_language_model(
    codec: str,
    weights: str | Path | Mapping[str, Any] | None = None,
    *,
    threads: int = 1,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> EncodecLM:
    """The language model of `encodec_24k` or `encodec_48k`, on the CPU.

    Args:
        codec: variant whose codes it knows.
        weights: a file or tensors in place of the published ones; "random", as in `load_codec`.
        threads: of PyTorch while it computes. Files are read with the number with which they were written; the
            published package writes with `torch.get_num_threads()`.
        cache_dir, local_files_only: as of `load_codec`.

    Raises:
        ValueError: no model knows that codec's codes; weights that do not fit.
        WeightsUnavailableError: the published weights are not in the cache and cannot be had.
    """
    variants = language_models()
    if codec not in variants:
        raise ValueError(f"there are language models of the codes of {' and '.join(variants)}, none of {codec}")
    try:
        model = load_model(
            variants[codec], weights, device="cpu", cache_dir=cache_dir, local_files_only=local_files_only
        )
    except WeightsUnavailableError as error:
        raise WeightsUnavailableError(
            f"the language model that entropy-codes {codec}'s codes cannot be had. {error}. They are the weights= of "
            "load_language_model, and --lm-weights in the shell"
        ) from error
    assert isinstance(model, EncodecLM)
    model.threads = threads
    return model


@functools.lru_cache(maxsize=2)
def published_language_model(codec: str) -> EncodecLM:
    """`load_language_model(codec)`, loaded once a process."""
    return load_language_model(codec)
