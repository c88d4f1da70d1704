"""Checkpoints as their authors publish them, with small networks in them.

A golden manifest says what a published checkpoint holds: each tensor's key, shape and kind of values. Here it is
written for the same network with fewer channels and layers: what belongs to the network gets the shape that goes with
the small one's, what no inference needs (discriminators, histories, windows) stays beside it at the size of a crumb.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import pathlib
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from codeczoo.base.catalogue import Variant, find_variant
from codeczoo.weights.convert import _stored, fit
from tests.support import golden_weights
from tests.support.golden import manifest_of
from tests.support.small import small_variant

Shape = tuple[int, ...]


def state_of(variant: Variant) -> dict[str, Tensor]:
    """The names and shapes of our parameters."""
    with torch.device("meta"):
        return variant.build().state_dict()


def shapes_of(manifest: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a manifest, without values."""
    return {entry["key"]: torch.empty(entry["shape"], device="meta") for entry in manifest["tensors"]}


@functools.cache
def small_checkpoint(name: str, folder: str, manifest: str = "manifest.json") -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a variant's checkpoint under their published keys, and the keys that the network is made of."""
    golden = manifest_of(folder, manifest)
    published, full, small = shapes_of(golden), state_of(find_variant(name)), state_of(small_variant(name))
    (_, left_over), key_map = fit(published, full, find_variant(name).codec_type().key_maps)
    assert left_over == 0, "the manifest is of another network"
    shapes: dict[str, Shape] = {}
    for ours in sorted(small, key=lambda name: -small[name].numel()):
        for source in key_map.sources(ours)[0]:
            for key in _stored(published, source):
                if key not in shapes:
                    shapes[key] = _shrunk(published[key].shape, full[ours].shape, small[ours].shape)
    tensors: dict[str, Tensor] = {}
    for entry in golden["tensors"]:
        key = entry["key"]
        if key not in shapes and not key_map.is_unused(key):
            continue  # of a layer that the small network lacks
        crumb = entry["shape"] if "values" in entry else [min(n, 2) for n in entry["shape"]]
        array = golden_weights.tensor({**entry, "shape": shapes.get(key, crumb)}, "small")
        tensors[key] = torch.from_numpy(array)
    return tensors, [key for key in tensors if key in shapes]


def _shrunk(shape: Sequence[int], full: Sequence[int], small: Sequence[int]) -> Shape:
    """The shape of a published tensor in the small network, where our parameter is `small` in place of `full`."""
    if tuple(shape) in (tuple(full), tuple(full[1:])):
        return tuple(small[len(full) - len(shape) :])
    if len(shape) == len(full) and all(n in (1, whole) for n, whole in zip(shape, full, strict=True)):
        return tuple(1 if n == 1 else part for n, part in zip(shape, small, strict=True))  # weight norm's magnitude
    return tuple(_scaled(n, list(zip(full, small, strict=True))) for n in shape)


def _scaled(n: int, sizes: Sequence[tuple[int, int]]) -> int:
    """A size that stands in another place, is one more, a part or a multiple of one that became smaller; or stays."""
    for whole, part in sizes:
        if n in (whole, whole + 1):
            return part + n - whole
    for whole, part in sizes:
        if n > 1 and whole > 1 and part * n % whole == 0 and max(whole, n) % min(whole, n) == 0:
            return part * n // whole
    return n


# -- how authors nest them, and what they leave beside them ---------------------------------------


def by_entry(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Keys split at the first dot."""
    out: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        entry, _, rest = key.partition(".")
        out.setdefault(entry, OrderedDict())[rest] = tensor
    return out


@contextlib.contextmanager
def foreign_classes(*names: str) -> Iterator[list[type]]:
    """Classes of packages that are not here, so that their objects can be pickled as if they were."""
    modules: dict[str, types.ModuleType] = {}
    classes = []
    for name in names:
        module, _, leaf = name.rpartition(".")
        for depth in range(1, module.count(".") + 2):
            part = ".".join(module.split(".")[:depth])
            modules.setdefault(part, types.ModuleType(part))
        kind = type(leaf, (), {"__module__": module})
        setattr(modules[module], leaf, kind)
        classes.append(kind)
    with mock.patch.dict(sys.modules, modules):
        yield classes


def save_lightning(tensors: Mapping[str, Tensor], path: pathlib.Path) -> None:
    """As a Lightning trainer leaves it: settings of omegaconf, moments of the optimiser, callbacks, paths, versions."""
    model = nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    names = ("omegaconf.dictconfig.DictConfig", "omegaconf.base.ContainerMetadata", "lightning.fabric.utilities.Data")
    with foreign_classes(*names) as (config, metadata, data):
        settings, about = config(), metadata()
        about.__dict__.update(ref_type=dict, optional=True, key=None)
        settings.__dict__.update(_metadata=about, _content={"lr": 1e-4, "path": pathlib.PurePosixPath("data/train")})
        torch.save(
            {
                "epoch": 3,
                "global_step": 1000,
                "pytorch-lightning_version": "1.8.6",
                "state_dict": OrderedDict(tensors),
                "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3}}}},
                "callbacks": {
                    "ModelCheckpoint": {"best_model_score": torch.tensor(0.5), "dirpath": pathlib.Path("runs")}
                },
                "optimizer_states": [optimiser.state_dict(), optimiser.state_dict()],
                "lr_schedulers": [{"base_lrs": [np.float64(1e-4)], "_step_count": 7}],
                "hparams_name": "kwargs",
                "hyper_parameters": {"model": settings, "args": argparse.Namespace(batch=8), "data": data()},
            },
            path,
        )


def save_onnx(tensors: Mapping[str, Tensor], folder: str, path: pathlib.Path) -> None:
    """A graph with the node and initializer names that the manifest of `folder` notes for each tensor; of a block that
    it does not know, those of block 0."""
    from onnx import GraphProto, helper, numpy_helper

    places = {entry["key"]: entry["onnx"] for entry in manifest_of(folder)["tensors"]}
    graph = GraphProto(name="speech_tokenizer")
    nodes: dict[str, dict[int, str]] = {}
    for i, (key, tensor) in enumerate(tensors.items()):
        place = places[key] if key in places else _in_block(key, places)
        array = tensor.T.contiguous() if place.get("transpose") else tensor
        initializer = place.get("initializer", f"onnx::{i}")
        graph.initializer.append(numpy_helper.from_array(array.numpy(), initializer))
        if "node" in place:
            node = place["node"] if "contains" not in place["node"] else "/quantizer/project_in/MatMul"
            nodes.setdefault(node, {})[place.get("input", 1)] = initializer
    for node, inputs in nodes.items():
        slots = ["x", *(inputs.get(j, "") for j in range(1, max(inputs) + 1))]
        graph.node.append(helper.make_node(node.rpartition("/")[2].split("_")[0], slots, [f"{node}:0"], name=node))
    path.write_bytes(helper.make_model(graph).SerializeToString())


def _in_block(key: str, places: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    block, _, rest = key.removeprefix("encoder.blocks.").partition(".")
    first = dict(places[f"encoder.blocks.0.{rest}"])
    return {name: v.replace("blocks.0", f"blocks.{block}") if isinstance(v, str) else v for name, v in first.items()}
