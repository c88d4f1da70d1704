"""Speaker embeddings of single clips, for trials of speaker verification."""

from __future__ import annotations

import torch
from torch import Tensor

from codeczoo.base.audio import Audio
from codeczoo.base.device import matmul_precision
from codeczoo.metrics.judged import RATE, in_groups
from codeczoo.metrics.networks.models import network
from codeczoo.metrics.verification import crops_of

SPEAKER_NETWORKS = ("ecapa_voxceleb", "wavlm_base_plus_sv", "resemblyzer")


def speaker_embeddings(clip: Audio, name: str, device: torch.device) -> Tensor | None:
    """A clip by one of SPEAKER_NETWORKS → [1 + C, E] float64 on the CPU: of the whole, and of five crops of 3 s.

    Channels are mixed to one, and resampled to 16 kHz with the `hann` filter. Resemblyzer embeds voice only: crops
    without any are left out. None where there is no voice at all, no sample, or fewer than the
    network takes (ECAPA 40 ms, WavLM 0.325 s).

    Raises:
        NoModelError: the network cannot be had.
        ValueError: another name, or more than one clip.
    """
    if name not in SPEAKER_NETWORKS:
        raise ValueError(f"there is no speaker network {name!r}; there are: {', '.join(SPEAKER_NETWORKS)}")
    if len(clip) != 1:
        raise ValueError(f"one clip at a time; these are {len(clip)}")
    model = network(name, device).model
    clip = clip.mix(1).resample(RATE)
    samples = clip.waveform[0, 0, : int(clip.lengths[0])].float()
    if len(samples) < (1 if name == "resemblyzer" else model.shortest) or not bool(samples.isfinite().all()):
        return None
    clips = [samples, *crops_of(samples)]
    with matmul_precision("exact"):
        if name == "resemblyzer":
            whole, *crops = model([one.cpu().numpy() for one in clips])
        else:
            whole, *crops = in_groups([one.to(device) for one in clips], model)
    heard = [crop for crop in crops if crop is not None]
    return None if whole is None or not heard else torch.stack([one.double().cpu() for one in (whole, *heard)])
