"""The nearest name, ignoring case."""

import pytest

from envs.names import did_you_mean, nearest


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("BC", "bc"),
        ("Lane_Keep", "lane_keep"),
        ("HOPPER", "hopper"),
        ("dager", "dagger"),
        ("Airl", "airl"),
        ("hop", "hopper"),
    ],
)
def test_case_does_not_matter(written, meant):
    assert nearest(written, ["bc", "dagger", "airl", "untrained", "lane_keep", "hopper"]) == meant


def test_a_name_keeps_its_own_case_and_none_is_nothing():
    assert nearest("cartpolebalance", ["CartpoleBalance", "HopperHop"]) == "CartpoleBalance"
    assert nearest("x", []) == ""


def test_only_a_name_that_is_alike_is_proposed():
    names = ["bc", "dagger"]
    assert did_you_mean("dager", names) == "did you mean 'dagger'?"
    assert did_you_mean("ridge", names, "--{}".format) == "known are --bc, --dagger"
    assert did_you_mean("", names) == "known are 'bc', 'dagger'"
    assert did_you_mean("x", []) == "there are none"
