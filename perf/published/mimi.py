from __future__ import annotations

from perf.published.interface import Case, Given, Published, from_hub_names, identity, loaded


def moshi(given: Given) -> Published:
    from moshi.models import loaders

    model = loaded(loaders.get_mimi(None, device="cpu", num_codebooks=given.codec.num_codebooks), given.state)
    model = model.to(given.codec.device)
    return Published(encode=model.encode, to_ours=identity, decode=model.decode)


def transformers(given: Given) -> Published:
    from transformers import MimiConfig, MimiModel

    model = from_hub_names(MimiModel, MimiConfig(), given.state).to(given.codec.device)
    return Published(
        encode=lambda x: model.encode(x, num_quantizers=given.codec.num_codebooks).audio_codes,
        to_ours=identity,
        decode=lambda codes: model.decode(codes).audio_values,
    )


CASES = (
    Case("mimi", "mimi", "moshi", moshi),
    Case("mimi", "mimi", "transformers", transformers, manifest="manifest_hf.json"),
)
