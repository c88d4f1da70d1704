"""Train `zoo_16k`, the codec whose weights lie in the package (docs/zoo_16k.md).

    PYTHONPATH=. python scripts/train_zoo_codec.py DATA RUN --steps 40000          # DATA: scripts/zoo_codec_data.py
    PYTHONPATH=. python scripts/train_zoo_codec.py DATA RUN --steps 40000          # the same again: goes on
    PYTHONPATH=. python scripts/train_zoo_codec.py DATA RUN --export zoo.safetensors

A step takes random pieces of a second at random levels, and lowers the differences of spectra (zoo_codec_losses.py).
First the codec learns without quantisation. At `--quantise-from` k-means makes codebooks of the latents; from then on
they follow as moving averages, and entries that nobody uses are put where latents are. Each piece is decoded from a
random number of codebooks. What is exported is a moving average of the weights.

RUN holds `last.pt` (everything, so that a resumed run is the run that was not stopped), `kept-STEP.pt` now and then,
and `losses.jsonl`, the loss curve. `--steps` sets only where the learning rate falls to zero: over the last fifth
(`--cool-down`).
"""

from __future__ import annotations

import argparse
import functools
import json
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from codeczoo.base.catalogue import Variant, find_variant
from codeczoo.codecs.zoo import OUTPUT_GAIN, Stage, Zoo
from codeczoo.nn.rvq import nearest
from scripts.zoo_codec_losses import RESOLUTIONS, Discriminator, envelope_loss, spectral_losses

KINDS = {"speech": 0.85, "music": 0.1, "audio": 0.05}  # share of the pieces
OFTEN = (0.125, 0.25, 0.25, 0.25, 0.125)  # how often each of RESOLUTIONS is looked at
LEVELS = (-38.0, -16.0)  # dB of full scale, RMS
USAGE_DECAY, RARE = 0.99, 0.02  # of an entry's use in a step, smoothed; entries below are restarted
KMEANS_BATCHES, KMEANS_ROUNDS = 16, 8


# -- data -----------------------------------------------------------------------------------------------------------


class Recordings:
    """Random pieces of the recordings in DATA/train."""

    def __init__(self, data: Path, samples: int) -> None:
        self.samples = samples
        self.sources: list[NDArray[np.int16]] = []
        weights = []
        rows = json.loads((data / "data.json").read_text())
        for kind, share in KINDS.items():
            own = [row for row in rows if row["kind"] == kind and row["hours"] > 0]
            total = sum(row["hours"] ** 0.5 for row in own)
            for row in own:
                self.sources.append(np.load(data / "train" / f"{row['name']}.npy", mmap_mode="r"))
                weights.append(share * row["hours"] ** 0.5 / total)
        self.weights = np.array(weights) / sum(weights)

    def batch(self, size: int, r: np.random.Generator) -> Tensor:
        """[size, 1, samples], each at a random level."""
        out = np.empty((size, 1, self.samples), np.float32)
        for row in out[:, 0]:
            level = 0.0
            while level < 10 ** (-50 / 20):  # not a piece of silence
                source = self.sources[int(r.choice(len(self.sources), p=self.weights))]
                start = int(r.integers(max(len(source) - self.samples, 1)))
                piece = source[start : start + self.samples] / 32768
                row[:] = 0
                row[: len(piece)] = piece
                level = float(np.sqrt((row**2).mean()))
            gain = min(10 ** (r.uniform(*LEVELS) / 20) / level, 0.99 / float(np.abs(row).max()))
            row *= gain * r.choice([-1, 1])
        return torch.from_numpy(out)


# -- first weights --------------------------------------------------------------------------------------------------


