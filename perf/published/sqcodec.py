from __future__ import annotations

from pathlib import Path

from perf.published.interface import Case, Given, Published, loaded, part

NAMES = {
    "sqcodec_16k_0k75bps": "0k75bps",
    "sqcodec_16k_1k5bps": "1k5bps",
    "sqcodec_16k_3kbps": "3kbps",
    "sqcodec_16k_6kbps": "6kbps",
    "sqcodec_16k_12kbps": "12kbps",
    "sqcodec_24k_12kbps": "12kbps_24khz",
    "sqcodec_24k_24kbps": "24kbps_24khz",
}


def sqcodec(given: Given) -> Published:
    import sq_codec

    settings = Path(sq_codec.__file__).parent / "configs" / f"{NAMES[given.codec.name]}.toml"
    model = sq_codec.SQCodec(sq_codec.SQCodecConfig(config_file=settings))
    for name, module in model.network.trainable_modules.items():
        loaded(module, part(given.state, f"{name}."))
    model.network.eval().to(given.codec.device)
    return Published(
        encode=lambda x: model.encode_audio(x[:, 0])[1],
        to_ours=lambda codes: codes.long().reshape(len(codes), 1, -1),
        decode=lambda codes: model.decode_audio(indices=codes),
        from_ours=lambda codes: codes.codes[:, 0],
    )


CASES = tuple(Case(name, name, "sq_codec", sqcodec) for name in NAMES)
