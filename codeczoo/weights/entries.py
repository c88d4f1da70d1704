"""Which of a checkpoint's tensors are the model: its entry, or what stands behind a trainer's or a wrapper's prefix.

`{"model": {"encoder.weight": ...}}` and `{"model.encoder.weight": ...}` are the same here: an *entry* is a path of
names, joined by dots, with which keys begin. An entry is taken without being asked for if what stands behind its path
fits the model exactly, and nothing else in the file does. So no list of prefixes is needed: `generator.`, `codec.`,
`ema_model.` and `module._orig_mod.model.` are all found. What PyTorch's wrappers add inside a name
(`encoder._orig_mod.0.weight`, of a part that was compiled) is taken off too.
"""

from __future__ import annotations

import difflib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from codeczoo.base.key_map import KeyMap
from codeczoo.weights.checkpoint import WHOLE_FILE, common_prefix
from codeczoo.weights.convert import CheckpointError, Reading, fit_of, readings_of, used_keys

# Parts of names that PyTorch's wrappers add: compiled, DeepSpeed, sharded, recomputed; data parallel. The last is a
# name that networks have too, so it is taken off by itself.
WRAPPERS = frozenset(("_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
DATA_PARALLEL = frozenset(("module",))
MAX_PREFIXES = 16  # of one set of tensors, those that come nearest; more are not looked at
MAX_PARTS = 32  # of a prefix
NAMES_SHOWN = 3


@dataclass(frozen=True)
class Entry:
    """Tensors of a checkpoint that may be the model.

    Attributes:
        path: with which their keys begin in the file, joined by dots; "" = they are the whole file.
        told: what errors call it; "" for the whole file.
        tensors: by key, without the path.
        one_of_several: others in the file fit as well, so that the file's hash alone does not say what was loaded.
    """

    path: str
    told: str
    tensors: Mapping[str, Tensor]
    one_of_several: bool = False


def choose_entry(
    candidates: Mapping[str, Mapping[str, Tensor]],
    wanted: Mapping[str, Tensor],
    key_maps: Sequence[KeyMap],
    asked: str | None = None,
) -> Entry:
    """The entry that is the model, or comes nearest to it.

    Args:
        candidates: of a `Checkpoint`.
        wanted: our state dict; key_maps: the namings in which it may be published.
        asked: the path of the entry to take ("ema", "model/ema" or "model.ema"), or the beginning of it.

    Raises:
        ValueError: two entries fit exactly; no entry is called `asked`; or no name is one of the model's.
    """
    readings = readings_of(wanted, key_maps)
    options = list(_options(candidates, readings))
    exact = _distinct([option for option in options if _fits_exactly(option, readings)], readings)
    if asked is not None:
        options = _below(asked, options, candidates)
        chosen = [option for option in exact if option in options]
    else:
        chosen = exact
    if len(chosen) > 1:
        names = " and ".join(option.told or WHOLE_FILE for option in chosen)
        first = next(option.path for option in reversed(chosen) if option.path).replace(".", "/")
        raise ValueError(
            f"{names} fit equally well: say which, as weights_entry={first!r} (--weights PATH::{first} in the shell)"
        )
    if chosen:
        return Entry(chosen[0].path, chosen[0].told, chosen[0].tensors, one_of_several=len(exact) > 1)
    best = max(options, key=lambda option: fit_of(option.tensors, readings)[0])
    if fit_of(best.tensors, readings)[0][0] == 0:
        _say_what_all_begin_with(options[0].tensors, readings)
    return best


def _options(candidates: Mapping[str, Mapping[str, Tensor]], readings: Sequence[Reading]) -> Iterator[Entry]:
    """Every entry that may be the model: those of nested dicts, then those of keys' beginnings."""
    seen = set()
    for name, tensors in candidates.items():
        path, label = _path_of(name)
        seen.add((path, label))
        yield Entry(path, "" if name == WHOLE_FILE else name, tensors)
    for name, tensors in candidates.items():
        if WHOLE_FILE in candidates and name != WHOLE_FILE:
            continue  # its keys are among those of the whole file
        outer, label = _path_of(name)
        ways = (_without(WRAPPERS, tensors), _without(WRAPPERS | DATA_PARALLEL, tensors))
        for keys in (tensors, *ways):
            for prefix in _prefixes(keys, readings):
                if prefix and label.endswith("by file"):
                    continue  # one of several files alone is not the checkpoint
                path = f"{outer}.{prefix}".strip(".")
                if (path, label) not in seen or keys is not tensors:
                    yield Entry(path, _told(path, prefix, keys, label), _behind(prefix, keys))


def _path_of(name: str) -> tuple[str, str]:
    """The path of a candidate, and what `checkpoint.merge` adds to its name."""
    bare, comma, merged = name.partition(", ")
    return ("" if bare == WHOLE_FILE else bare.removeprefix("entry ").strip("'").replace("/", ".")), comma + merged


def _told(path: str, prefix: str, keys: Mapping[str, Tensor], label: str) -> str:
    if prefix and all(key.startswith(f"{prefix}.") for key in keys):
        return f"read without the {prefix + '.'!r} that all {len(keys)} names begin with{label}"
    return f"entry {path.replace('.', '/')!r}{label}" if path else f"{WHOLE_FILE}{label}" if label else ""


def _prefixes(keys: Mapping[str, Tensor], readings: Sequence[Reading]) -> list[str]:
    """The beginnings of keys behind which most of the model's names stand, the most first. "" is one of them."""
    found: Counter[str] = Counter()
    for reading in readings:
        votes: Counter[str] = Counter()
        for key in keys:
            dots = (place + 1 for place, letter in enumerate(key) if letter == ".")
            for start in (0, *itertools.islice(dots, MAX_PARTS)):
                if key[start:] in reading.spellings:
                    votes[key[: max(start - 1, 0)]] += 1
        for prefix, count in votes.items():
            found[prefix] = max(found[prefix], count)
    most = max(found.values(), default=0)
    return [prefix for prefix, count in found.most_common(MAX_PREFIXES) if 2 * count >= most]


def _behind(prefix: str, keys: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    start = f"{prefix}." if prefix else ""
    return {key[len(start) :]: tensor for key, tensor in keys.items() if key.startswith(start)}


def _without(parts: frozenset[str], tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """`tensors` without those parts of their keys; nothing if no key has one, or two would become the same."""
    bare = {".".join(part for part in key.split(".") if part not in parts): t for key, t in tensors.items()}
    return bare if len(bare) == len(tensors) and bare.keys() != tensors.keys() else {}


def _fits_exactly(option: Entry, readings: Sequence[Reading]) -> bool:
    (had, left_over), reading = fit_of(option.tensors, readings)
    return had == len(reading.sources) and left_over == 0


def _distinct(options: Sequence[Entry], readings: Sequence[Reading]) -> list[Entry]:
    """One option for each set of tensors (a file may name a dict twice), and none that is a part of another."""
    found: dict[frozenset[tuple[int, torch.Size]], Entry] = {}
    for option in options:
        used = used_keys(option.tensors, fit_of(option.tensors, readings)[1])
        places = ((option.tensors[key].data_ptr(), option.tensors[key].shape) for key in used)
        found.setdefault(frozenset(places), option)
    outer = [option.path for option in found.values()]
    return [one for one in found.values() if not any(_is_below(one.path, path) for path in outer if path != one.path)]


def _is_below(path: str, outer: str) -> bool:
    return f"{path}.".startswith(f"{outer}." if outer else "")


def _below(asked: str, options: Sequence[Entry], candidates: Mapping[str, Mapping[str, Tensor]]) -> list[Entry]:
    """The options at a path or below it. If no option is, but keys begin so, those keys.

    Raises:
        ValueError: no key begins so; the message offers the entries that there are.
    """
    path = asked.strip("/.").replace("/", ".")
    found = [option for option in options if _is_below(option.path, path)]
    if found:
        return found
    for name, tensors in candidates.items():
        outer, label = _path_of(name)
        prefix = path.removeprefix(f"{outer}.") if outer else path
        if below := _behind(prefix, tensors):
            return [Entry(path, f"entry {path.replace('.', '/')!r}{label}", below)]
    tops = list(dict.fromkeys(key.partition(".")[0] for tensors in candidates.values() for key in tensors))
    near = difflib.get_close_matches(path, tops, n=1, cutoff=0.5)
    there = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(map(repr, tops[:12]))}"
    raise ValueError(f"it has no entry {asked!r}: {there}")


def _say_what_all_begin_with(tensors: Mapping[str, Tensor], readings: Sequence[Reading]) -> None:
    """Raises a CheckpointError if all keys begin alike: one sentence, in place of lists of all there are."""
    shared = common_prefix(tensors)
    if not shared:
        return
    prefix = f"{shared}."
    theirs = ", ".join(key.removeprefix(prefix) for key in list(tensors)[:NAMES_SHOWN])
    ours = ", ".join(names[0] for names in list(readings[0].sources.values())[:NAMES_SHOWN])
    raise CheckpointError(
        f"all {len(tensors)} names begin with {prefix!r}, and what stands behind that ({theirs} ...) is none of this "
        f"model's {len(readings[0].sources)} ({ours} ...)"
    )