@torch.no_grad()
def initialise(codec: Zoo, seed: int) -> None:
    """Banks of filters as in a Fourier transform; everything else small and random."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in codec.named_parameters():
        if name.endswith("gamma"):
            parameter.fill_(0.3)
        elif parameter.ndim == 1:
            parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        elif name == "quantizer.codebooks":
            parameter.zero_()
        else:
            # Of a transposed convolution of whole strides each output sees every input once.
            fan_in = len(parameter) if name.startswith("decoder.up") else parameter[0].numel()
            parameter.normal_(0, 0.6 * fan_in**-0.5, generator=generator)
    config = codec.config
    frequencies = (torch.arange(config.bands, dtype=torch.float64) + 0.5) * torch.pi / config.bands
    for filters, window, gain in (
        (codec.encoder.filters, config.encoder_window, 100.0),
        (codec.decoder.filters, config.decoder_window, 0.01 / OUTPUT_GAIN * config.fine_hop / config.bands),
    ):
        hann = torch.hann_window(window, dtype=torch.float64)
        hann = hann / hann.sum() if filters is codec.encoder.filters else hann
        angle = frequencies[:, None] * torch.arange(window)
        wave = torch.cat([angle.cos() * hann, -angle.sin() * hann]) * gain
        filters.weight.copy_(wave[:, None])


@torch.no_grad()
def begin_as(codec: Zoo, tensors: dict[str, Tensor]) -> None:
    """Take the weights of another network: of each tensor what both have. New inputs begin small."""
    for name, own in codec.named_parameters():
        shared = tuple(slice(min(a, b)) for a, b in zip(own.shape, tensors[name].shape, strict=True))
        if own.ndim > 1:
            own.mul_(0.1)
        own[shared] = tensors[name][shared]


# -- quantisation while training ------------------------------------------------------------------------------------


class Codebooks:
    """Codebooks that follow the latents as moving averages, with entries that nobody uses put where latents are."""

    def __init__(self, codec: Zoo) -> None:
        self.books = codec.quantizer.codebooks  # [K, size, dim]
        self.usage = torch.zeros(self.books.shape[:2])
        self.sums = torch.zeros_like(self.books)
        self.restarted = 0

    @torch.no_grad()
    def fit(self, latents: Tensor, generator: torch.Generator) -> None:
        """k-means, level after level, over latents [n, dim]."""
        residual = latents
        for k, book in enumerate(self.books):
            book.copy_(residual[torch.randperm(len(residual), generator=generator)[: len(book)]])
            for _ in range(KMEANS_ROUNDS):
                index = nearest(residual, book)
                count = torch.bincount(index, minlength=len(book)).float()
                total = torch.zeros_like(book).index_add_(0, index, residual)
                empty = count == 0
                book.copy_(torch.where(empty[:, None], book, total / count.clamp(min=1)[:, None]))
                if bool(empty.any()):
                    book[empty] = residual[torch.randint(len(residual), (int(empty.sum()),), generator=generator)]
            self.usage[k] = count / KMEANS_BATCHES
            self.sums[k] = book * self.usage[k, :, None]
            residual = residual - F.embedding(nearest(residual, book), book)

    def __call__(self, latent: Tensor, counts: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latents [B, dim, N], codebooks of each item [B] → quantised [B, dim, N], through which gradients pass as if
        it were the latent; and how far the latents are from their entries."""
        batch, dim, frames = latent.shape
        flat = latent.mT.reshape(-1, dim)
        used = counts.repeat_interleave(frames)
        quantised, residual = torch.zeros_like(flat), flat.detach()
        commitment = flat.new_zeros(())
        for k in range(len(self.books)):
            index = nearest(residual, self.books[k].detach())
            entry = F.embedding(index, self.books[k].detach())
            own = (used > k).float()[:, None]
            # The latent's distance from the sum of the entries so far: that of the level's residual from its entry.
            commitment = commitment + ((flat - quantised - entry).square() * own).mean()
            self._follow(k, index, residual, generator)
            quantised = quantised + entry * own
            residual = residual - entry
        out = flat + (quantised - flat).detach()
        return out.view(batch, frames, dim).mT, commitment

    @torch.no_grad()
    def _follow(self, k: int, index: Tensor, residual: Tensor, generator: torch.Generator) -> None:
        size = self.books.shape[1]
        count = torch.bincount(index, minlength=size).float()
        total = torch.zeros_like(self.sums[k]).index_add_(0, index, residual)
        self.usage[k].lerp_(count, 1 - USAGE_DECAY)
        self.sums[k].lerp_(total, 1 - USAGE_DECAY)
        rare = self.usage[k] < RARE * len(residual) / size
        if bool(rare.any()):
            number = int(rare.sum())
            chosen = residual[torch.randint(len(residual), (number,), generator=generator)]
            self.usage[k, rare] = len(residual) / size
            self.sums[k, rare] = chosen * len(residual) / size
            self.restarted += number
        self.books[k].copy_(self.sums[k] / self.usage[k, :, None])


# -- the run --------------------------------------------------------------------------------------------------------


