"""The template codec: the published numbers, and what only this family has.

Here the published implementation is so small that it stands in this file. Of a real one, one run is kept as a golden
case in tests/golden/ (docs/adding_a_codec.md), and `test_golden` compares with that.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.catalogue import parse_family
from codeczoo.weights.load import load_weights
from examples.template_codec.template_codec import TemplateCodec, TemplateConfig
from tests.support.golden import assert_audio_agrees, assert_codes_agree

(VARIANT,) = parse_family("template_codec", tomllib.loads(Path(__file__).with_name("template_codec.toml").read_text()))

# -- for the tests of all families (tests/support/declarations.py) --------------------------------

SMALL: dict[str, object] = {"filters": 4, "dim": 16, "codebook_size": 32}
LICENCE = "MIT"


class Published(nn.Module):
    """The authors' network: plain PyTorch, one clip at a time, weight norm as in training."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm
        self.encoder, self.decoder = nn.ModuleDict(), nn.ModuleDict()
        self.encoder["conv_in"] = norm(nn.Conv1d(1, 32, 7, padding=3))
        self.encoder["blocks"] = nn.ModuleList(
            norm(nn.Conv1d(width, 2 * width, 2 * s, s, padding=-(-s // 2))) for width, s in ((32, 4), (64, 5), (128, 8))
        )
        self.encoder["conv_out"] = norm(nn.Conv1d(256, 64, 3, padding=1))
        self.quantizer = nn.ModuleList(nn.Module() for _ in range(4))
        for level in self.quantizer:
            level.register_buffer("embed", torch.randn(256, 64))
            level.register_buffer("cluster_size", torch.ones(256))
        self.decoder["conv_in"] = norm(nn.Conv1d(64, 256, 7, padding=3))
        self.decoder["blocks"] = nn.ModuleList(
            norm(nn.ConvTranspose1d(width, width // 2, 2 * s, s, padding=-(-s // 2), output_padding=s % 2))
            for width, s in ((256, 8), (128, 5), (64, 4))
        )
        self.decoder["conv_out"] = norm(nn.Conv1d(32, 1, 7, padding=3))

    def run(self, side: nn.ModuleDict, x: Tensor) -> Tensor:
        x = side["conv_in"](x)
        for block in side["blocks"]:
            x = block(F.elu(x))
        return side["conv_out"](F.elu(x))

    def encode(self, waveform: Tensor) -> Tensor:
        """[1, 1, T], T whole frames → codes [1, 4, N]."""
        residual, codes = self.run(self.encoder, waveform)[0].T, []
        for level in self.quantizer:
            codes.append(torch.cdist(residual, level.embed).argmin(-1))
            residual = residual - level.embed[codes[-1]]
        return torch.stack(codes)[None]

    def decode(self, codes: Tensor) -> Tensor:
        """[1, 4, N] → [1, 1, N * 160]."""
        vectors = sum(level.embed[code] for level, code in zip(self.quantizer, codes[0], strict=True))
        return self.run(self.decoder, vectors.T[None]).tanh()


@torch.no_grad()
def test_golden() -> None:
    torch.manual_seed(0)
    published = Published().double()
    codec = TemplateCodec(TemplateConfig(**VARIANT.network), VARIANT).double().eval()
    load_weights(codec, published.state_dict())
    clip = torch.randn(1, 1, 160 * 50, dtype=torch.float64)
    codes = published.encode(clip)
    assert_codes_agree(codec.encode(clip, 16000).codes, codes, torch.ones_like(codes, dtype=torch.bool))
    assert_audio_agrees(codec.decode(codes).waveform, published.decode(codes), 1e-6)
