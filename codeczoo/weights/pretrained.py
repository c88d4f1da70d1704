"""A codec as a folder or a repository of the hub: its weights, its numbers, and a card that says what it is.

model.safetensors   the tensors under codeczoo's names (`weights.export`)
config.json         the codec's name, its family, and its network's numbers
README.md           the model card: licence, numbers, paper, how to cite
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi, constants

from codeczoo.base.catalogue import find_variant
from codeczoo.base.variant import Variant
from codeczoo.version import __version__
from codeczoo.weights.checkpoint import read_settings
from codeczoo.weights.download import from_hub
from codeczoo.weights.export import export_safetensors

if TYPE_CHECKING:
    from codeczoo.base.codec import BaseCodec

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"

# Licences as TOML files spell them → the hub's names.
LICENCES = {
    "mit": "mit",
    "apache-2.0": "apache-2.0",
    "cc-by-4.0": "cc-by-4.0",
    "cc-by-nc-4.0": "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0": "cc-by-nc-sa-4.0",
}


def save_pretrained(codec: BaseCodec, folder: str | Path) -> None:
    """See `BaseCodec.save_pretrained`."""
    if not codec.state_dict():
        raise ValueError(f"{codec.name} has no weights: there is nothing to save")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    export_safetensors(codec, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(_config(codec), indent=2) + "\n", "utf-8")
    (folder / CARD).write_text(model_card(codec), "utf-8")


def push_to_hub(
    codec: BaseCodec,
    repo: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    token: str | None = None,
) -> str:
    """See `BaseCodec.push_to_hub`."""
    api = HfApi(endpoint=constants.ENDPOINT, token=token)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(codec, folder)
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            revision=revision,
            commit_message=commit_message or f"{codec.name}, by codeczoo {__version__}",
        )
    return str(done.commit_url)


def find_pretrained(
    source: str | Path,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> tuple[Variant, Path]:
    """The variant that a folder or repository of `save_pretrained` holds, and its file of weights.

    Raises:
        FileNotFoundError: no such folder or repository, or none that `save_pretrained` made.
        ValueError: its config.json is of no codec of this version.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        places = [folder / CONFIG, folder / WEIGHTS]
        if not all(place.is_file() for place in places):
            raise FileNotFoundError(
                f"{folder}: {CONFIG} and {WEIGHTS} of save_pretrained are not there; other checkpoints load with "
                "load_codec(NAME, weights=folder)"
            )
    else:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
            raise FileNotFoundError(f"{source!r} is neither a folder that exists nor a repository of the hub")
        where = {"cache_dir": cache_dir, "local_files_only": local_files_only}
        places = [from_hub(str(source), str(source), file, revision, **where) for file in (CONFIG, WEIGHTS)]  # type: ignore[arg-type]
    return _variant(read_settings(places[0]), str(places[0])), places[1]


def _config(codec: BaseCodec) -> dict[str, Any]:
    return {
        "library_name": "codeczoo",
        "codeczoo_version": __version__,
        "codec": codec.variant.root or codec.name,
        "family": codec.variant.family,
        "network": dict(codec.variant.network),
        "sample_rate": codec.sample_rate,
        "weights_from": codec.weights_source,
        "weights_sha256": codec.weights_hash,
    }


def _variant(config: Mapping[str, Any], place: str) -> Variant:
    name, network = config.get("codec"), config.get("network")
    if not isinstance(name, str) or not isinstance(network, Mapping):
        raise ValueError(
            f"{place}: it names no codec of codeczoo, so save_pretrained did not write it. Other checkpoints load with "
            "load_codec(NAME, weights=...)"
        )
    try:
        variant = find_variant(name)
    except KeyError as error:
        raise ValueError(f"{place}: {error.args[0]}") from None
    if variant.family != config.get("family"):
        raise ValueError(f"{place}: {name} is of the family {config.get('family')!r} there and {variant.family!r} here")
    return dataclasses.replace(variant, network=dict(network), defined_in=place)


# -- the card ---------------------------------------------------------------------------------------


def model_card(codec: BaseCodec) -> str:
    """The README of a codec's repository: what its TOML file and its network say of it."""
    info, variant = codec.info, codec.variant
    kind = "audio-to-audio" if codec.supports_decode else "feature-extraction"
    head = [*_licence(variant.weights_licence), "library_name: codeczoo", f"pipeline_tag: {kind}", "tags:"]
    tags = ["audio", "audio-codec", "codeczoo", variant.family]
    use = f'codec = BaseCodec.from_pretrained("this/repository")  # {info.name}\ncodes = codec.encode("talk.wav")'
    use += "\naudio = codec.decode(codes)" if codec.supports_decode else ""
    source = codec.weights_source or "not known"
    digest = f", sha256 {codec.weights_hash}" if codec.weights_hash else ""
    origin = (
        f"Weights: {source}{digest}. Licence: {variant.weights_licence}.\n"
        f"Converted by codeczoo {__version__}: the tensors' names are its own, and weight norm is folded."
    )
    body = [
        f"# {info.name}",
        variant.description or str(type(codec).__doc__).partition("\n")[0],
        f"```python\nfrom codeczoo import BaseCodec\n\n{use}\n```",
        "| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in info.rows().items()),
        origin,
        _citation(variant),
    ]
    return (
        "---\n"
        + "\n".join([*head, *(f"- {tag}" for tag in tags)])
        + "\n---\n\n"
        + "\n\n".join(filter(None, body))
        + "\n"
    )


def _licence(text: str) -> list[str]:
    known = LICENCES.get(text.lower().replace(" ", "-"))
    return [f"license: {known}"] if known else ["license: other", f"license_name: {json.dumps(text)}"]


def _citation(variant: Variant) -> str:
    """How to cite the paper; of arXiv's, with the entry for BibTeX that needs no more than its number."""
    if not variant.paper:
        return ""
    text = f"Please cite its authors' paper: {variant.paper}"
    if number := re.search(r"arxiv\.org/abs/(\d+\.\d+)", variant.paper):
        fields = f"  howpublished = {{arXiv:{number[1]}}},\n  url = {{{variant.paper}}}"
        text += f"\n\n```bibtex\n@misc{{arxiv{number[1]},\n{fields}\n}}\n```"
    return text