class Run:
    """Everything that a step changes."""

    def __init__(self, options: argparse.Namespace, variant: Variant) -> None:
        self.options, self.folder = options, options.run
        self.folder.mkdir(parents=True, exist_ok=True)
        self.codec = Zoo(Zoo.Config(**variant.network), variant)
        initialise(self.codec, options.seed)
        if options.start:
            begin_as(self.codec, torch.load(options.start, weights_only=True)["average"])
        if options.bf16:
            in_bfloat16(self.codec)
        self.books = Codebooks(self.codec)
        self.average = {name: value.clone() for name, value in self.codec.state_dict().items()}
        learned = [p for name, p in self.codec.named_parameters() if name != "quantizer.codebooks"]
        self.optimiser = torch.optim.AdamW(learned, options.rate, betas=(0.8, 0.99), weight_decay=0.01, fused=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.discriminator = Discriminator() if options.discriminator_from else None
        self.opponent = None
        if self.discriminator:
            self.opponent = torch.optim.AdamW(self.discriminator.parameters(), options.rate, betas=(0.8, 0.99))
        self.step = 0
        if (self.folder / "last.pt").exists():
            self._load(torch.load(self.folder / "last.pt", weights_only=True))

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        parts: dict[str, Any] = {"codec": self.codec, "optimiser": self.optimiser}
        if self.discriminator:
            parts |= {"discriminator": self.discriminator, "opponent": self.opponent}
        return parts

    def save(self, name: str = "last.pt") -> None:
        state: dict[str, Any] = {key: part.state_dict() for key, part in self._parts().items()}
        state |= {"average": self.average, "usage": self.books.usage, "sums": self.books.sums, "step": self.step}
        partial = self.folder / f"{name}.part"
        torch.save(state, partial)
        partial.replace(self.folder / name)

    def _load(self, state: dict[str, Any]) -> None:
        for key, part in self._parts().items():
            if key in state:  # a discriminator may be new
                part.load_state_dict(state[key])
        self.average, self.step = state["average"], state["step"]
        self.books.usage, self.books.sums = state["usage"], state["sums"]

    def learning_rate(self) -> float:
        """Rises over the first steps, stays, and falls to zero over the last ones."""
        left = (self.options.steps - self.step) / (self.options.cool_down * self.options.steps)
        return self.options.rate * min((self.step + 1) / self.options.warm_up, left, 1.0)

    def advance(self, recordings: Recordings) -> dict[str, float]:
        """One step → its losses. All that is random depends on the seed and the step alone."""
        options, codec = self.options, self.codec
        r = np.random.default_rng((options.seed, self.step))
        generator = torch.Generator().manual_seed(int(r.integers(1 << 62)))
        if self.step == options.quantise_from:
            with torch.no_grad():
                batches = [codec.encoder(recordings.batch(options.batch, r)) for _ in range(KMEANS_BATCHES)]
            self.books.fit(torch.cat(batches).mT.reshape(-1, codec.config.latent_dim), generator)
        x = recordings.batch(options.batch, r)
        latent = codec.encoder(x)
        commitment = latent.new_zeros(())
        if self.step >= options.quantise_from:
            counts = r.integers(1, codec.config.num_codebooks + 1, options.batch)
            counts[r.random(options.batch) < options.all_codebooks] = codec.config.num_codebooks
            latent, commitment = self.books(latent, torch.from_numpy(counts), generator)
        y = codec.decoder(latent)
        windows = r.choice(list(RESOLUTIONS), options.resolutions, replace=False, p=OFTEN)
        losses = spectral_losses(y[:, 0], x[:, 0], [int(w) for w in windows], codec.sample_rate, r.random())
        total = (
            options.mel * losses.mel
            + options.magnitude * losses.magnitude
            + options.complex * losses.complex
            + options.commitment * commitment
        )
        told = {**losses._asdict(), "commitment": commitment}
        if options.envelope:
            told["envelope"] = envelope_loss(y[:, 0], x[:, 0], codec.sample_rate)
            total = total + options.envelope * told["envelope"]
        if self.discriminator and self.step >= options.discriminator_from:
            assert self.opponent is not None
            own = self.discriminator.own_loss(x[:, 0], y[:, 0])
            self._descend(self.opponent, own, self.discriminator)
            self.discriminator.requires_grad_(False)
            believed, differing = self.discriminator.losses_of(x[:, 0], y[:, 0])
            self.discriminator.requires_grad_(True)
            total = total + options.believed * believed + options.differing * differing
            told |= {"discriminator": own, "believed": believed, "differing": differing}
        self._descend(self.optimiser, total, codec)
        self.step += 1
        decay = min(options.average, (self.step + 1) / (self.step + 10))
        for name, value in codec.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)
        return {key: float(value.detach()) for key, value in {**told, "total": total}.items()}

    def _descend(self, optimiser: torch.optim.Optimizer, loss: Tensor, network: nn.Module) -> None:
        for group in optimiser.param_groups:
            group["lr"] = self.learning_rate()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), self.options.clip)
        optimiser.step()

    def export(self, path: Path) -> None:
        """The averaged weights in float16, for `load_codec("zoo_16k", weights=path)`."""
        save_file({name: value.half().contiguous() for name, value in self.average.items()}, path)


