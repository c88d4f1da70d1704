"""UTMOS: a listener's opinion of speech, without a reference.

Paper: "UTMOS: UTokyo-SaruLab System for VoiceMOS Challenge 2022" (arXiv 2204.02152), the strong learner without phoneme
encoder. Upstream: tarepan/SpeechMOS, `utmos22_strong`, which is what papers call UTMOS. (UTMOSv2 is another model.)

    wav2vec 2.0 base → last state [B, N, 768], joined with the embeddings of one domain and one judge
    a bidirectional LSTM, two linear layers → a value a frame; score = 2 * mean over the frames + 3

Upstream takes clips of one length only. Here norm, attention, LSTM and mean see each clip's own frames, so a ragged
batch gives each clip what upstream gives it alone. The waveform is not normalised.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from codeczoo.base.key_map import KeyMap
from codeczoo.base.model import Model
from codeczoo.base.ragged import valid_mask
from codeczoo.base.variant import Variant
from codeczoo.nn.hubert import Hubert, HubertConfig, fairseq_rules


@dataclass(frozen=True)
class UTMOSConfig(HubertConfig):
    """The numbers of wav2vec 2.0 base, and of what stands on it."""

    sample_rate: int = 16000  # Hz
    embedding: int = 128  # of the domain, and of the judge
    lstm: int = 512  # each way
    projection: int = 2048


class UTMOS(Model):
    """Speech [B, 1, T] at 16 kHz → scores [B], about 1 to 5; the higher, the better."""

    Config = UTMOSConfig
    config: UTMOSConfig
    key_maps = (KeyMap("SpeechMOS", fairseq_rules("wav2vec2", "wav2vec2"), unused=(r"wav2vec2\.mask_emb",)),)

    def __init__(self, config: UTMOSConfig, variant: Variant) -> None:
        super().__init__(config, variant)
        self.sample_rate = config.sample_rate
        self.wav2vec2 = Hubert(config)
        self.domain_emb = nn.Parameter(torch.zeros(1, config.embedding))
        self.judge_emb = nn.Parameter(torch.zeros(1, config.embedding))
        width = config.dim + 2 * config.embedding
        self.blstm = nn.LSTM(width, config.lstm, batch_first=True, bidirectional=True)
        self.projection = nn.Sequential(
            nn.Linear(2 * config.lstm, config.projection), nn.ReLU(), nn.Linear(config.projection, 1)
        )

    @property
    def shortest(self) -> int:
        """Samples that make one frame."""
        return next(length for length in range(1, 1 << 20) if self.wav2vec2.out_length(length))

    @torch.no_grad()
    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Scores [B] of clips [B, 1, T] of `lengths` [B] samples, each at least `shortest`."""
        frames = self.wav2vec2.out_length(lengths)
        state = self.wav2vec2(waveform, lengths)
        state = state.masked_fill(~valid_mask(frames, state.shape[1])[..., None], 0.0)
        embeddings = torch.cat([self.domain_emb, self.judge_emb], dim=-1)[:, None].expand(*state.shape[:2], -1)
        packed = pack_padded_sequence(
            torch.cat([state, embeddings], dim=-1), frames.cpu(), batch_first=True, enforce_sorted=False
        )
        values = self.projection(pad_packed_sequence(self.blstm(packed)[0], batch_first=True)[0])[..., 0]
        own = valid_mask(frames, values.shape[1])
        return 2 * values.masked_fill(~own, 0.0).sum(1) / frames + 3
