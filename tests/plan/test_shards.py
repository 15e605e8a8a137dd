"""Shares of a plan: together they are the plan, and they weigh about the same."""

import itertools

import pytest

from irl_bench.core.cell import cell_key
from irl_bench.core.settings import BadInput
from irl_bench.plan import shards
from irl_bench.plan.build import build
from irl_bench.plan.request import Request


class _Ones(dict):
    """One second for every cell."""

    def __missing__(self, key):
        return 1.0


SECONDS = _Ones()


@pytest.fixture(scope="module")
def cells():
    """{key: cell} of a sweep of three algorithms."""
    plan = build(Request(algo=("bc", "dagger", "airl"), env=("chain", "lane_keep"), seeds=20))
    return {cell_key(cell, {}): cell for cell in plan.cells}


@pytest.mark.parametrize("n", [1, 2, 3, 7, 500])
def test_shares_are_a_partition(cells, n):
    parts = [shards.share(cells, SECONDS, i, n) for i in range(1, n + 1)]
    assert parts == shards.shares(cells, SECONDS, n)
    assert sorted(map(str, itertools.chain(*parts))) == sorted(map(str, cells.values()))
    for part in parts:
        places = [list(cells.values()).index(cell) for cell in part]
        assert places == sorted(places)


def test_shares_weigh_the_same_and_split_few_programs(cells):
    # One core's times: airl is trained for long, and nothing is known of the cells of dagger.
    usual = {"airl": 150.0, "bc": 40.0, "dagger": None}
    seconds = {key: usual.get(cell.algo, 1.0) for key, cell in cells.items()}
    weights = {
        id(cell): shards.UNKNOWN_SECONDS if seconds[key] is None else seconds[key]
        for key, cell in cells.items()
    }
    for n in (2, 3, 4):
        parts = shards.shares(cells, seconds, n)
        loads = [sum(weights[id(cell)] for cell in part) for part in parts]
        assert max(loads) < 1.35 * sum(loads) / n
        programs = {cell.static_key() for cell in cells.values()}
        compiled = sum(len({cell.static_key() for cell in part}) for part in parts)
        assert compiled <= len(programs) + 2 * n


@pytest.mark.parametrize(
    ("text", "near"),
    [("3", "8x4"), ("", "8x4"), ("2x-1", "8x4"), ("2x3x4", "8x4"), ("0x4", "1x4"),
     ("4x0", "4x1"), ("999999x2", "100000x2")],
)  # fmt: skip
def test_a_cluster_that_is_none_is_one_line(text, near):
    with pytest.raises(BadInput, match=rf"^--cluster={text}.*nearest: --cluster={near}$"):
        shards.parse_cluster(text)


def test_a_cluster_is_machines_and_their_devices():
    assert shards.parse_cluster("8x4") == (8, 4) and shards.parse_cluster(" 1 X 16 ") == (1, 16)


def test_keys_may_be_shortened(cells):
    keys = list(cells)
    assert shards.named(cells, [keys[5], keys[2][:12]]) == [cells[keys[2]], cells[keys[5]]]
    with pytest.raises(BadInput, match=r"cells begin with it; nearest: [0-9a-f]{20}$"):
        shards.named(cells, [""])
    with pytest.raises(BadInput, match=r"no such cell .*; nearest: one that irl-bench status"):
        shards.named(cells, ["0" * 20])


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("3/2", "2/2"), ("0/2", "1/2"), ("-1/4", "1/4"), ("1/0", "1/1"), ("half", "1/2"),
        ("1/2/3", "1/2"), ("1.5/2", "1/2"), ("", "1/2"),
    ],
)  # fmt: skip
def test_a_share_that_is_none_is_one_line(text, near):
    with pytest.raises(BadInput, match=rf"^--shard={text}.*nearest: --shard={near}$"):
        shards.parse_shard(text)


def test_shares_are_counted_from_one():
    assert shards.parse_shard("1/3") == (1, 3) and shards.parse_shard(" 3 / 3 ") == (3, 3)


@pytest.mark.parametrize("text", ["xyz", "", "ab,,cd", "../a", "0" * 21])
def test_what_cannot_be_a_key_is_one_line(text):
    with pytest.raises(BadInput, match=r"^--cells=.*no key of a cell.*irl-bench status"):
        shards.parse_keys(text)
