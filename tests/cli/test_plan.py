"""From flags to cells and back to plan.json: groups of seeds, references, modes, and what may
stay of an earlier plan."""

import json

import pytest

from irl_bench.cli import sweep
from irl_bench.core.cell import cell_key, fingerprint
from irl_bench.core.quantities import REFERENCES
from irl_bench.core.settings import BadInput
from irl_bench.plan import build as plans
from irl_bench.plan import document as documents
from irl_bench.plan import presets as table
from irl_bench.plan.request import Request


def build(*argv: str) -> plans.Plan:
    return plans.build(sweep.parse(["sweep.py", "--budget=smoke", *argv]).request)


def document(*argv: str) -> dict:
    return json.loads(json.dumps(documents.document(build(*argv), "a command", fingerprint())))


def keys(*argv: str) -> set[str]:
    return {key for entry in document(*argv)["entries"] for key in entry["cells"]}


def test_groups_cover_the_seeds_and_keep_their_width():
    width = table.budget_of("chain", "smoke").width
    for seeds, groups in ((1, 1), (width, 1), (width + 1, 2), (3 * width, 3)):
        for entry in build("--env=chain", f"--seeds={seeds}", "--first_seed=1000").entries:
            assert [cell.first_seed for cell in entry.cells] == [
                1000 + width * group for group in range(groups)
            ]
            assert {cell.width for cell in entry.cells} == {width} and entry.seeds == seeds


def test_more_seeds_and_other_horizons_reuse_every_cell():
    few = keys("--env=chain", "--seeds=5")
    assert few < keys("--env=chain", "--seeds=11")
    assert few == keys("--env=chain", "--seeds=4", "--horizons=64,128")
    assert few < keys("--env=chain,lane_keep", "--seeds=5")


def test_clean_demonstrations_and_a_burn_in_are_parts_of_a_cell():
    usual = build("--env=chain").cells
    changed = build("--env=chain", "--demonstrations=clean", "--burn_in=7").cells
    assert not any(cell.clean or cell.burn_in for cell in usual)
    # The expert's cost is that of all its episodes, so its cell does not depend on `clean`.
    assert {cell.algo for cell in changed if not cell.clean} == set(REFERENCES)
    assert {cell.burn_in for cell in changed} == {7}
    record = document("--env=chain", "--demonstrations=clean", "--burn_in=7")["worlds"]["chain"]
    assert record["clean"] is True and record["burn_in"] == 7
    keys_of_expert = [
        {
            cell_key(cell, fingerprint())
            for cell in build("--env=chain", flag).cells
            if cell.algo == "expert"
        }
        for flag in ("--demonstrations=all", "--demonstrations=clean")
    ]
    assert keys_of_expert[0] == keys_of_expert[1]


def test_T_max_replaces_the_worlds_horizon_and_bounds_the_horizons_asked_for():
    assert {cell.horizon for cell in build("--env=hopper").cells} == {1000}
    assert {
        cell.horizon for cell in build("--env=hopper", "--T_max=4000", "--horizons=100,4000").cells
    } == {4000}
    for T_max in (0, -5, 1):
        with pytest.raises(BadInput, match=r"T_max=.* at least 2"):
            plans.build(Request(algo=("bc",), env=("chain",), T_max=T_max))
    with pytest.raises(BadInput, match="horizons"):
        build("--env=hopper", "--T_max=500", "--horizons=100,1000")


@pytest.mark.parametrize(
    "change",
    [
        "--chain.hazard=0.5",
        "--bc.learning_rate=0.002",
        "--first_seed=5",
        "--demos=3",
        "--demo_steps=100",
        "--episodes=32",
        "--T_max=300",
    ],
)
def test_a_changed_setting_is_a_new_cell(change):
    def mine(*argv: str) -> set[str]:
        entries = document("--algo=bc", "--env=chain", "--mode=dagger_chain", "--seeds=5", *argv)[
            "entries"
        ]
        return {key for entry in entries if entry["algo"] == "bc" for key in entry["cells"]}

    assert not mine() & mine(change)


def test_references_are_always_there_and_never_larger():
    plan = build("--algo=bc,dagger")
    used = {entry.id[::2] for entry in plan.entries if entry.id[1] not in REFERENCES}
    assert used == {entry.id[::2] for entry in plan.entries if entry.id[1] == "expert"}
    for env, record in plan.worlds.items():
        assert [entry.id for entry in plan.entries if entry.id[:2] == (env, "untrained")] == [
            (env, "untrained", record["nominal"])
        ]
        sizes: dict[bool, set[int]] = {True: set(), False: set()}
        for cell in plan.cells:
            if cell.env == env:
                sizes[cell.algo in REFERENCES].add(cell.episodes)
        assert max(sizes[True]) <= min(sizes[False])
        assert (
            len({cell.block for cell in plan.cells if cell.env == env and cell.algo != "untrained"})
            == 1
        )
        untrained = [cell for cell in plan.cells if (cell.env, cell.algo) == (env, "untrained")]
        assert all(cell.episodes <= table.UNTRAINED["episodes"] for cell in untrained)


