"""The search for a number of demonstrations at which a world has a window, and its seeds."""

import pytest

from irl_bench.core.settings import BadInput
from irl_bench.plan import build, pilot
from irl_bench.plan.request import Request, check_first_seed


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("first", [1, 12, 80, 320])
@pytest.mark.parametrize("target", [2, 20, 150])
def test_it_finds_the_window_of_a_power_law(power, first, target):
    """h T_max = 0.17 at `target` demonstrations."""
    asked = []

    def measure(demos):
        asked.append(demos)
        return 0.17 * (target / demos) ** power

    found = pilot.find(measure, "hopper", first, 320)
    assert found.demos == asked[-1] and pilot.LOW <= measure(found.demos) <= pilot.HIGH
    assert [n for n, _ in found.tried] == asked[:-1] and len(set(asked[:-1])) == len(asked) - 1
    assert f"{found.demos} demonstrations, by a pilot on seeds 2100000000" in str(found)


def test_noise_does_not_lead_it_round_in_circles():
    noise = [1.4, 0.7, 1.3, 0.8, 1.2, 0.9, 1.1, 1.0]
    asked = []

    def measure(demos):
        asked.append(demos)
        return 0.17 * 20 / demos * noise[len(asked) - 1]

    assert 10 <= pilot.find(measure, "hopper", 300, 320).demos <= 40


@pytest.mark.parametrize(
    ("h", "reason"),
    [
        (0.001, "is below 0.1 even after 1 demonstration"),
        (0.0, "is below 0.1 even after 1 demonstration"),
        (500.0, "is above 0.3 even after 320 demonstrations"),
    ],
)
def test_where_there_is_none_one_line_says_why(h, reason):
    with pytest.raises(BadInput, match=f"NO-WINDOW.*ant.*{reason}.*nearest") as error:
        pilot.find(lambda demos: h / demos, "ant", 50, 320)
    assert "\n" not in str(error.value)


def test_a_jump_over_the_range_names_the_nearest_number():
    with pytest.raises(BadInput, match=r"was never in \[0.1, 0.3\].*nearest: --demos=41"):
        pilot.find(lambda demos: 0.9 if demos <= 40 else 0.08, "ant", 50, 320)


def test_a_pilots_seeds_are_its_own():
    first, after = pilot.FIRST_SEED, pilot.FIRST_SEED + pilot.SEEDS
    for value, seeds in ((first - 20, 20), (after, 20), (0, first)):
        assert check_first_seed(value, seeds) == value
    for value, near in (
        (first - 19, first - 20),
        (first - 8, first - 20),
        (first - 7, after),
        (first, after),
        (after - 1, after),
    ):
        with pytest.raises(BadInput, match=f"first_seed={value}: .* pilots; nearest: {near}$"):
            check_first_seed(value, 20)
        assert check_first_seed(value, 20, piloting=True) == value
    # The last group of a sweep is filled up, here to ten seeds.
    few = Request(algo=("bc",), env=("chain",), seeds=6, first_seed=first - 7, budget="smoke")
    with pytest.raises(BadInput, match=f"nearest: {first - 10}$"):
        build.build(few)
    assert build.build(few, piloting=True).cells
