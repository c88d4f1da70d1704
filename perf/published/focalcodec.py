from __future__ import annotations

from perf.published.interface import Case, Given, Published, on_path

NAMES = ("50hz", "25hz", "12_5hz", "50hz_2k_causal", "50hz_4k_causal", "50hz_65k_causal")


def repository(given: Given) -> Published:
    """Tensors named as version 0.0.1 named them go through the renaming of its own loader."""
    on_path(given.checkout)
    from focalcodec import FocalCodec

    settings = dict(given.settings)
    decoder = dict(settings["decoder_config"])
    if "input_channels" in decoder:  # as version 0.0.1 said it; that one knew one padding
        decoder["input_dim"] = decoder.pop("input_channels")
        decoder.pop("padding")
    model = FocalCodec(**settings | {"decoder_config": decoder})
    model.load_state_dict(FocalCodec._remap_state_dict(dict(given.state), list(model.state_dict())))
    model = model.eval().to(given.codec.device)
    return Published(
        encode=lambda x: model.sig_to_toks(x[:, 0]),
        to_ours=lambda codes: codes[:, None],
        decode=model.toks_to_sig,
        from_ours=lambda codes: codes.codes[:, 0],
    )


CASES = tuple(
    Case(f"focalcodec_{name}", f"focalcodec_{name}", "focalcodec", repository, repository="lucadellalib/focalcodec")
    for name in NAMES
)
