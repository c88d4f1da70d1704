from __future__ import annotations

import importlib

from perf.published.interface import Case, Given, Published, on_path, part, torch_load

RATES = {"16k_320d": "16k-320d", "24k_320d": "24k-320d", "24k_240d": "24k-240d"}


def academicodec(given: Given) -> Published:
    checkout = on_path(given.checkout)
    kind = importlib.import_module("academicodec.models.hificodec.vqvae").VQVAE
    name = given.codec.name.removeprefix("academicodec_hifi_")
    settings = checkout / "egs" / f"HiFi-Codec-{RATES[name]}" / f"config_{name}.json"
    with torch_load({entry: part(given.state, f"{entry}.") for entry in ("generator", "encoder", "quantizer")}):
        model = kind(str(settings), "", with_encoder=True)
    model = model.eval().to(given.codec.device)
    return Published(
        encode=lambda x: model.encode(x[:, 0]),
        to_ours=lambda codes: codes.transpose(1, 2),
        decode=model,
        from_ours=lambda codes: codes.codes.transpose(1, 2),
    )


CASES = tuple(
    Case(
        f"academicodec_hifi_{name}",
        f"academicodec_hifi_{name}",
        "AcademiCodec",
        academicodec,
        repository="yangdongchao/AcademiCodec",
    )
    for name in RATES
)
