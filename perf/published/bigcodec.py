from __future__ import annotations

from perf.published.interface import Case, Given, Published, loaded, part, swapped


def bigcodec(given: Given) -> Published:
    from bigcodec import BigCodec

    model = BigCodec(
        ngf=48,
        use_rnn=True,
        rnn_bidirectional=False,
        rnn_num_layers=2,
        up_ratios=(2, 2, 2, 5, 5),
        dilations=(1, 3, 9),
        out_channels=1024,
        codebook_size=8192,
        vq_num_quantizers=1,
        codebook_dim=8,
    )
    loaded(model.encoder, part(given.state, "CodecEnc."))
    loaded(model.decoder, part(given.state, "generator."))
    model = model.eval().to(given.codec.device)
    # It gives codes [1, B, N] and takes codes [B, 1, N].
    return Published(encode=model.encode, to_ours=swapped, decode=model.decode, from_ours=lambda codes: codes.codes)


CASES = (Case("bigcodec_1k", "bigcodec_16k", "bigcodec", bigcodec),)