def in_bfloat16(codec: Zoo) -> None:
    """Let the ConvNeXt blocks compute in bfloat16; weights, banks of filters and losses stay float32."""

    def cast(step: Callable[..., Any], x: Tensor, state: Any) -> Any:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            y, after = step(x, state)
        return y.float(), after

    for stage in codec.modules():
        if isinstance(stage, Stage):
            stage.step = functools.partial(cast, stage.step)  # type: ignore[method-assign]


def main() -> None:
    options = parse()
    run = Run(options, find_variant("zoo_16k"))
    if options.export:
        run.export(options.export)
        print(f"step {run.step}: {options.export}")
        return
    recordings = Recordings(options.data, int(options.seconds * run.codec.sample_rate))
    started, since = time.monotonic(), 0
    sums: dict[str, float] = {}
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):  # the step is finished, and everything saved
        signal.signal(number, lambda number, _: stopped.append(number))
    last_save = last_keep = started
    with (options.run / "losses.jsonl").open("a") as log:
        while run.step < options.steps and not stopped:
            for key, value in run.advance(recordings).items():
                sums[key] = sums.get(key, 0.0) + value
            since += 1
            now = time.monotonic()
            if run.step % options.log_every == 0 or run.step == options.steps:
                row: dict[str, Any] = {"step": run.step, "seconds": round(now - started, 1)}
                row |= {key: round(value / since, 5) for key, value in sums.items()}
                row |= {"rate": run.learning_rate(), "restarted": run.books.restarted}
                print(json.dumps(row), file=log, flush=True)
                sums, since, run.books.restarted = {}, 0, 0
            if now - last_save > 60 * options.save_minutes:
                run.save()
                last_save = now
            if now - last_keep > 60 * options.keep_minutes:
                run.save(f"kept-{run.step}.pt")
                last_keep = now
    run.save()


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that scripts/zoo_codec_data.py wrote")
    parser.add_argument("run", type=Path, help="folder of the run; goes on where it has been before")
    parser.add_argument("--export", type=Path, help="write the averaged weights there, and end")
    parser.add_argument("--steps", type=int, default=40_000, help="of the whole run")
    parser.add_argument("--start", type=Path, help="a .pt of another run, of more or fewer channels, to begin with")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=16, help="pieces a step")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a piece: whole frames of 20 ms")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate")
    parser.add_argument("--warm-up", type=int, default=200, help="steps over which the rate rises")
    parser.add_argument("--cool-down", type=float, default=0.2, help="share of the steps over which the rate falls")
    parser.add_argument("--clip", type=float, default=3.0, help="norm of the gradient at most")
    parser.add_argument("--average", type=float, default=0.999, help="decay of the averaged weights")
    parser.add_argument("--quantise-from", type=int, default=300, metavar="STEP")
    parser.add_argument("--all-codebooks", type=float, default=0.3, help="share of pieces that use every codebook")
    parser.add_argument("--resolutions", type=int, default=3, help=f"of {len(RESOLUTIONS)}, compared in a step")
    for name, weight in {"mel": 1.0, "magnitude": 3.0, "complex": 0.7, "envelope": 0.5, "commitment": 0.05}.items():
        parser.add_argument(f"--{name}", type=float, default=weight, help="weight of that loss")
    parser.add_argument("--discriminator-from", type=int, default=0, metavar="STEP", help="0 = none")
    parser.add_argument("--believed", type=float, default=0.1, help="weight of the discriminator's opinion")
    parser.add_argument("--differing", type=float, default=0.5, help="weight of the differences in its layers")
    parser.add_argument(
        "--bf16", action="store_true", help="ConvNeXt blocks in bfloat16: 1.4 times as fast on a new CPU"
    )
    parser.add_argument("--log-every", type=int, default=50)
    parser.add_argument("--save-minutes", type=float, default=3)
    parser.add_argument("--keep-minutes", type=float, default=20)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
