"""Entropies, mutual information and n-grams against what is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from codeczoo.probe.information import entropy_bits, joint_counts, miller_madow, mutual_information
from codeczoo.probe.ngram import WittenBell


def binary_entropy(p: float) -> float:
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def test_entropy_of_known_counts() -> None:
    assert entropy_bits(np.array([7, 7, 7, 7, 0])) == pytest.approx(2)
    assert entropy_bits(np.array([4, 2, 1, 1])) == pytest.approx(1.75)
    assert entropy_bits(np.array([9])) == 0
    assert math.isnan(entropy_bits(np.array([0, 0])))


def test_miller_and_madow_take_away_most_of_the_bias() -> None:
    """Even distributions: the entropy is log2 of their size, and plug-in estimates are too low."""
    generator = np.random.default_rng(0)
    size, n = 64, 400
    counts = [np.bincount(generator.integers(0, size, n), minlength=size) for _ in range(300)]
    plugin = [entropy_bits(c) for c in counts]
    corrected = [miller_madow(h, int((c > 0).sum()), n) for h, c in zip(plugin, counts, strict=True)]
    bias = (size - 1) / (2 * n * math.log(2))
    assert 6 - np.mean(plugin) == pytest.approx(bias, rel=0.1)
    assert abs(6 - np.mean(corrected)) < 0.1 * bias


@pytest.mark.parametrize("size", [7, 5000])  # counted densely, and by sorting
def test_joint_counts_are_those_of_a_dictionary(size: int) -> None:
    generator = np.random.default_rng(1)
    first, second = generator.integers(0, size, (2, 3000))
    second[:1000], first[:1000] = 3, 2
    known: dict[tuple[int, int], int] = {}
    for pair in zip(first.tolist(), second.tolist(), strict=True):
        known[pair] = known.get(pair, 0) + 1
    assert sorted(joint_counts(first, second, size)) == sorted(known.values())


def test_mutual_information_of_a_copy_is_its_entropy_and_of_an_exact_product_nothing() -> None:
    codes = np.repeat(np.arange(8), 50)
    copy = mutual_information(codes, 7 - codes, 8)
    assert copy.plugin == pytest.approx(3)
    first, second = np.repeat(np.arange(8), 8), np.tile(np.arange(8), 8)
    assert mutual_information(first, second, 8).plugin == pytest.approx(0, abs=1e-12)


def test_mutual_information_of_a_noisy_channel() -> None:
    """A bit that is flipped in one of ten: 1 - H(0.1), here with exact counts."""
    first = np.repeat([0, 0, 1, 1], [450, 50, 50, 450])
    second = np.repeat([0, 1, 0, 1], [450, 50, 50, 450])
    assert mutual_information(first, second, 2).plugin == pytest.approx(1 - binary_entropy(0.1))


def test_shuffles_show_the_bias_of_independent_codes() -> None:
    """Its first-order term is (a - 1)(b - 1) / 2n nats; what is left of independent codes is nothing."""
    generator = np.random.default_rng(2)
    a, b, n = 30, 40, 20000
    found = mutual_information(generator.integers(0, a, n), generator.integers(0, b, n), b, shuffles=20)
    bias = (a - 1) * (b - 1) / (2 * n * math.log(2))
    assert found.observations == n
    assert found.plugin == pytest.approx(bias, rel=0.15) and found.shuffled == pytest.approx(bias, rel=0.05)
    assert abs(found.miller_madow) < 0.15 * bias
    assert abs(found.excess) < 0.15 * bias
    assert found.shuffled <= found.shuffled_max < 1.2 * bias


def sharing_a_bit(size: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    shared = generator.integers(0, 2, n) * (size // 2)
    first, second = (shared + generator.integers(0, size // 2, n) for _ in range(2))
    return first, second


def test_excess_finds_one_shared_bit_in_a_table_of_as_many_cells_as_frames() -> None:
    first, second = sharing_a_bit(64, 4096)
    found = mutual_information(first, second, 64)
    assert found.plugin > 1.3  # of which one is true
    assert found.plugin > found.shuffled_max and 0.5 < found.excess < 1 < found.miller_madow < 1.2  # one is true
    alone = mutual_information(first, np.random.default_rng(0).permutation(second), 64)
    assert abs(alone.excess) < 0.05 and abs(alone.collision) < 0.1


def test_collisions_find_it_where_the_table_is_almost_empty() -> None:
    """20,000 frames in a million cells: plug-in values say nothing, and two frames agree twice as often as apart."""
    first, second = sharing_a_bit(1024, 20000)
    found = mutual_information(first, second, 1024)
    assert found.plugin > 5 and found.excess < 0.1
    assert found.collision == pytest.approx(1, abs=0.25) and found.collision_shuffled_max < 0.5


def test_nothing_observed_is_not_zero() -> None:
    none = np.zeros(0, np.int64)
    found = mutual_information(none, none, 8)
    assert found.observations == 0 and math.isnan(found.plugin) and math.isnan(found.excess)


# -- n-grams --------------------------------------------------------------------------------------


def test_witten_and_bell_by_hand() -> None:
    """Trained on 0 1 0 1 0 2, four entries. After nothing: c(0) = 3, N = 6, T = 3, so (3 + 3 / 4) / 9.
    After 0 came 1, 1, 2: N = 3, T = 2."""
    model = WittenBell([np.array([0, 1, 0, 1, 0, 2])], 4, 2)
    single, pair = 2 ** model.log2_probabilities([np.array([0, 1]), np.array([0, 3])])
    alone = {0: (3 + 0.75) / 9, 1: (2 + 0.75) / 9, 2: (1 + 0.75) / 9, 3: 0.75 / 9}
    assert single == pytest.approx([alone[0], alone[1], alone[0], alone[3]])
    after_0 = {1: (2 + 2 * alone[1]) / 5, 3: 2 * alone[3] / 5}
    begins = (1 + alone[0]) / 2  # the clip began with 0, once
    assert pair == pytest.approx([begins, after_0[1], begins, after_0[3]])


@pytest.mark.parametrize("history", [[], [2], [2, 0], [4, 4], [1, 3, 0]])
def test_all_entries_together_have_probability_one(history: list[int]) -> None:
    generator = np.random.default_rng(0)
    model = WittenBell([generator.integers(0, 4, n) for n in (50, 1, 7)], 5, 3)  # entry 4 never occurred
    after = [np.array([*history, entry]) for entry in range(5)]
    ends = np.cumsum([len(clip) for clip in after]) - 1
    assert (2 ** model.log2_probabilities(after)[:, ends]).sum(axis=1) == pytest.approx([1, 1, 1])


def test_bits_approach_the_entropy_rate_of_a_markov_chain() -> None:
    """A chain that stays with probability 0.8 and else goes to one of two others: its entropy rate is
    H(0.8) + 0.2 bits; alone its codes are even, log2 3 bits."""
    generator = np.random.default_rng(4)

    def chain(n: int) -> np.ndarray:
        moves = np.where(generator.random(n) < 0.8, 0, generator.integers(1, 3, n))
        return np.cumsum(moves) % 3

    model = WittenBell([chain(20000) for _ in range(3)], 3, 3)
    bits = -model.log2_probabilities([chain(20000)]).mean(axis=1)
    rate = binary_entropy(0.8) + 0.2
    assert bits[0] == pytest.approx(math.log2(3), abs=0.01)
    assert bits[1] == pytest.approx(rate, abs=0.02) and bits[2] == pytest.approx(rate, abs=0.02)


def test_a_cycle_is_predicted_by_the_code_before_it_and_noise_by_nothing() -> None:
    generator = np.random.default_rng(5)
    model = WittenBell([np.tile(np.arange(16), 500)], 16, 2)
    bits = -model.log2_probabilities([np.tile(np.arange(16), 500)]).mean(axis=1)
    assert bits[0] == pytest.approx(4, abs=0.02) and bits[1] < 0.05
    model = WittenBell([generator.integers(0, 16, 20000)], 16, 3)
    assert -model.log2_probabilities([generator.integers(0, 16, 20000)]).mean(axis=1).min() > 3.99


def test_clips_do_not_run_into_each_other() -> None:
    """Each clip ends with 3; what follows in the next clip is not learnt as what follows 3."""
    model = WittenBell([np.array([0, 3])] * 100, 4, 2)
    _, pair = 2 ** model.log2_probabilities([np.array([3, 0])])
    single = 2 ** model.log2_probabilities([np.array([0])])[0, 0]
    assert pair[1] == pytest.approx(single)  # 3 was never a history


@pytest.mark.parametrize(("entries", "order", "message"), [(4, 0, "at least 1"), (250047, 4, "lower the order")])
def test_models_that_cannot_be(entries: int, order: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WittenBell([np.array([0, 1])], entries, order)
