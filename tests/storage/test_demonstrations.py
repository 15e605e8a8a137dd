"""Demonstrations as files: there and back, other lengths, every kind of bad file in one line,
and through a sweep."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import envs
from irl_bench.cli import sweep
from irl_bench.core.settings import BadInput
from irl_bench.plan import build
from irl_bench.rollouts.evaluation import record
from irl_bench.running.programs import Program
from irl_bench.storage.demonstrations import read, summary, write_minari, write_npz

ROOT = pathlib.Path(__file__).parents[2]
N, T = 3, 12
pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def world():
    return envs.make("lane_keep")


@pytest.fixture(scope="module")
def made(world):
    return record(world, 5, N, T)


@pytest.fixture
def arrays(made):
    return {
        "observations": np.asarray(made.demonstrations.observation),
        "actions": np.asarray(made.demonstrations.action),
    }


def test_a_recording_repeats():
    chain = envs.make("chain")
    first, again, other = (record(chain, seed, N, T).demonstrations for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.observation, again.observation)
    assert not np.array_equal(first.observation, other.observation)


def test_noise_is_executed_and_not_recorded(world, made):
    noisy = record(world, 5, N, T, noise=0.2)
    np.testing.assert_array_equal(
        made.demonstrations.observation[:, 0], noisy.demonstrations.observation[:, 0]
    )
    np.testing.assert_array_equal(
        made.demonstrations.action[:, 0], noisy.demonstrations.action[:, 0]
    )
    assert not np.allclose(made.last, noisy.last)
    assert made.demonstrations.reward.shape == (N, T) and made.last.shape == (
        N,
        world.observation_size,
    )


@pytest.mark.parametrize("form", ["demos.npz", "lane-v0"])
def test_there_and_back(form, world, made, tmp_path):
    path = tmp_path / form
    if form.endswith("npz"):
        write_npz(path, made.demonstrations, world)
    else:
        write_minari(path, made.demonstrations, np.asarray(made.last), world)
        with pytest.raises(BadInput, match="already there"):
            write_minari(path, made.demonstrations, np.asarray(made.last), world)
    found = read(path, world)
    np.testing.assert_array_equal(found.observation, made.demonstrations.observation)
    np.testing.assert_array_equal(found.action, made.demonstrations.action)
    np.testing.assert_array_equal(found.reward, made.demonstrations.reward)
    assert (found.mask == 1).all() and found.mask.shape == (N, T)
    with pytest.raises(
        BadInput, match="holds demonstrations of lane_keep, not of chain; nearest: --env=lane_keep"
    ):
        read(path, envs.make("chain"))


@pytest.mark.parametrize("form", ["demos.npz", "lane-v0"])
@pytest.mark.parametrize(("theirs", "ours"), [("visible", "hidden"), ("hidden", "visible")])
def test_another_view_is_refused(form, theirs, ours, made, tmp_path):
    path, recorded = tmp_path / form, envs.make("lane_keep", view=theirs)
    if form.endswith("npz"):
        write_npz(path, made.demonstrations, recorded)
    else:
        write_minari(path, made.demonstrations, np.asarray(made.last), recorded)
    assert read(path, recorded).ignored == ()
    with pytest.raises(BadInput) as error:
        read(path, envs.make("lane_keep", view=ours))
    assert str(error.value) == (
        f"{path} was recorded with view={theirs}, and the world has view={ours}; nearest: "
        f"--lane_keep.view={theirs}"
    )


def test_other_frames_are_refused_before_their_shape(world, arrays, tmp_path):
    options = "view=hidden,frames=2,last_action=visible,demonstrator=50"
    np.savez(tmp_path / "d.npz", **arrays, world_options=options)
    with pytest.raises(BadInput, match="with frames=2,last_action=visible, and the world has fr"):
        read(tmp_path / "d.npz", world)
    with pytest.raises(BadInput, match=r"nearest: --world=frames=2 --world=last_action=visible$"):
        read(tmp_path / "d.npz", world, flag="--world=")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("view=seen", "view=seen is no option of lane_keep; expected world_options like view=hid"),
        ("view", "view= is no option of lane_keep"),
        (3, r"world_options has shape \[\], dtype int64; expected the world's options"),
    ],
)
def test_options_that_cannot_be_are_one_line(options, message, world, arrays, tmp_path):
    np.savez(tmp_path / "d.npz", **arrays, world_options=options)
    with pytest.raises(BadInput, match=message):
        read(tmp_path / "d.npz", world)


@pytest.mark.parametrize("view", ["hidden", "visible"])
def test_a_file_without_options_is_taken(view, arrays, tmp_path):
    np.savez(tmp_path / "d.npz", **arrays, world="lane_keep")
    assert len(read(tmp_path / "d.npz", envs.make("lane_keep", view=view)).mask) == N


def test_other_lengths_come_with_a_mask(world, arrays, tmp_path):
    np.savez(tmp_path / "d.npz", **arrays, lengths=np.array([T, 4, 7]))
    found = read(tmp_path / "d.npz", world)
    np.testing.assert_array_equal(found.mask.sum(1), [T, 4, 7])
    assert (found.observation[1, 4:] == 0).all() and (found.action[2, 7:] == 0).all()


def test_the_first_episodes_are_padded_to_the_longest_of_them(world, arrays, tmp_path):
    np.savez(tmp_path / "d.npz", **arrays, lengths=np.array([4, 7, T]))
    found = read(tmp_path / "d.npz", world)
    assert found.first(2).observation.shape == (2, 7, world.observation_size) and found.first(
        2
    ).lengths == (4, 7)
    assert found.first(3).sha256 == found.sha256 and found.first(1).action.shape[:2] == (1, 4)


def test_observations_alone_are_read(world, arrays, tmp_path):
    np.savez(tmp_path / "d.npz", observations=arrays["observations"])
    assert read(tmp_path / "d.npz", world).action is None


def spoilt(arrays, how):
    o, a = arrays["observations"].copy(), arrays["actions"].copy()
    if how == "nan":
        o[1, 3, 2] = np.nan
    if how == "nan action":
        a[2, 4, 0] = np.inf
    if how == "large":
        a[0, 0, 0] = 1.5
    if how == "narrow":
        o = o[..., :5]
    if how == "action width":
        a = a[..., :1]
    if how == "fewer":
        a = a[:2]
    if how == "flat":
        o = o[0]
    more = (
        {"lengths": np.array([0, 1, 2])}
        if how == "lengths"
        else {"world": "chian"}
        if how == "world"
        else {}
    )
    return {"observations": o, "actions": a, **more}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan", "episode 1 holds an observation that is not finite, step 3"),
        ("nan action", "episode 2 holds an action that is not finite, step 4"),
        ("large", r"episode 0 holds an action of 1\.5"),
        ("narrow", r"observations \[12, 5\], but lane_keep's are \[T, 82\]"),
        ("action width", r"actions \[12, 1\], but lane_keep's are \[12, 2\]"),
        ("fewer", "do not go with"),
        ("flat", r"shape \[N, T, O\]"),
        ("lengths", r"lengths must be 3 numbers in 1\.\.12"),
        ("world", "demonstrations of chian"),
    ],
)
def test_a_bad_file_is_one_line(how, message, world, arrays, tmp_path):
    np.savez(tmp_path / "d.npz", **spoilt(arrays, how))
    with pytest.raises(BadInput, match=message) as caught:
        read(tmp_path / "d.npz", world)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.npz", None, "is missing"),
        ("cut.npz", b"PK\x03\x04abc", "damaged"),
        ("d.txt", b"", "neither"),
        ("no", None, "missing"),
    ],
)
def test_no_file_at_all_is_one_line(name, content, message, world, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=message):
        read(tmp_path / name, world)


def test_a_folder_that_is_no_dataset_is_one_line(world, tmp_path):
    with pytest.raises(BadInput, match="holds no data/"):
        read(tmp_path, world)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "main_data.hdf5").write_bytes(b"nothing")
    with pytest.raises(BadInput, match="damaged or no Minari"):
        read(tmp_path, world)


def test_a_sweep_takes_them_for_every_seed(world, made, arrays, tmp_path):
    np.savez(tmp_path / "d.npz", **arrays, lengths=np.array([T, 4, 7]))
    line = [
        "sweep.py",
        "--algo=bc",
        "--env=lane_keep",
        "--budget=smoke",
        f"--demos_from={tmp_path / 'd.npz'}",
        "--demos=2",
    ]
    planned = build.build(sweep.parse(line).request)
    cell = planned.cells[-1]
    assert (cell.algo, cell.demos, cell.demo_steps) == ("bc", 2, T)
    program = Program(cell, planned.inputs)
    shown = program.demonstrations([cell], None, None)
    assert shown.observation.shape == (program.groups, cell.width, 2, T, 82)
    for seed in range(cell.width):
        np.testing.assert_array_equal(
            shown.observation[0, seed, 0], made.demonstrations.observation[0]
        )
        np.testing.assert_array_equal(shown.mask[0, seed].sum(1), [T, 4])
    references = [c for c in planned.cells if c.algo == "expert"]
    assert all(c.recorded == "" for c in references) and cell.recorded


def test_observations_alone_are_refused_by_who_needs_actions(arrays, tmp_path):
    np.savez(tmp_path / "d.npz", observations=arrays["observations"])
    line = ["sweep.py", "--env=lane_keep", "--budget=smoke", f"--demos_from={tmp_path / 'd.npz'}"]
    with pytest.raises(BadInput, match="needs demonstrations with actions"):
        build.build(sweep.parse([*line, "--algo=bc"]).request)
    with pytest.raises(BadInput, match="nearest: --algo=gailfo"):
        build.build(sweep.parse([*line, "--algo=gail", "--gail.init=random"]).request)
    blind = build.build(
        sweep.parse([*line, "--algo=gailfo", "--gailfo.init=random"]).request
    ).cells[-1]
    assert blind.observation_only


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--demos=4"], "holds 3 demonstrations, not 4; nearest: --demos=3"),
        (["--demo_steps=5"], "--demo_steps"),
    ],
)
def test_what_does_not_go_with_a_file_is_one_line(flags, message, arrays, tmp_path):
    np.savez(tmp_path / "d.npz", **arrays)
    line = [
        "sweep.py",
        "--algo=bc",
        "--env=lane_keep",
        f"--demos_from={tmp_path / 'd.npz'}",
        *flags,
    ]
    with pytest.raises(BadInput, match=message):
        build.build(sweep.parse(line).request)


def test_the_program_writes_and_checks(tmp_path):
    def call(*flags: str) -> subprocess.CompletedProcess:
        line = [sys.executable, ROOT / "launch" / "demos.py", "--env=chain", *flags]
        return subprocess.run(line, capture_output=True, text=True, timeout=300, cwd=tmp_path)

    done = call("--demos=2", "--steps=8", "--out=c.npz")
    assert done.returncode == 0 and "2 demonstrations of chain" in done.stdout, done.stderr
    bad = call("--check=none.npz")
    assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and "is missing" in bad.stderr
    assert json.dumps(summary(read(tmp_path / "c.npz", envs.make("chain"))))
