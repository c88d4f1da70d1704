"""What a run records of the networks by which it judged."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from codeczoo.metrics.crepe_pitch import ENDING
from codeczoo.metrics.error_rates import ERROR_RATES
from codeczoo.metrics.networks.models import NoModelError, network
from codeczoo.metrics.networks.recogniser import Recogniser
from codeczoo.metrics.networks.transcriber import transcriber
from codeczoo.metrics.opinion import REFERENCE
from codeczoo.metrics.speaker import NETWORKS as SPEAKER_NETWORKS

NETWORKS = {"utmos": "utmos22_strong", "distillmos": "distillmos", **SPEAKER_NETWORKS}


def describe_networks(
    metrics: Collection[str], device: torch.device, recogniser: Recogniser
) -> dict[str, dict[str, Any]]:
    """For each of `metrics` that networks compute: where the weights came from, and their sha256; of error rates the
    model, its commit, language, normaliser and the packages' versions. `missing` says why one cannot be had.

    Raises:
        ValueError: a recogniser that is none, or that does not know the language.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in metrics:
        plain = name.removesuffix(REFERENCE)
        wanted = "dnsmos" if plain.startswith("dnsmos_") else NETWORKS.get(plain)
        wanted = "crepe_tiny" if name.endswith(ENDING) else wanted
        try:
            if name in ERROR_RATES:
                found[name] = transcriber(recogniser, device).facts
            elif wanted is not None:
                loaded = network(wanted, device)
                found[name] = {"network": wanted, "source": loaded.source, "sha256": loaded.sha256}
        except NoModelError as error:
            asked = {"model": recogniser.model, "revision": recogniser.revision} if name in ERROR_RATES else {}
            found[name] = {**(asked or {"network": wanted}), "missing": str(error)}
    return found
