"""How many requests the planner makes, and how long they take, on a virtual clock.

The bounds are those that the planner promises, or a third above what was measured; single figures
move when a rule changes, so the means over all shapes are held more tightly.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import mean

import pytest

from indexer.keyspace import Key
from indexer.pipeline.plan import WASTE_FREE, WASTE_SHARE, Planner
from indexer.testing.keysets import SHAPES
from indexer.testing.keysets import keys as make_keys
from indexer.testing.simulated_listing import LATENCY_S, Outcome, simulate

SLOTS = 64
SEEDS = (1, 2)

SERIAL = {"suffix_noise"}
"""Sixty directories of which each one's name tells of the next alone: they are found one by one."""

LONG = {"long_prefix"}
"""Nine hundred levels, of which one counts, are searched in several rounds."""


@cache
def outcomes(shape: str, count: int) -> list[Outcome]:
    made = make_keys(shape, count)
    return [simulate(made, slots=SLOTS, seed=seed) for seed in SEEDS]


def rounds(outcome: Outcome) -> float:
    return outcome.makespan_s / LATENCY_S


@pytest.mark.parametrize("shape", SHAPES)
def test_requests_stay_in_proportion(shape: str) -> None:
    for count in (10_000, 50_000):
        pages = math.ceil(count / 1000)
        for outcome in outcomes(shape, count):
            assert outcome.requests <= (1 + WASTE_SHARE) * pages + WASTE_FREE + 1 + SLOTS
            assert outcome.requests_per_thousand <= 2.0


@pytest.mark.parametrize("shape", SHAPES)
def test_is_no_slower_than_one_after_the_other(shape: str) -> None:
    for outcome in outcomes(shape, 10_000):
        assert rounds(outcome) <= 1.15 * 10
    for outcome in outcomes(shape, 50_000):
        most = 56 if shape in SERIAL else 34 if shape in LONG else 30
        assert rounds(outcome) <= most


def test_means_over_all_shapes() -> None:
    small = [outcome for shape in SHAPES for outcome in outcomes(shape, 10_000)]
    assert mean(outcome.requests_per_thousand for outcome in small) <= 1.7
    assert mean(map(rounds, small)) <= 8.5
    middle = [outcome for shape in SHAPES for outcome in outcomes(shape, 50_000)]
    assert mean(outcome.requests_per_thousand for outcome in middle) <= 1.5
    assert mean(map(rounds, middle)) <= 18


@pytest.mark.parametrize("shape", ["hex", "deep_counter", "runs", "tree", "words"])
def test_larger_listings_waste_less(shape: str) -> None:
    for outcome in outcomes(shape, 200_000):
        assert outcome.requests_per_thousand <= 1.6
        assert outcome.slowdown <= 8


def test_an_earlier_listing_tells_where_to_cut() -> None:
    made = make_keys("runs", 200_000)
    planner = Planner(seeds=[Key(key) for key in made[16_000::16_000]])
    outcome = simulate(made, slots=12, planner=planner)
    assert outcome.requests_per_thousand <= 1.25
    assert outcome.slowdown <= 1.6


def test_seeds_that_are_out_of_date_cost_little() -> None:
    seeds = [Key(key) for key in make_keys("hex", 200_000)[5_000::5_000]]
    made = make_keys("deep_counter", 100_000)
    outcome = simulate(made, slots=SLOTS, planner=Planner(seeds=seeds))
    assert outcome.requests <= 2 * 100


@pytest.mark.parametrize("shape", ["tree", "runs", "imagenet", "zipf_dirs"])
def test_directories_are_listed_side_by_side(shape: str) -> None:
    made = make_keys(shape, 100_000)
    outcome = simulate(made, slots=8, planner=Planner(resume="directory"))
    assert outcome.slowdown <= 3.5
    assert outcome.requests_per_thousand <= 2.5


def test_a_flat_directory_is_listed_by_one_stream() -> None:
    made = make_keys("flat", 50_000)
    outcome = simulate(made, slots=8, planner=Planner(resume="directory"))
    assert outcome.requests <= 52