def test_the_expert_has_as_many_episodes_as_asked_for():
    size = ("--algo=bc", "--env=lane_keep", "--episodes=1024")
    plan = build(*size, "--reference_episodes=1024")
    assert {cell.episodes for cell in plan.cells if cell.algo in ("expert", "bc")} == {1024}
    untrained = {cell.episodes for cell in plan.cells if cell.algo == "untrained"}
    assert untrained == {table.UNTRAINED["episodes"]}
    for asked, nearest in ((200, 192), (9999, 1024), (1, 64)):
        with pytest.raises(BadInput, match=f"multiple of 64.*nearest: {nearest}$"):
            build(*size, f"--reference_episodes={asked}")


def test_modes_are_the_tables_or_those_asked_for():
    plan = build("--algo=bc,dagger")
    ids = {entry.id for entry in plan.entries}
    assert ("lane_keep", "bc", "recoverable") in ids and (
        "lane_keep",
        "dagger",
        "recoverable",
    ) not in ids
    chain = {"dagger_chain", "cliff", "recoverable", "front_loaded"}
    assert {mode for env, algo, mode in ids if env == "chain" and algo == "bc"} == chain
    assert {mode for env, algo, mode in ids if env == "chain" and algo == "dagger"} == {
        "dagger_chain"
    }
    swing = {entry.id for entry in build("--algo=bc", "--env=swing_up").entries}
    assert {mode for _, _, mode in swing} == {"nominal"}
    both = build("--algo=bc", "--env=swing_up", "--mode=nominal,recoverable").entries
    assert ("swing_up", "bc", "recoverable") in {entry.id for entry in both}
    ids = {
        entry.id
        for entry in build("--algo=dagger", "--env=lane_keep", "--mode=recoverable").entries
    }
    assert {mode for _, algo, mode in ids if algo == "dagger"} == {"recoverable"}


def test_cells_hold_every_setting_and_the_dials_of_their_mode():
    plan = build("--algo=bc", "--env=chain", "--chain.recovery=0.5")
    for cell in plan.cells:
        assert cell.dials["recovery"] == (0.0 if cell.mode == "cliff" else 0.5)
    assert any("cliff" in note and "recovery" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("asked", "block"), [(64, 64), (48, 48), (1, 1), (128, 64), (96, 48), (1000, 50)]
)
def test_episodes_are_cut_into_equal_blocks(asked, block, monkeypatch):
    row = {**table.WORLDS["chain"]["smoke"], "block": 64}
    monkeypatch.setattr(table, "WORLDS", {"chain": {"smoke": row}})
    for entry in build("--env=chain", f"--episodes={asked}").entries:
        largest = table.UNTRAINED["block"] if entry.id[1] == "untrained" else block
        assert {cell.block for cell in entry.cells} == {min(block, largest)}


def test_an_earlier_plan_stays_where_conditions_are_the_same():
    first = document("--algo=bc", "--env=chain,lane_keep", "--seeds=5")
    merged, dropped = documents.merge(first, document("--algo=dagger", "--env=chain", "--seeds=5"))
    assert dropped == []
    ids = [(entry["env"], entry["algo"], entry["mode"]) for entry in merged["entries"]]
    assert len(ids) == len(set(ids))
    assert {algo for env, algo, _ in ids if env == "chain"} == {
        "bc",
        "dagger",
        "expert",
        "untrained",
    }
    assert {algo for env, algo, _ in ids if env == "lane_keep"} == {"bc", "expert", "untrained"}
    assert merged["worlds"].keys() == {"chain", "lane_keep"}


@pytest.mark.parametrize(
    "change", ["--seeds=6", "--first_seed=5", "--demos=3", "--chain.hazard=0.5"]
)
def test_an_earlier_plan_under_other_conditions_is_left_out_and_said(change):
    first = document("--algo=bc", "--env=chain,lane_keep", "--seeds=5")
    merged, dropped = documents.merge(first, document("--algo=dagger", "--env=chain", change))
    assert {entry["algo"] for entry in merged["entries"] if entry["env"] == "chain"} == {
        "dagger",
        "expert",
        "untrained",
    }
    assert {entry["algo"] for entry in merged["entries"] if entry["env"] == "lane_keep"} == {
        "bc",
        "expert",
        "untrained",
    }
    assert any("bc on chain" in line for line in dropped)
    assert all("on chain" in line and "its cells are kept" in line for line in dropped)


def test_the_document_is_what_the_store_reads():
    plan = build("--algo=bc", "--env=chain", "--seeds=7", "--horizons=64,128")
    made = documents.document(plan, "a command", fingerprint())
    assert made["analysis"]["horizons"] == [64, 128] and made["budget"] == "smoke"
    for entry, record in zip(plan.entries, made["entries"], strict=True):
        assert record["cells"] == [cell_key(cell, fingerprint()) for cell in entry.cells]
        assert record["seeds"] == [0, 7] and record["rounds"] == entry.rounds
    world = made["worlds"]["chain"]
    assert (
        world["u"] == 12
        and world["latency"] == 1
        and world["horizon"] == 1024
        and world["nominal"] == "dagger_chain"
    )


@pytest.mark.parametrize("algo", ["gail", "ppo", "sac", "rlhf"])
def test_who_drives_by_himself_does_so_on_the_road_where_no_world_is_named(algo):
    assert tuple(sweep.parse(["sweep.py", f"--algo={algo}"]).request.env) == ("lane_keep",)
