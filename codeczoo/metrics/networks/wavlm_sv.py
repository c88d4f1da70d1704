"""WavLM's speaker embedding, by which many papers of speech synthesis and codecs measure speaker similarity.

Model: microsoft/wavlm-base-plus-sv, `WavLMForXVector` of Hugging Face transformers: WavLM base+ (arXiv 2110.13900) with
the head of x-vectors.

    the 13 hidden states of WavLM, weighted and summed → 512
    five time-delay layers without padding (14 frames fewer), each with ReLU
    mean and unbiased standard deviation over time, one linear layer → 512

Upstream's batches leak: the group norm counts padding. Here each clip has the embedding that it has alone. Of the
published `preprocessor_config.json`, `do_normalize` decides whether a clip is brought to mean 0 and variance 1 first;
where that file is not at hand, it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.key_map import KeyMap, Rule
from codeczoo.base.model import Model
from codeczoo.base.ragged import valid_mask
from codeczoo.base.variant import Variant
from codeczoo.nn.conv import Conv1d
from codeczoo.nn.hubert import HubertConfig
from codeczoo.nn.wavlm import WavLM, wavlm_rules

UNUSED = (r"wavlm\.masked_spec_embed", r"classifier\..*", r"objective\..*")  # for training


@dataclass(frozen=True)
class WavLMSVConfig(HubertConfig):
    """The numbers of WavLM base+, and of what stands on it."""

    sample_rate: int = 16000  # Hz
    embedding: int = 512
    widths: Sequence[int] = (512, 512, 512, 512, 1500)  # of the time-delay layers
    delay_kernels: Sequence[int] = (5, 3, 3, 1, 1)
    dilations: Sequence[int] = (1, 2, 3, 1, 1)


class WavLMSV(Model):
    """Speech [B, 1, T] at 16 kHz → speaker embeddings [B, 512]."""

    Config = WavLMSVConfig
    config: WavLMSVConfig
    settings_files = ("preprocessor_config.json",)
    key_maps = (
        KeyMap(
            "transformers",
            (
                *wavlm_rules("wavlm", "wavlm"),
                Rule(r"delays\.(\d+)\.bias", r"tdnn.\1.kernel.bias"),
                *(
                    Rule(
                        rf"delays\.({i})\.weight",
                        r"tdnn.\1.kernel.weight",
                        lambda weight, kernel=kernel: weight.unflatten(1, (kernel, -1)).mT.contiguous(),
                    )
                    for i, kernel in enumerate(WavLMSVConfig().delay_kernels)
                ),
                Rule(r"output\.(\w+)", r"feature_extractor.\1"),
            ),
            unused=UNUSED,
        ),
    )

    def __init__(self, config: WavLMSVConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate, self.normalize = config.sample_rate, False
        self.wavlm = WavLM(config)
        self.layer_weights = nn.Parameter(torch.zeros(config.num_layers + 1))
        self.projector = nn.Linear(config.dim, config.widths[0])
        inputs = (config.widths[0], *config.widths)
        self.delays = nn.ModuleList(
            Conv1d(a, b, kernel, dilation=dilation, padding=(0, 0))
            for a, b, kernel, dilation in zip(
                inputs, config.widths, config.delay_kernels, config.dilations, strict=False
            )
        )
        self.output = nn.Linear(2 * config.widths[-1], config.embedding)

    def configure(self, metadata: Mapping[str, Any]) -> None:
        self.normalize = bool(metadata.get("preprocessor_config", {}).get("do_normalize", False))

    @property
    def shortest(self) -> int:
        """Samples that leave two frames, the least that have a standard deviation."""
        lost = sum((k - 1) * d for k, d in zip(self.config.delay_kernels, self.config.dilations, strict=True))
        return next(length for length in range(1, 1 << 20) if self.wavlm.out_length(length) >= lost + 2)

    @torch.no_grad()
    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Embeddings [B, 512] of clips [B, 1, T] of `lengths` [B] samples, each at least `shortest`."""
        if self.normalize:
            waveform = _normalized(waveform, lengths)
        weights = self.layer_weights.softmax(0)
        x = sum(weight * state for weight, state in zip(weights, self.wavlm.states(waveform, lengths), strict=True))
        x, frames = self.projector(x).mT, self.wavlm.out_length(lengths)
        for delay in self.delays:
            x, frames = F.relu(delay(x)), delay.out_length(frames)
        own = valid_mask(frames, x.shape[-1])[:, None]
        mean = x.masked_fill(~own, 0.0).sum(-1) / frames[:, None]
        apart = (x - mean[..., None]).masked_fill(~own, 0.0)
        deviation = (apart.square().sum(-1) / (frames[:, None] - 1)).sqrt()
        return self.output(torch.cat([mean, deviation], dim=-1))


def _normalized(waveform: Tensor, lengths: Tensor) -> Tensor:
    """Mean 0 and variance 1 over each clip's own samples; zeros behind."""
    own, count = valid_mask(lengths, waveform.shape[-1])[:, None], lengths[:, None, None]
    mean = waveform.masked_fill(~own, 0.0).sum(-1, keepdim=True) / count
    apart = (waveform - mean).masked_fill(~own, 0.0)
    return apart / (apart.square().sum(-1, keepdim=True) / count + 1e-7).sqrt()
