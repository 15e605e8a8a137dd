"""The tables of lab pages hold what their stored results say. `python -m tests.lab.test_tables`
writes them anew."""

import pytest

from tests.lab import copycats, driving, horizons, learners, rewards, searches
from tests.lab.pages import LAB

PAGES = {
    "2026-11-27-equal-footing.md": learners.of_equal_footing,
    "2026-11-28-rankings-without-the-flag.md": learners.of_rankings,
    "2026-11-28-swing-up.md": horizons.of_swing_up,
    "2026-11-29-repaired-exposure-bias.md": learners.of_exposure_bias,
    "2026-11-29-demonstrations-on-the-car.md": learners.of_demonstrations,
    "2026-11-29-copycat.md": copycats.of_copycats,
    "2026-11-29-driving-worlds.md": driving.of_driving,
    "2026-11-29-gold-and-proxy.md": rewards.of_over_optimisation,
    "2026-11-29-inverse-rl-searched.md": searches.of_searched_settings,
    "2026-11-29-car-reward-transfer.md": rewards.of_transfer,
    "2026-11-30-dials.md": horizons.of_dials,
    "2026-11-30-hopper-hazard.md": horizons.of_hopper,
    "2026-11-30-law-on-driving.md": horizons.of_driving,
    "2026-11-30-law-on-robots.md": horizons.of_robots,
    "2026-11-30-retrained.md": horizons.of_retrained,
    "2026-11-30-repair-without-asking.md": horizons.of_remedies,
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_what_is_stored(name):
    text = (LAB / name).read_text()
    assert text.splitlines() == PAGES[name](text).splitlines()


if __name__ == "__main__":
    for name, of in PAGES.items():
        (LAB / name).write_text(of((LAB / name).read_text()))
