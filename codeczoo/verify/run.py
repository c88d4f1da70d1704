"""`verify`: the checks of one codec in their order. What stands first costs least and says most."""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from codeczoo.base.catalogue import find_variant
from codeczoo.base.codec import BaseCodec
from codeczoo.base.device import choose_device
from codeczoo.base.variant import WeightsSource
from codeczoo.registry import load_codec
from codeczoo.verify import expected, promises, quality, superb
from codeczoo.verify.checks import Check, Report
from codeczoo.version import __version__
from codeczoo.weights.convert import CheckpointError
from codeczoo.weights.download import INSIST, WeightsUnavailableError

log = logging.getLogger(__name__)

PUBLISHED = "the published file"


def verify(
    name: str,
    weights: str | Path | None = None,
    *,
    data: str | None = None,
    full: str | None = None,
    device: str | None = None,
    expect: str | Path | None = None,
    record: str | Path | None = None,
    local_files_only: bool = False,
) -> Report:
    """Is what lies on this machine the published codec, and does it do what it should?

    Args:
        name: of a codec; weights: a file, folder or archive of its weights; None = the published ones.
        data: LibriSpeech dummy, a folder or a name on the hub; without it no codes of recordings are compared.
        full: Codec-SUPERB's small data set, a folder or a name on the hub; without it its table is not compared.
        device: whose codes are also compared with the CPU's; None = as of `load_codec`.
        expect: a file that `record` wrote, to compare with too; record: such a file to write.
        local_files_only: never ask the network.

    Raises:
        KeyError: no such codec; FileNotFoundError: weights that are not there, or cannot be had.
    """
    variant = find_variant(name)
    place = choose_device(device)
    facts: dict[str, Any] = {
        "codeczoo": __version__,
        "torch": torch.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else place.type,
    }
    checks: list[Check] = []
    try:
        codec = load_codec(name, weights, device=place, local_files_only=local_files_only)
    except (WeightsUnavailableError, FileNotFoundError):
        raise
    except CheckpointError as error:
        checks.append(Check.of("tensors", False, str(error), "every tensor, in its shape, finite"))
        return Report(variant.name, checks, facts)
    except ValueError as error:
        checks.append(Check.of("file", False, str(error), PUBLISHED))
        return Report(variant.name, checks, facts)
    source = str(codec.variant.weights or "none needed") if weights is None else "given"
    facts |= {"weights": source, "sha256": codec.weights_hash}
    checks.append(file(codec, given=weights is not None))
    checks.append(tensors(codec))
    known = expected.records_of(codec, None if expect is None else Path(expect))
    with torch.inference_mode():
        checks += _each("known outputs", expected.without_data(codec, known))
        checks += _each("promises", promises.promises(codec))
        checks += _each("quality", quality.quality(codec))
        checks += _each("known codes", expected.with_data(codec, known, data))
        checks += _each("Codec-SUPERB", superb.on_superb(codec, known, full, weights, str(place)))
        checks += _each("devices", _devices(codec, name, weights, local_files_only))
        if record is not None:
            Path(record).write_text(json.dumps({"records": expected.record(codec)}), "utf-8")
    return Report(variant.name, checks, facts)


def file(codec: BaseCodec, given: bool) -> Check:
    """The file's hash against the published ones. (Published weights are checked when they are fetched, file by file;
    a wrong one never gets here.)"""
    digest, variant = codec.weights_hash, codec.variant
    if codec.weights_source and digest is None:
        return Check.of("file", False, codec.weights_source, PUBLISHED)
    if digest is None:
        return Check.skipped("file", "no weights are needed")
    pins = {one.sha256: str(one) for one in (variant.weights, *variant.copies) if one and one.sha256}
    match = next((place for pin, place in pins.items() if digest.startswith(pin.lower())), None)
    if match:
        return Check.of("file", True, f"sha256 {digest[:16]}, {PUBLISHED} {match}")
    source = variant.weights
    if not given and source is not None and (source.more or not source.sha256):
        return _by_other_pins(source, digest)
    if not pins:
        return Check.skipped("file", f"sha256 {digest[:16]}; that of the published file is not known")
    return Check.of(
        "file", False, f"sha256 {digest[:16]}, which is of no published file", ", ".join(p[:16] for p in pins)
    )


def _by_other_pins(source: WeightsSource, digest: str) -> Check:
    """Of several files, or of one whose sha256 is not known: each was compared when it was fetched."""
    if os.environ.get(INSIST) == "allow":
        return Check.skipped("file", f"sha256 {digest[:16]}; not compared, as {INSIST}=allow says")
    parts = (source, *source.more)
    pinned = {key for part in parts for key in ("sha256", "revision", "size") if _pin(part, key)}
    if not pinned:
        return Check.skipped("file", f"sha256 {digest[:16]}; the newest of {source}, of which nothing is known")
    return Check.of("file", True, f"sha256 {digest[:16]}, by {' and '.join(sorted(pinned))} of {source}")


def _pin(part: Any, key: str) -> Any:
    return part.get(key) if isinstance(part, dict) else getattr(part, key, None)


def tensors(codec: BaseCodec) -> Check:
    """They were found, fit and are finite, or loading had failed; here they are counted."""
    state = codec.state_dict()
    if not state:
        return Check.skipped("tensors", "there are none")
    count = sum(tensor.numel() for tensor in state.values())
    broken = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    told = f"{len(state)} tensors, {count:,} values, each in its shape and finite"
    return Check.of("tensors", not broken, f"not finite: {', '.join(broken[:3])}" if broken else told)


def _devices(codec: BaseCodec, name: str, weights: str | Path | None, local: bool) -> Iterator[Check]:
    if codec.device.type == "cpu":
        yield Check.skipped("device = cpu", "this is the CPU; --device names another")
        return
    on_cpu = load_codec(name, weights, device="cpu", local_files_only=local)
    yield promises.devices(codec, on_cpu)


def _each(name: str, checks: Iterator[Check]) -> list[Check]:
    """All of a kind; if one ends in an error, that is a failed check, and the others still run."""
    found: list[Check] = []
    try:
        for check in checks:
            log.info("%s: %s", check.name, check.outcome)
            found.append(check)
    except (RuntimeError, ValueError, OSError, ArithmeticError, LookupError) as error:
        log.debug("%s", name, exc_info=True)
        found.append(Check.of(name, False, f"{type(error).__name__}: {error}"))
    return found
