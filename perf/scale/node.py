"""One process of a run on this machine: G.711 that takes as long as a GPU of `SCALE_PACE` seconds of audio a second."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from torch import Tensor

from codeczoo import register_codec
from codeczoo.base.network import Encoded
from codeczoo.codecs.g711 import G711
from codeczoo.tokens.settings import TokenSettings
from codeczoo.tokens.tokenize import tokenize

NAME = "paced_g711"
PACE = "SCALE_PACE"  # of the environment: of this node; none = no waiting
LOG = "SCALE_LOG"  # a file to which the time is appended at which a batch begins


class Paced(G711):
    """G.711; each batch takes its seconds of audio over the pace, as on a device that works without this CPU."""

    def _encode(self, waveform: Tensor, lengths: Tensor, num_codebooks: int) -> Encoded:
        began = time.time()
        if LOG in os.environ:
            with Path(os.environ[LOG]).open("a") as file:
                file.write(f"{began}\n")
        encoded = super()._encode(waveform, lengths, num_codebooks)
        if PACE in os.environ:
            seconds = float(lengths.sum()) / self.sample_rate / float(os.environ[PACE])
            time.sleep(max(0.0, seconds - (time.time() - began)))
        return encoded


def register() -> None:
    register_codec(f'[family]\nclass = "Paced"\nnetwork = {{ law = "mu" }}\n\n[variants.{NAME}]\n', Paced)


def settings(dataset: str, out: str, clips: int, **more: object) -> TokenSettings:
    """`clips` a shard and a batch, so that a shard is one call of the device."""
    common = {"codec": NAME, "dataset": dataset, "out": out, "shard_clips": clips, "batch": clips, "progress": False}
    return TokenSettings(**{**common, "workers": 1, **more})  # type: ignore[arg-type]


if __name__ == "__main__":
    register()
    tokenize(settings(sys.argv[1], sys.argv[2], int(sys.argv[3]), **json.loads(sys.argv[4])))
