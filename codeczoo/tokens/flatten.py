"""Codes of several codebooks as one row of tokens for a language model, and back, exactly.

Codes are read frame by frame, and of each frame codebook by codebook. A codebook of one code for s frames (SNAC) speaks
in every s-th frame only, so one rule gives three orders:

=============== ======================================= =========================================================
order           layout                                  the row, by codebook
=============== ======================================= =========================================================
interleaved     equal strides, no delays                0 1 2, 0 1 2, 0 1 2 ...
delayed         delays (0, 1, 2), as MusicGen's         0, 0 1, 0 1 2, 0 1 2 ..., 1 2, 2: in step t of codebook k
                                                        its code of frame t - delay
SNAC's tree     strides (4, 2, 1), as Orpheus's         0 1 2 2 1 2 2, the 7 codes of 4 frames, and so on
=============== ======================================= =========================================================

A code becomes a token by an offset, so that the token says where it stands:

========== ================================================================================ =================
offsets    token                                                                            who does it
========== ================================================================================ =================
"codebook" first_id + the sizes of the codebooks before it + code                           the usual
"slot"     first_id + the sizes of the slots before it in the cycle of the strides + code   Orpheus (4096 each)
"none"     first_id + code: codebooks share their tokens, the place alone tells them apart  MusicGen's streams
========== ================================================================================ =================

For a model that predicts all codebooks at once in each step (MusicGen, Moshi, Dia), `to_grid` gives the delayed codes
as [B, K, steps], with a token of its own where there is no code.

Sources: MusicGen, arXiv 2306.05284, section 2.3; SNAC, arXiv 2410.14411; canopyai/Orpheus-TTS for the order of its 7.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from codeczoo.base.codes import PAD, Codes

Offsets = Literal["codebook", "slot", "none"]


@dataclass(frozen=True)
class TokenLayout:
    """How the codes of a codec stand in a row of tokens. `TokenLayout.of(codes)` takes the codec's facts.

        layout = TokenLayout.of(codes, first_id=50_000, begin=49_998, end=49_999)
        rows = layout.flatten(codes)                          # a list of B rows [L_b] int64
        ids, mask = layout.pad(rows)                          # [B, L], for training
        again = layout.unflatten(rows, codes.num_samples, codes.side_info)
        assert again == codes

    Attributes:
        codec, sample_rate, frame_rate, codebook_sizes, strides, side_sizes, weights: of the codes; see `Codes`.
        delays: for each codebook, in steps; () = none.
        offsets: "codebook", "slot" or "none"; see the module.
        first_id: the token of code 0, above those of text.
        begin, end: tokens around each row, or None.
        padding: the token that fills a batch of rows; None = `end`, if there is one.
    """

    codec: str
    sample_rate: int
    frame_rate: float | None
    codebook_sizes: tuple[int, ...]
    strides: tuple[int, ...]
    side_sizes: tuple[tuple[str, int], ...] = ()
    weights: str | None = None
    delays: tuple[int, ...] = ()
    offsets: Offsets = "codebook"
    first_id: int = 0
    begin: int | None = None
    end: int | None = None
    padding: int | None = None

    @classmethod
    def of(
        cls,
        codes: Codes,
        *,
        delays: Sequence[int] = (),
        offsets: Offsets = "codebook",
        first_id: int = 0,
        begin: int | None = None,
        end: int | None = None,
        padding: int | None = None,
    ) -> TokenLayout:
        """The layout of codes as these are (any of their codec, with as many codebooks)."""
        return cls(
            codes.codec,
            codes.sample_rate,
            codes.frame_rate,
            codes.codebook_sizes,
            codes.strides,
            tuple(codes.side_sizes.items()),
            codes.weights,
            tuple(delays),
            offsets,
            first_id,
            begin,
            end,
            padding,
        )

    def __post_init__(self) -> None:
        count = len(self.codebook_sizes)
        if self.delays and (len(self.delays) != count or min(self.delays) < 0):
            raise ValueError(f"delays are {count} numbers of steps, one of each codebook; they are {self.delays}")
        if self.offsets not in ("codebook", "slot", "none"):
            raise ValueError(f"offsets are 'codebook', 'slot' or 'none'; they are {self.offsets!r}")
        if min(self.strides) != 1:
            raise ValueError(f"one codebook must have a code for every frame; the strides are {self.strides}")
        last = self.first_id + self.vocabulary_size
        for name in ("begin", "end", "padding"):
            token = getattr(self, name)
            if token is not None and (token < 0 or self.first_id <= token < last):
                raise ValueError(f"{name}={token} is a token of codes, {self.first_id} to {last - 1}; choose another")
        if self.begin is not None and self.begin == self.end:
            raise ValueError(f"begin and end are the same token, {self.begin}")
        if self.first_id < 0:
            raise ValueError(f"first_id must be at least 0; it is {self.first_id}")

    # -- facts ----------------------------------------------------------------------------------

    @property
    def cycle(self) -> int:
        """Frames after which the order repeats: the least common multiple of the strides."""
        return math.lcm(*self.strides)

    @cached_property
    def slots(self) -> tuple[int, ...]:
        """The codebook of each token of a cycle, without delays: (0, 1, 2, 2, 1, 2, 2) of SNAC 24 kHz."""
        return tuple(k for n in range(self.cycle) for k, stride in enumerate(self.strides) if n % stride == 0)

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are for codes, from `first_id` on."""
        if self.offsets == "none":
            return max(self.codebook_sizes)
        return sum(self.codebook_sizes if self.offsets == "codebook" else [self.codebook_sizes[k] for k in self.slots])

    def row_length(self, frames: int) -> int:
        """Tokens of a row of that many frames, without begin and end."""
        return sum(-(-frames // stride) for stride in self.strides)

    # -- rows -----------------------------------------------------------------------------------

    def flatten(self, codes: Codes) -> list[Tensor]:
        """The codes of each clip as a row [L_b] int64, on their device.

        Side values (a scale, a voice) are not in it: keep `codes.side_info` beside the rows.

        Raises:
            ValueError: codes of another codec, or of other codebooks, than the layout's.
        """
        self._check(codes)
        rows = []
        for row, length in zip(codes.codes, codes.lengths.tolist(), strict=True):
            plan = self._plan(length, row.device)
            tokens = row[plan[0], plan[1]] + plan[2]
            around = [None if id is None else tokens.new_tensor([id]) for id in (self.begin, self.end)]
            rows.append(torch.cat([part for part in (around[0], tokens, around[1]) if part is not None]))
        return rows

    def unflatten(
        self,
        rows: Sequence[Tensor | Sequence[int]] | Tensor,
        num_samples: Tensor | Sequence[int] | int | None = None,
        side_info: Mapping[str, Tensor] | None = None,
        *,
        incomplete: Literal["error", "drop"] = "error",
    ) -> Codes:
        """Rows as `flatten` makes them, or as a model writes them, → `Codes`.

        Args:
            rows: a list of rows [L_b], or [B, L]. A row begins with `begin` or without it, and ends at the first `end`
                or `padding`.
            num_samples: [B], of the clips; None = not known: they decode to whole frames. (A clip that ends within a
                cycle then has the samples of its frames: of the rest not all codebooks are there.)
            side_info: see `Codes`.
            incomplete: what to do with a row that a model stopped early: "error" where it stops within a frame, or
                "drop" all behind its last whole cycle of the strides (each 7 tokens of SNAC 24 kHz).

        Raises:
            ValueError: a token of no code, or of another codebook than the one whose turn it is; a row that stops
                within a frame; `delays` of a row that was cut.
        """
        if incomplete not in ("error", "drop"):
            raise ValueError(f"incomplete is 'error' or 'drop'; it is {incomplete!r}")
        clips = [self._codes_of(self._bare(row, b), b, incomplete) for b, row in enumerate(rows)]
        if not clips:
            raise ValueError("no rows were given")
        longest = max(clip.shape[-1] for clip in clips)
        codes = torch.stack([torch.nn.functional.pad(clip, (0, longest - clip.shape[-1]), value=PAD) for clip in clips])
        lengths = torch.tensor([clip.shape[-1] for clip in clips])
        return self._as_codes(codes, lengths, num_samples, side_info)

    def pad(self, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Rows [L_b] → ([B, L] filled up with `padding` on the right, [B, L] bool: True where a row is)."""
        fill = self.end if self.padding is None else self.padding
        lengths = torch.tensor([len(row) for row in rows])
        longest = int(lengths.max())
        if fill is None and int(lengths.min()) < longest:
            raise ValueError("rows of different lengths need a token that fills them up: the layout has no padding")
        ids = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=fill or 0)
        return ids, (torch.arange(longest) < lengths[:, None]).to(ids.device)

    def code_of(self, token: int) -> tuple[int | None, int]:
        """(codebook, code) of a token; the codebook is None where offsets do not tell it.

        Raises:
            ValueError: no token of a code.
        """
        at = token - self.first_id
        if not 0 <= at < self.vocabulary_size:
            raise ValueError(f"token {token} is of no code: these are {self.first_id} to {self._last}")
        if self.offsets == "none":
            return None, at
        for k in self.slots if self.offsets == "slot" else range(len(self.codebook_sizes)):
            if at < self.codebook_sizes[k]:
                break
            at -= self.codebook_sizes[k]
        return k, at

    # -- grids ----------------------------------------------------------------------------------

    def to_grid(self, codes: Codes, empty: int | None = None) -> tuple[Tensor, Tensor]:
        """The codes [B, K, N], codebook k moved right by `delays[k]` steps → ([B, K, S] int64, lengths [B] in steps).

        Codes are as they are, without offsets. `empty` stands where there is none: before a codebook's first, behind
        its last, and behind a clip's end. None = the size of the largest codebook, which no code has (as MusicGen's).

        Raises:
            ValueError: codebooks of different strides; an `empty` that is a code; codes of another codec.
        """
        self._check(codes)
        empty = self._empty(empty)
        delays = self._delays
        steps = codes.lengths + max(delays)
        grid = codes.codes.new_full((len(codes), len(delays), int(steps.max()) if len(codes) else 0), empty)
        held = codes.codes.masked_fill(~codes.mask, empty)
        for k, delay in enumerate(delays):
            grid[:, k, delay : delay + held.shape[-1]] = held[:, k, : grid.shape[-1] - delay]
        return grid, steps

    def from_grid(
        self,
        grid: Tensor,
        lengths: Tensor | None = None,
        num_samples: Tensor | Sequence[int] | int | None = None,
        side_info: Mapping[str, Tensor] | None = None,
        empty: int | None = None,
    ) -> Codes:
        """A grid [B, K, S] as `to_grid` makes it, or as a model writes it, → `Codes`.

        Args:
            lengths: [B] in steps; None = all items are full.
            empty: see `to_grid`.

        Raises:
            ValueError: another shape; fewer steps than the delays; an `empty` where a code must be.
        """
        empty = self._empty(empty)
        delays = self._delays
        if grid.ndim != 3 or grid.shape[1] != len(delays):
            raise ValueError(f"a grid is [B, {len(delays)}, S]; its shape is {tuple(grid.shape)}")
        full = torch.full((len(grid),), grid.shape[-1], device=grid.device)
        frames = (full if lengths is None else lengths.to(grid.device)) - max(delays)
        if len(grid) and (int(frames.min()) < 0 or int(frames.max()) + max(delays) > grid.shape[-1]):
            raise ValueError(
                f"a grid of delays up to {max(delays)} has at least as many steps, and {grid.shape[-1]} at most here; "
                f"its items have {(frames + max(delays)).tolist()}"
            )
        count = int(frames.max()) if len(grid) else 0
        codes = torch.stack([grid[:, k, delay : delay + count] for k, delay in enumerate(delays)], 1).long()
        codes = codes.masked_fill(torch.arange(count, device=grid.device) >= frames[:, None, None], PAD)
        made = self._as_codes(codes, frames, num_samples, side_info)
        sizes = torch.tensor(self.codebook_sizes, device=codes.device)[:, None]
        wrong = (((made.codes < 0) | (made.codes >= sizes)) & made.mask).nonzero().tolist()
        if wrong:
            b, k, n = wrong[0]
            value = int(made.codes[b, k, n])
            what = f"the empty token {value}" if value == empty else f"{value}"
            raise ValueError(
                f"item {b} has {what} in codebook {k}, step {n + delays[k]}, where frame {n} needs a code of 0 to "
                f"{self.codebook_sizes[k] - 1}"
            )
        return made

    # -- helpers --------------------------------------------------------------------------------

    @property
    def _last(self) -> int:
        return self.first_id + self.vocabulary_size - 1

    @property
    def _delays(self) -> tuple[int, ...]:
        return self.delays or (0,) * len(self.codebook_sizes)

    def _empty(self, empty: int | None) -> int:
        if max(self.strides) > 1:
            raise ValueError(f"a grid has codebooks of one code for each frame; these have strides {self.strides}")
        largest = max(self.codebook_sizes)
        if empty is not None and 0 <= empty < largest:
            raise ValueError(f"empty={empty} is a code; choose {largest} or more")
        return largest if empty is None else empty

    def _check(self, codes: Codes) -> None:
        for name in ("codec", "codebook_sizes", "strides"):
            if getattr(codes, name) != getattr(self, name):
                raise ValueError(f"the layout is of {name} {getattr(self, name)}; the codes' is {getattr(codes, name)}")

    def _plan(self, frames: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
        """Of each token of a row: its codebook, the place of its code in the codebook's row, its offset. [L] each."""
        return _plan(self, frames, str(device))

    def _bare(self, row: Tensor | Sequence[int], b: int) -> Tensor:
        """A row [L] without begin, end and padding."""
        tokens = torch.as_tensor(row)
        numbers = not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool)
        if tokens.ndim != 1 or not (numbers or tokens.shape[0] == 0):
            raise ValueError(f"row {b} must be whole numbers [L]; it is {tokens.dtype} {list(tokens.shape)}")
        tokens = tokens.long()
        if self.begin is not None and len(tokens) and int(tokens[0]) == self.begin:
            tokens = tokens[1:]
        for stop in (self.end, self.padding):
            if stop is not None and len(found := (tokens == stop).nonzero()):
                tokens = tokens[: int(found[0])]
        return tokens

    def _codes_of(self, tokens: Tensor, b: int, incomplete: str) -> Tensor:
        """Tokens [L] of row `b` → codes [K, N], PAD behind those of slower codebooks."""
        frames = self._frames_of(len(tokens))
        left = len(tokens) - self.row_length(frames)
        if left and (incomplete == "error" or any(self.delays)):
            way = "a delayed row must be whole" if any(self.delays) else "incomplete='drop' leaves them out"
            raise ValueError(
                f"row {b} stops within a frame: {len(tokens)} tokens are {frames} frames and {left} tokens more ({way})"
            )
        if incomplete == "drop":
            frames -= frames % self.cycle
        tokens = tokens[: self.row_length(frames)]
        codebook, place, offset = self._plan(frames, tokens.device)
        values = tokens - offset
        sizes = torch.tensor(self.codebook_sizes, device=tokens.device)
        wrong = ((values < 0) | (values >= sizes[codebook])).nonzero()
        if len(wrong):
            raise ValueError(
                self._what_is_wrong(int(tokens[wrong[0, 0]]), b, int(wrong[0, 0]), int(codebook[wrong[0, 0]]))
            )
        codes = tokens.new_full((len(self.codebook_sizes), frames), PAD)
        codes[codebook, place] = values
        return codes

    def _frames_of(self, tokens: int) -> int:
        """The most whole frames that a row of that many tokens has."""
        each = len(self.slots)
        frames = tokens // each * self.cycle
        while self.row_length(frames + 1) <= tokens:
            frames += 1
        return frames

    def _what_is_wrong(self, token: int, b: int, place: int, due: int) -> str:
        where = f"token {token} at place {place} of row {b}"
        if not self.first_id <= token <= self._last:
            return f"{where} is of no code: these are {self.first_id} to {self._last}"
        codebook, code = self.code_of(token)
        if codebook is None or codebook == due:
            return f"{where} stands for code {code}, which is not due here: it is the turn of codebook {due}"
        return f"{where} is code {code} of codebook {codebook}; it is the turn of codebook {due}"

    def _as_codes(self, codes: Tensor, lengths: Tensor, num_samples: Any, side_info: Any) -> Codes:
        if num_samples is None:
            hop = self.sample_rate / self.frame_rate if self.frame_rate else 0
            num_samples = torch.where(lengths % self.cycle == 0, -1, (lengths.double() * hop).round().long())
        return Codes(
            codes=codes,
            lengths=lengths,
            num_samples=torch.as_tensor(num_samples),
            sample_rate=self.sample_rate,
            codec=self.codec,
            codebook_sizes=self.codebook_sizes,
            frame_rate=self.frame_rate,
            strides=self.strides,
            side_info=side_info or {},
            side_sizes=dict(self.side_sizes),
            weights=self.weights,
        )


@lru_cache(maxsize=8)  # an hour's takes 50 MB and more
def _plan(layout: TokenLayout, frames: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    sizes, strides = layout.codebook_sizes, layout.strides
    frame = torch.arange(frames).repeat_interleave(len(sizes))
    codebook = torch.arange(len(sizes)).repeat(frames)
    own = frame % torch.tensor(strides)[codebook] == 0
    frame, codebook = frame[own], codebook[own]
    slot = torch.arange(len(frame)) % len(layout.slots)
    step = frame + torch.tensor(layout._delays)[codebook]
    order = (step * len(sizes) + codebook).argsort()
    if layout.offsets == "codebook":
        before = torch.tensor([0, *sizes]).cumsum(0)[codebook]
    elif layout.offsets == "slot":
        before = torch.tensor([0, *(sizes[k] for k in layout.slots)]).cumsum(0)[slot]
    else:
        before = torch.zeros_like(codebook)
    plan = codebook, frame // torch.tensor(strides)[codebook], before + layout.first_id
    return tuple(part[order].to(device) for part in plan)  # type: ignore[return-value]
