"""Layouts of demonstration files: each gives the same episodes back; the rest is one line that
says how to convert it."""

import io
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import hypothesis
import hypothesis.extra.numpy as arrays_of
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from brax.envs.base import State
from flax import struct
from hypothesis import strategies as st

import envs
from envs.core import World, dial
from irl_bench.core import folders
from irl_bench.core.settings import BadInput
from irl_bench.storage import layouts
from irl_bench.storage.demonstrations import check_new, read, summary, write_npz

ROOT = pathlib.Path(__file__).parents[2]
LENGTHS = (5, 1, 3)
CHAIN, LANE = envs.make("chain"), envs.make("lane_keep")


@struct.dataclass
class Dials:
    grip: float = dial(0.5, "largest correction in a step")


class Point(World):
    """Observation float32[1], action float32[1]: a point on a line."""

    name = "point"
    horizon = 8
    observation_size = 1
    action_size = 1

    def __init__(self):
        self.dials = Dials()

    def reset(self, rng):
        return State(jnp.zeros(()), jnp.zeros(1), jnp.zeros(()), jnp.zeros(()), {})

    def step(self, state, action):
        return state


POINT = Point()
WORLDS = {"chain": CHAIN, "lane_keep": LANE, "point": POINT}


class Case:
    """Three episodes of 5, 1 and 3 steps in a world, with the observation after the last step."""

    def __init__(self, world, lengths=LENGTHS):
        rng = np.random.default_rng(3)
        self.world, self.lengths = world, lengths
        size = int(world.observation_size)
        self.o = [rng.normal(size=(n + 1, size)).astype(np.float32) for n in lengths]
        draw = (
            rng.integers(0, world.n_actions, 199)
            if world.n_actions
            else rng.uniform(-1, 1, (199, world.action_size))
        )
        kind = np.int32 if world.n_actions else np.float32
        self.a = [draw[10 * i : 10 * i + n].astype(kind) for i, n in enumerate(lengths)]
        self.r = [rng.normal(size=n).astype(np.float32) for n in lengths]

    def padded(self, more=0):
        """Arrays [N, T, ...], with rows of 9 past the lengths."""
        full = lambda parts, n: np.stack([
            np.concatenate([p, np.full((n - len(p), *p.shape[1:]), 9, p.dtype)]) for p in parts
        ])  # fmt: skip
        longest = max(self.lengths)
        o = full([o[: n + more] for o, n in zip(self.o, self.lengths)], longest + more)
        return {
            "observations": o,
            "actions": full(self.a, longest),
            "rewards": full(self.r, longest),
        }

    def flat(self, more=0):
        """Arrays [S, ...]."""
        o = np.concatenate([o[: n + more] for o, n in zip(self.o, self.lengths)])
        return {
            "observations": o,
            "actions": np.concatenate(self.a),
            "rewards": np.concatenate(self.r),
        }

    def ends(self):
        ends = np.zeros(sum(self.lengths), bool)
        ends[np.cumsum(self.lengths) - 1] = True
        return ends

    def assert_read(self, found, actions=True, rewards=True, lengths=None):
        lengths = lengths or self.lengths
        assert found.lengths == tuple(lengths)
        for i, n in enumerate(lengths):
            np.testing.assert_array_equal(found.observation[i, :n], self.o[i][:n])
            assert (found.observation[i, n:] == 0).all() and (
                found.mask[i] == (np.arange(max(lengths)) < n)
            ).all()
            if actions:
                np.testing.assert_array_equal(found.action[i, :n], self.a[i][:n])
            if rewards:
                np.testing.assert_array_equal(found.reward[i, :n], self.r[i][:n])
                assert (found.reward[i, n:] == 0).all()
        assert (found.action is not None, found.reward is not None) == (actions, rewards)
        assert found.observation.dtype == found.mask.dtype == np.float32
        assert found.action is None or found.action.dtype == (
            np.int32 if self.world.n_actions else np.float32
        )


@pytest.fixture(params=WORLDS)
def case(request):
    return Case(WORLDS[request.param])


def refused(path, world, *parts):
    """The one line of a refusal, which holds `parts` and the file's name."""
    with pytest.raises(BadInput) as caught:
        read(path, world)
    line = str(caught.value)
    assert "\n" not in line and str(path).split("\n")[0] in line
    for part in parts:
        assert part in line, line
    return line


def saved(path, **arrays):
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path


def named(arrays, o="observations", a="actions", r="rewards"):
    return {o: arrays["observations"], a: arrays["actions"], r: arrays["rewards"]}


@pytest.mark.parametrize("suffix", [".npz", ".NPZ", ".Npz"])
@pytest.mark.parametrize(
    "keys",
    [
        ("observations", "actions", "rewards"),
        ("obs", "acts", "rews"),
        ("observation", "action", "reward"),
        ("states", "acs", "Rewards"),
    ],
)
def test_names_and_suffixes(suffix, keys, case, tmp_path):
    found = read(
        saved(tmp_path / f"d{suffix}", **named(case.padded(), *keys), lengths=LENGTHS), case.world
    )
    case.assert_read(found)
    assert (
        summary(found)["layout"] == "npz, [N, T, O], cut by lengths" and summary(found)["rewards"]
    )


def test_states_stand_for_observations_only_alone(case, tmp_path):
    arrays = {**case.flat(), "states": np.zeros((9, 3)), "terminals": case.ends()}
    case.assert_read(read(saved(tmp_path / "d.npz", **arrays), case.world))


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize(
    "lengths", [np.array(LENGTHS), np.array(LENGTHS, float), np.array(LENGTHS, np.uint8)[:, None]]
)
def test_padded(more, lengths, case, tmp_path):
    found = read(saved(tmp_path / "d.npz", **case.padded(more), lengths=lengths), case.world)
    case.assert_read(found)
    assert ("without the observation after the last step" in found.layout) == bool(more)


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize(
    "how",
    [
        "terminals",
        "timeouts",
        "both",
        "no last",
        "column",
        "float",
        "dones",
        "lengths",
        "starts",
        "ids",
        "indices",
        "edges",
    ],
)
def test_flat(more, how, case, tmp_path):
    ends = case.ends()
    marks = {
        "terminals": {"terminals": ends},
        "timeouts": {"timeouts": ends},
        "both": {
            "terminations": ends & (np.arange(9) < 5),
            "truncations": ends & (np.arange(9) >= 5),
        },
        "no last": {"terminals": ends & (np.arange(9) < 8)},
        "column": {"terminals": ends[:, None].astype(np.uint8)},
        "float": {"terminals": ends.astype(float)},
        "dones": {"dones": ends, "terminals": np.zeros(9, bool)},
        "lengths": {"lengths": LENGTHS, "terminals": np.zeros(9, bool)},
        "starts": {"episode_starts": np.roll(ends, 1)},
        "ids": {"episode_id": np.repeat([4, 2, 7], LENGTHS)},
        "indices": {"indices": [5, 6]},
        "edges": {"episode_ends": [5, 6, 9]},
    }[how]
    case.assert_read(read(saved(tmp_path / "d.npz", **case.flat(more), **marks), case.world))


def test_flat_with_one_observation_at_the_very_end(case, tmp_path):
    arrays = case.flat()
    arrays["observations"] = np.concatenate([arrays["observations"], case.o[2][3:]])
    case.assert_read(read(saved(tmp_path / "d.npz", **arrays, terminals=case.ends()), case.world))


@pytest.mark.parametrize("lengths", [LENGTHS, (4,)])
def test_old_imitation_npz(lengths, tmp_path):
    case = Case(LANE, lengths)
    infos = np.array([{}] * sum(lengths), object)
    arrays = named(case.flat(1), "obs", "acts", "rews")
    indices = np.cumsum(lengths[:-1])
    found = read(
        saved(
            tmp_path / "d.npz",
            **arrays,
            indices=indices,
            terminal=np.ones(len(lengths), bool),
            infos=infos,
        ),
        case.world,
    )
    case.assert_read(found)


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("steps", [6, 1])
def test_one_episode(more, steps, tmp_path):
    for world in WORLDS.values():
        case = Case(world, (steps,))
        case.assert_read(read(saved(tmp_path / "d.npz", **case.flat(more)), world))
        case.assert_read(read(saved(tmp_path / "d.npz", **case.padded(more)), world))


def test_observations_alone_with_and_without_rewards(case, tmp_path):
    arrays = case.flat(1)
    del arrays["actions"]
    case.assert_read(
        read(saved(tmp_path / "d.npz", **arrays, terminals=case.ends()), case.world), actions=False
    )
    only = {"obs": case.flat()["observations"], "dones": case.ends()}
    case.assert_read(
        read(saved(tmp_path / "d.npz", **only), case.world), actions=False, rewards=False
    )


@pytest.mark.parametrize(
    "kind", ["<f8", ">f8", "<f2", ">f4", "longdouble", "fortran", "i8", "bool"]
)
def test_dtypes(kind, tmp_path):
    values = np.array([[0, 1], [1, 0], [1, 1]])
    order = "F" if kind == "fortran" else "C"
    dtype = "f4" if kind == "fortran" else kind
    x = np.asarray(values, dtype, order=order)
    path = saved(tmp_path / "d.npz", observations=x[..., None], actions=x, rewards=x)
    for world, action in ((POINT, values[..., None]), (CHAIN, values)):
        wide = np.asarray(
            np.broadcast_to(x[..., None], (3, 2, int(world.observation_size))), order=order
        )
        path = saved(
            tmp_path / "d.npz", observations=wide, actions=x[..., None], rewards=x[..., None]
        )
        found = read(path, world)
        np.testing.assert_array_equal(found.action, action)
        np.testing.assert_array_equal(found.reward, values)
        assert (found.observation == values[..., None]).all()
        saved(path, observations=wide, actions=x, rewards=x)
        np.testing.assert_array_equal(read(path, world).action, action)


@pytest.mark.parametrize(
    "name", ["lane_keep", b"lane_keep", np.array(["lane_keep"]), np.array([b"lane_keep"]), ""]
)
def test_the_name_of_the_world(name, tmp_path):
    case = Case(LANE)
    path = saved(tmp_path / "d.npz", **case.flat(), terminals=case.ends(), world=name)
    case.assert_read(read(path, LANE))
    if np.size(name) and name != "":
        refused(path, CHAIN, "holds demonstrations of lane_keep, not of chain", "--env=lane_keep")


@pytest.mark.parametrize(
    ("observed", "acted", "advice"),
    [
        ((4, 10), (3, 10), "x[:3] of every array, if those are the same episodes"),
        ((4, 11), (3, 10), "x[:3] of every array, if those are the same episodes"),
        ((4, 13), (3, 10), "x[:3, :10] of every array, if those are the same episodes"),
        ((4, 13), (4, 10), "x[:, :10] of every array"),
        ((4, 8), (4, 10), "x[:, :8] of every array"),
        ((10, 4), (4, 10), "observations.swapaxes(0, 1) if its first axis is time"),
        ((11, 4), (4, 10), "observations.swapaxes(0, 1) if its first axis is time"),
        ((13,), (10,), "x[:10] of every array"),
        ((8,), (10,), "x[:8] of every array"),
    ],
)
@pytest.mark.parametrize("world", [LANE, CHAIN])
def test_the_advice_on_shapes_helps(observed, acted, advice, world, tmp_path):
    action = np.zeros(acted, int) if world.n_actions else np.zeros((*acted, world.action_size))
    arrays = {"observations": np.zeros((*observed, world.observation_size)), "actions": action}
    path = saved(tmp_path / "d.npz", **arrays)
    if not (world.n_actions and len(observed) == 1):
        refused(path, world, f"convert: {advice}")
    code = advice.split(" ")[0] if "x[" not in advice else advice.partition("] ")[0] + "]"
    if "x[" in code:
        arrays = {key: eval(code, {"x": array}) for key, array in arrays.items()}
    else:
        arrays["observations"] = eval(advice.partition(" if")[0], arrays)
    assert read(saved(tmp_path / "e.npz", **arrays), world).action is not None


def test_rewards_are_hashed_cut_and_tiled(tmp_path):
    case = Case(LANE)
    arrays = {**case.padded(), "lengths": LENGTHS}
    found = read(saved(tmp_path / "d.npz", **arrays), LANE)
    case.assert_read(found.first(2), lengths=(5, 1)) if found.first(2).mask.shape[1] == 5 else None
    assert found.first(2).layout == found.layout and found.first(2).sha256 != found.sha256
    assert found.tiled(4).reward.shape == (4, 3, 5)
    del arrays["rewards"]
    bare = read(saved(tmp_path / "d.npz", **arrays), LANE)
    assert bare.reward is None and bare.tiled(4).reward is None and bare.sha256 != found.sha256
    assert not summary(bare)["rewards"]
    write_npz(tmp_path / "w.npz", jax_like(found), LANE)
    again = read(tmp_path / "w.npz", LANE)
    assert again.sha256 == found.sha256


def jax_like(found):
    from irl_bench.core.types import Demonstrations

    return Demonstrations(found.observation, found.action, found.mask, found.reward)


# HDF5


h5py = pytest.importorskip("h5py")


def h5(path, tree, **attributes):
    with h5py.File(path, "w") as file:
        for name, array in tree.items():
            file[name] = array
        file.attrs.update(attributes)
    return path


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".HDF5"])
def test_d4rl_hdf5(suffix, case, tmp_path):
    tree = {
        **case.flat(),
        "terminals": case.ends(),
        "timeouts": np.zeros(9, bool),
        "infos/qpos": np.zeros((9, 2)),
        "world": case.world.name,
    }
    found = read(h5(tmp_path / f"d{suffix}", tree), case.world)
    case.assert_read(found)
    assert found.layout == "HDF5, flat, cut by terminals and timeouts"


@pytest.mark.parametrize("key", ["obs", "obs/state", "obs/deep/state"])
@pytest.mark.parametrize("form", ["data/demo_{}", "traj_{}", "episode_{}"])
def test_hdf5_with_a_group_for_each_episode(key, form, tmp_path):
    case = Case(LANE, (2,) * 11 + (3,))
    tree = {}
    for i in range(12):
        group = form.format(i)
        tree |= {
            f"{group}/{key}": case.o[i][: 2 + (form != "data/demo_{}") + i // 11],
            f"{group}/actions": case.a[i],
        }
        tree |= {
            f"{group}/rewards": case.r[i],
            f"{group}/dones": np.zeros(len(case.a[i])),
            f"{group}/states": np.zeros((2, 9)),
        }
        if key != "obs":
            tree[f"{group}/obs/image"] = np.zeros((len(case.a[i]), 4, 4, 3), np.uint8)
    case.assert_read(read(h5(tmp_path / "d.hdf5", tree), LANE))


def test_hdf5_that_cannot_be_used(tmp_path, monkeypatch):
    case, path = Case(LANE), tmp_path / "d.h5"
    tree = {}
    for i in range(3):
        tree |= {
            f"data/demo_{i}/obs/eef": case.o[i][:-1, :3],
            f"data/demo_{i}/obs/joint": case.o[i][:-1, 3:],
        }
        tree |= {f"data/demo_{i}/actions": case.a[i]}
    line = refused(
        h5(path, tree),
        LANE,
        "eef [5, 3] float32",
        "joint [5, 79] float32",
        "np.concatenate([d['eef'], d['joint']], -1)",
    )
    assert "damaged" not in line
    refused(
        h5(path, {"observations/a": np.zeros((9, 1)), "observations/b": np.zeros((9, 1))}),
        LANE,
        "a [9, 1] float64",
    )
    parts = {
        "data/demo_0/obs": case.o[0][:-1],
        "data/demo_0/actions": case.a[0],
        "data/demo_1/actions": case.a[1],
    }
    refused(h5(path, parts), LANE, "/data/demo_1 must hold observations", "actions [1, 2] float32")
    del parts["data/demo_0/actions"]
    parts["data/demo_1/obs"] = case.o[1][:-1]
    refused(h5(path, parts), LANE, "episode 0 has no actions, episode 1 has")
    refused(h5(path, {"x": np.zeros(3)}), LANE, "must hold observations", "x [3] float64")
    refused(h5(path, {}), LANE, "it holds nothing")
    refused(
        h5(path, {"observations": np.zeros((3, 82)), "actions": ["a", "b", "c"]}),
        LANE,
        "actions holds text",
    )
    refused(h5(path, {"observations": h5py.Empty("f4")}), LANE, "observations has shape [0]")
    with h5py.File(path, "w") as file:
        ragged = file.create_dataset("observations", (2,), h5py.vlen_dtype(np.float32))
        ragged[0], ragged[1] = np.zeros(3), np.zeros(4)
    refused(path, LANE, "ragged object array", "`lengths`")
    whole = h5(path, case.flat()).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, LANE, "damaged")
    h5(path, case.flat())
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused(path, LANE, "need the extra `data`", "pip install 'irl-bench[data]'")


# Minari


def minari_dataset(folder, monkeypatch, space, observations, kind="hdf5"):
    gymnasium, minari = pytest.importorskip("gymnasium"), pytest.importorskip("minari")
    from minari.data_collector import EpisodeBuffer

    case = Case(LANE)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    buffers = [
        EpisodeBuffer(
            id=i,
            observations=observations(gymnasium, case.o[i]),
            actions=case.a[i],
            rewards=case.r[i],
            terminations=np.zeros(n, bool),
            truncations=np.arange(n) == n - 1,
        )
        for i, n in enumerate(LENGTHS)
    ]
    minari.create_dataset_from_buffers(
        "own-v0",
        buffers,
        env=None,
        observation_space=space(gymnasium.spaces),
        action_space=gymnasium.spaces.Box(-1, 1, (2,), np.float32),
        data_format=kind,
    )
    return case, folder / "own-v0"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["hdf5", "arrow", "parquet"])
def test_minari(kind, tmp_path, monkeypatch):
    box = lambda s: s.Box(-np.inf, np.inf, (82,), np.float32)
    case, folder = minari_dataset(tmp_path, monkeypatch, box, lambda _, o: o, kind)
    for path in (folder, folder / "data"):
        found = read(path, LANE)
        case.assert_read(found)
        assert found.layout == "Minari dataset"
    if kind == "hdf5":
        case.assert_read(read(folder / "data" / "main_data.hdf5", LANE))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["Dict", "Tuple"])
def test_minari_with_several_observations(kind, tmp_path, monkeypatch):
    def space(s):
        parts = [s.Box(-9, 9, (80,), np.float32), s.Box(-9, 9, (2,), np.float32)]
        return s.Dict({"body": parts[0], "goal": parts[1]}) if kind == "Dict" else s.Tuple(parts)

    def parts(_, o):
        return {"body": o[:, :80], "goal": o[:, 80:]} if kind == "Dict" else (o[:, :80], o[:, 80:])

    _, folder = minari_dataset(tmp_path, monkeypatch, space, parts)
    keys = ("body [80]", "goal [2]") if kind == "Dict" else ("0 [80]", "1 [2]")
    refused(folder, LANE, f"observations are a {kind}", *keys, "np.concatenate")
    refused(folder / "data" / "main_data.hdf5", LANE, "[6, 80]", "np.concatenate")


# LeRobot


def lerobot(folder, case, version="v2.1", lists="fixed", order=1, **changes):
    """Episodes as LeRobot stores them: a file each in v2, several in one in v3."""

    def column(array):
        if array.ndim == 1 or lists == "scalar":
            return pa.array(array.reshape(-1))
        if lists == "fixed":
            return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
        return pa.array(list(array))

    tables = []
    for i, n in enumerate(case.lengths):
        table = {
            "observation.state": column(case.o[i][:n]),
            "action": column(case.a[i]),
            "next.reward": pa.array(case.r[i]),
        }
        table |= {
            "episode_index": pa.array([i] * n),
            "frame_index": pa.array(range(n)),
            "timestamp": pa.array(np.arange(n) / 10),
        }
        table |= {"observation.image": pa.array([b"png"] * n)}
        table = {
            name: table[name] for name in table if name not in changes.get("without", ())
        } | changes.get("columns", lambda n: {})(n)
        tables.append(
            pa.table(table)[::order]
            if order == 1
            else pa.table(table).take(list(range(n))[::order])
        )
    data = folder / "data" / "chunk-000"
    data.mkdir(parents=True)
    if version.startswith("v3"):
        for k, part in enumerate((tables[:2][::order], tables[2:])):
            pq.write_table(pa.concat_tables(part), data / f"file-{k:03d}.parquet")
    else:
        for i, table in enumerate(tables):
            pq.write_table(table, data / f"episode_{i:06d}.parquet")
    (folder / "meta").mkdir()
    info = {"codebase_version": version, "total_episodes": changes.get("total", len(case.lengths))}
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    return folder


@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
@pytest.mark.parametrize("lists", ["fixed", "variable"])
@pytest.mark.parametrize("order", [1, -1])
def test_lerobot(version, lists, order, case, tmp_path):
    found = read(lerobot(tmp_path / "d", case, version, lists, order), case.world)
    case.assert_read(found)
    assert found.layout == f"LeRobot dataset {version}"


def test_lerobot_with_bare_numbers_and_without_rewards(tmp_path):
    case = Case(POINT)
    case.assert_read(
        read(lerobot(tmp_path / "d", case, lists="scalar", without=("next.reward",)), POINT),
        rewards=False,
    )


def test_lerobot_that_cannot_be_used(tmp_path):
    case = Case(LANE)
    folder = lerobot(tmp_path / "images", case, without=("observation.state",))
    refused(folder, LANE, "has no column observation.state", "observation.image")
    refused(lerobot(tmp_path / "few", case, total=4), LANE, "names 4 episodes, data/ holds 3")
    gap = lambda n: {"frame_index": pa.array(range(1, n + 1))}
    refused(lerobot(tmp_path / "gap", case, columns=gap), LANE, "frame_index of episode 0")
    ragged = lambda n: {"observation.state": pa.array([[1.0] * (82 + i) for i in range(n)])}
    refused(
        lerobot(tmp_path / "ragged", case, columns=ragged),
        LANE,
        "observation.state has rows of 5 lengths",
    )
    empty = lambda n: {"observation.state": pa.array([None] * n, pa.list_(pa.float32()))}
    refused(lerobot(tmp_path / "empty", case, columns=empty), LANE, "observation.state")
    text = lambda n: {"action": pa.array(["left"] * n)}
    refused(lerobot(tmp_path / "text", case, columns=text), LANE, "action is string")
    nan = lambda n: {"action": pa.array([[0.0, None]] * n, pa.list_(pa.float32()))}
    refused(lerobot(tmp_path / "nan", case, columns=nan), LANE, "action is float with")
    degrees = lambda n: {"action": pa.array([[90.0, 0.0]] * n)}
    refused(
        lerobot(tmp_path / "degrees", case, columns=degrees), LANE, "action of 90", "action / 90"
    )
    folder = lerobot(tmp_path / "lfs", case)
    file = next(folder.rglob("*.parquet"))
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(BadInput, match="git lfs pull"):
        read(folder, LANE)
    file.write_bytes(b"PAR1")
    refused(folder, LANE, "damaged or no LeRobot")
    (folder / "meta" / "info.json").write_text("{")
    refused(folder, LANE, "damaged or no LeRobot")
    for file in (tmp_path / "images").rglob("*.parquet"):
        file.unlink()
    refused(tmp_path / "images", LANE, "holds no data/*.parquet")


# imitation


def imitation(folder, case, shards=1, **changes):
    """Trajectories as Hugging Face's `Dataset.save_to_disk` writes them."""
    folder.mkdir()
    columns = {
        "obs": pa.array([o.tolist() for o in case.o], pa.list_(pa.list_(pa.float32()))),
        "acts": pa.array([a.tolist() for a in case.a]),
        "infos": pa.array([["{}"] * n for n in case.lengths]),
        "terminal": pa.array([True] * len(case.lengths)),
        "rews": pa.array([r.tolist() for r in case.r], pa.list_(pa.float32())),
    } | changes  # fmt: skip
    table = pa.table({name: column for name, column in columns.items() if column is not None})
    names = [f"data-{i:05d}-of-{shards:05d}.arrow" for i in range(shards)]
    for i, name in enumerate(names):
        begin = i * len(table) // shards
        part = table.slice(begin, (i + 1) * len(table) // shards - begin)
        with (
            pa.OSFile(str(folder / name), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as writer,
        ):
            writer.write_table(part)
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": name} for name in names], "_format_type": None})
    )
    (folder / "dataset_info.json").write_text("{}")
    return folder


@pytest.mark.parametrize("shards", [1, 3])
def test_imitation(shards, case, tmp_path):
    found = read(imitation(tmp_path / "d", case, shards), case.world)
    case.assert_read(found)
    assert found.layout == "imitation's trajectories"


def test_imitation_without_rewards(case, tmp_path):
    case.assert_read(read(imitation(tmp_path / "d", case, rews=None), case.world), rewards=False)


def test_imitation_that_cannot_be_used(tmp_path):
    case = Case(LANE)
    parts = pa.array([[{"goal": 1.0, "body": 2.0}] * (n + 1) for n in LENGTHS])
    refused(
        imitation(tmp_path / "dict", case, obs=parts),
        LANE,
        "obs is a dict of goal, body",
        "np.concatenate",
    )
    refused(imitation(tmp_path / "other", case, obs=None), LANE, "acts list<", "a trajectory a row")
    refused(
        imitation(tmp_path / "rows", case, obs=pa.array([1.0, 2.0, 3.0])),
        LANE,
        "a trajectory a row",
    )
    short = pa.array([a[:-1].tolist() for a in case.a], pa.list_(pa.list_(pa.float32())))
    refused(
        imitation(tmp_path / "short", case, acts=short),
        LANE,
        "episode 0 has observations [6, 82]",
        "4 steps",
    )
    refused(imitation(tmp_path / "none", Case(LANE, ())), LANE, "holds no episode")
    folder = imitation(tmp_path / "cut", case)
    next(folder.glob("*.arrow")).write_bytes(b"abc")
    refused(folder, LANE, "damaged or no Hugging Face dataset")
    next(folder.glob("*.arrow")).unlink()
    refused(folder, LANE, "lacks a file")
    (tmp_path / "splits" / "train").mkdir(parents=True)
    (tmp_path / "splits" / "dataset_dict.json").write_text("{}")
    refused(tmp_path / "splits", LANE, "splits/train")


# What cannot be used


@pytest.mark.parametrize(
    ("suffix", "how"),
    [
        (".npy", "np.load"),
        (".pkl", "only if you trust it"),
        (".pickle", "only if you trust it"),
        (".pt", "weights_only=True"),
        (".pth", "weights_only=True"),
        (".csv", "read_csv"),
        (".json", "json.load"),
        (".jsonl", "lines=True"),
        (".JSONL", "lines=True"),
        (".zarr", "zarr.open"),
        (".tfrecord", "tfds."),
        (".tfrecord-00000-of-00002", "tfds."),
        (".mat", "loadmat"),
        (".parquet", "read_parquet"),
        (".arrow", "folder"),
        (".gz", "unpack"),
        (".txt", "np.savez"),
        ("", "np.savez"),
    ],
)
def test_other_kinds_say_how_to_convert(suffix, how, tmp_path):
    (tmp_path / f"d{suffix}").write_bytes(b"abc")
    line = refused(tmp_path / f"d{suffix}", LANE, how)
    assert "damaged" not in line and ("savez" in line or suffix in (".gz", ".arrow"))


def members(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in files.items():
            file.writestr(name.replace("__", "."), content)
    return buffer.getvalue()


def whole():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, observations=np.random.default_rng(0).normal(size=(3, 50, 82)))
    return buffer.getvalue()


def npy():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("d.npz", b"", "is empty (0 bytes)"),
        ("d.h5", b"", "is empty (0 bytes)"),
        ("d.npz", whole()[:5000], "damaged"),
        ("d.npz", whole()[:3000] + b"xxxx" + whole()[3004:], "damaged"),
        ("d.npz", members(a__txt=b"hello"), "no npz: it holds a.txt"),
        ("d.npz", members(observations__npy=b"hello"), "damaged"),
        ("d.npz", members(observations__npy=npy().replace(b"(3,)", b"(9" + b"9" * 20 + b",)")), ""),
        ("d.npz", members(), "it holds nothing"),
        ("d.npz", npy(), "is a .npy file by its first bytes"),
        ("d.h5", whole(), "rename it to d.npz"),
        ("d", whole(), "rename it to d.npz"),
        ("d.npz", b"\x89HDF\r\n\x1a\n", "rename it to d.hdf5"),
        ("d.npz", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("d.h5", b"hello", "damaged or no HDF5"),
    ],
)  # fmt: skip
def test_damaged_files(name, content, part, tmp_path):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, LANE, part)


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (["d.npz/a.npz"], "one of its files, a.npz"),
        (["d.npz/x/y"], "is a folder of no dataset"),
        (["d/data/a.npz"], "is a folder of no dataset"),
        (["d/x-train.tfrecord-00000-of-00001"], "tfds."),
        (["d/.zgroup"], "zarr.open"),
    ],
)
def test_other_folders(names, part, tmp_path):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    refused(tmp_path / names[0].split("/")[0], LANE, part)


@pytest.mark.parametrize("name", ["a b.npz", "häß 日本.npz", "a\tb.npz", "%s{x}.npz"])
def test_paths(name, tmp_path):
    case = Case(LANE)
    path = saved(tmp_path / name, **case.flat(), terminals=case.ends())
    path.chmod(0o444)
    link = tmp_path / "link.npz"
    link.symlink_to(path)
    for one in (path, str(path), link):
        case.assert_read(read(one, LANE))
    case.assert_read(
        read(h5(tmp_path / f"{name}.h5", {**case.flat(), "terminals": case.ends()}), LANE)
    )


def test_paths_that_lead_nowhere(tmp_path, monkeypatch):
    link = tmp_path / "link.npz"
    link.symlink_to(tmp_path / "gone.npz")
    refused(link, LANE, "is missing")
    refused(tmp_path / "two\nlines.npz", LANE, "is missing")
    refused(f"{tmp_path}/nul\0.npz", LANE)
    assert "damaged" not in refused(tmp_path / ("x" * 300 + ".npz"), LANE, "File name too long")
    refused("~nobody-of-this-name/d.npz", LANE, "home")
    os.mkfifo(tmp_path / "pipe.npz")
    refused(tmp_path / "pipe.npz", LANE, "no regular file")


def test_no_permission_is_not_called_damage(tmp_path, monkeypatch):
    path = saved(tmp_path / "d.npz", observations=np.zeros((1, 2, 82)))

    def closed(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(pathlib.Path, "open", closed)
    assert "damaged" not in refused(path, LANE, "no permission")


BAD = {
    "two names": (
        lambda c, d: {**d, "obs": d["observations"]},
        ["observations and obs", "mean the same"],
    ),
    "no observations": (
        lambda c, d: {"x": d["observations"]},
        ["must hold observations", "x [3, 5, 82] float32", "observations=d['KEY']"],
    ),
    "dict in keys": (
        lambda c, d: {"obs/a": d["rewards"], "obs/b": d["rewards"]},
        ["obs/a [3, 5]", "np.concatenate([d['obs/a'], d['obs/b']], -1)"],
    ),
    "a key an episode": (
        lambda c, d: {"obs_0": c.o[0], "obs_1": c.o[1]},
        ["obs_0 [6, 82] float32", "np.concatenate([d[k] for k in KEYS]), lengths=["],
    ),
    "np.savez of a list": (
        lambda c, d: {"arr_0": c.o[0], "arr_1": c.o[1]},
        ["arr_0 [6, 82] float32", "lengths=["],
    ),
    "nothing": (lambda c, d: {}, ["it holds nothing"]),
    "text": (
        lambda c, d: {**d, "actions": np.full((3, 5), "left")},
        ["actions holds text", "shape [3, 5], dtype <U4", ".index(a)"],
    ),
    "bytes": (
        lambda c, d: {**d, "actions": np.full((3, 5), b"left")},
        ["actions holds text", "|S4"],
    ),
    "complex": (lambda c, d: {**d, "observations": d["observations"] + 1j}, ["complex", ".real"]),
    "structured": (
        lambda c, d: {**d, "actions": np.zeros((3, 5), [("x", "f4"), ("y", "f4")])},
        ["structured", "structured_to_unstructured"],
    ),
    "dates": (
        lambda c, d: {**d, "rewards": np.zeros((3, 5), "M8[s]")},
        ["rewards holds no numbers"],
    ),
    "ragged": (
        lambda c, d: {**d, "observations": np.array([*c.o, None], object)[:3]},
        ["ragged object array", "shape [3], dtype object", "`lengths`", "`terminals`"],
    ),
    "objects": (
        lambda c, d: {**d, "observations": d["observations"].astype(object)},
        ["Python objects", "observations.astype(float)"],
    ),
    "dict": (
        lambda c, d: {**d, "observations": np.array({"a": 1}, object)},
        ["a Python object, such as a dict"],
    ),
    "object lengths": (
        lambda c, d: {**d, "lengths": np.array([5, None, 3], object)},
        ["lengths holds Python objects"],
    ),
    "nan length": (
        lambda c, d: {**d, "lengths": [5, np.nan, 3]},
        ["lengths must be 3 numbers in 1..5", "episode 1 has nan", "float64", "len(e)"],
    ),
    "half length": (lambda c, d: {**d, "lengths": [5, 1.5, 3]}, ["episode 1 has 1.5"]),
    "negative length": (lambda c, d: {**d, "lengths": [5, 1, -3]}, ["episode 2 has -3"]),
    "long length": (lambda c, d: {**d, "lengths": [5, 6, 3]}, ["episode 1 has 6"]),
    "huge length": (lambda c, d: {**d, "lengths": [5, 1e300, 3]}, ["episode 1 has 1e+300"]),
    "zero length": (lambda c, d: {**d, "lengths": [5, 0, 3]}, ["episode 1 has 0", "no steps"]),
    "two lengths": (lambda c, d: {**d, "lengths": [5, 3]}, ["must be 3 numbers", "shape [2]"]),
    "one length": (lambda c, d: {**d, "lengths": 5}, ["must be 3 numbers", "shape []"]),
    "mask": (lambda c, d: {**d, "mask": d["rewards"]}, ["lengths=mask.sum(axis=1)"]),
    "ends inside": (
        lambda c, d: {**d, "dones": np.eye(3, 5)},
        [
            "dones [3, 5] end episode 0 at step 0 of 5",
            "np.where(dones.any(1), dones.argmax(1) + 1, 5)",
            "reshape",
        ],
    ),
    "no episode": (lambda c, d: {k: x[:0] for k, x in d.items()}, ["holds no episode"]),
    "no step": (lambda c, d: {k: x[:, :0] for k, x in d.items()}, ["episode 0 has no steps"]),
    "nan": (
        lambda c, d: put(d, "observations", (1, 3, 2), np.nan),
        ["episode 1 holds an observation that is not finite, step 3", "observations is nan"],
    ),
    "inf": (
        lambda c, d: put(d, "rewards", (2, 0), np.inf),
        ["episode 2 holds a reward that is not finite, step 0", "rewards is inf"],
    ),
    "1e300": (
        lambda c, d: put(d, "observations", (0, 4, 1), 1e300),
        ["episode 0 holds an observation that is not finite, step 4", "1e+300 of float64"],
    ),
    "1e300 action": (
        lambda c, d: put(d, "actions", (0, 4, 1), 1e300),
        ["episode 0 holds an action that is not finite, step 4"],
    ),
    "large": (
        lambda c, d: put(put(d, "actions", (0, 0, 0), 1.5), "actions", (2, 0, 0), -4),
        ["episode 0 holds an action of 1.5", "actions / 4", "(high + low)"],
    ),
    "int8": (
        lambda c, d: {**d, "actions": np.full((3, 5, 2), -128, np.int8)},
        ["holds an action of 128"],
    ),
    "discrete": (
        lambda c, d: {**d, "actions": np.ones((3, 5), int)},
        ["actions [5], but lane_keep's are [5, 2]", "int64", "discrete"],
    ),
    "narrow": (
        lambda c, d: {**d, "observations": d["observations"][..., :7]},
        ["observations [5, 7], but lane_keep's are [T, 82]", "irl-bench demos"],
    ),
    "wide": (
        lambda c, d: {**d, "observations": np.zeros((3, 5, 90))},
        ["observations [5, 90], but lane_keep's are [T, 82]", "COLUMNS"],
    ),
    "images": (
        lambda c, d: {**d, "observations": np.zeros((3, 5, 8, 8, 3))},
        ["shape [3, 5, 8, 8, 3], dtype float64", "images", "reshape"],
    ),
    "one number": (lambda c, d: {**d, "observations": np.zeros(5)}, ["shape [5]", "[..., None]"]),
    "scalar": (lambda c, d: {**d, "observations": np.zeros(())}, ["shape []"]),
    "fewer actions": (
        lambda c, d: {**d, "actions": d["actions"][:2]},
        ["actions [2, 5, 2] (float32) do not go with observations [3, 5, 82]"],
    ),
    "fewer rewards": (lambda c, d: {**d, "rewards": d["rewards"][:, :4]}, ["rewards [3, 4]"]),
    "scalar rewards": (lambda c, d: {**d, "rewards": 1.0}, ["rewards []"]),
    "many rewards": (
        lambda c, d: {**d, "rewards": np.zeros((3, 5, 2))},
        ["episode 0 has rewards [5, 2]", "sum(axis=-1)"],
    ),
    "flat lengths": (lambda c, d: {**c.flat(), "lengths": [5, 1, 2]}, ["add up to 8 of 9 steps"]),
    "flat ends": (lambda c, d: {**c.flat(), "terminals": np.zeros(8, bool)}, ["terminals [8]"]),
    "odd ends": (
        lambda c, d: {**c.flat(), "terminals": np.full(9, np.nan)},
        ["terminals has shape [9]", "0 and 1"],
    ),
    "wide ends": (
        lambda c, d: {**c.flat(), "terminals": np.zeros((9, 2))},
        ["terminals has shape [9, 2]"],
    ),
    "flat more": (
        lambda c, d: {**c.flat(), "observations": np.zeros((11, 82)), "terminals": np.eye(9)[8]},
        ["do not go with"],
    ),
    "indices": (
        lambda c, d: {**c.flat(), "indices": [5, 5]},
        ["indices has shape [2]", "np.cumsum"],
    ),
    "nan indices": (lambda c, d: {**c.flat(), "indices": [5, np.nan]}, ["indices"]),
    "world": (lambda c, d: {**d, "world": 3}, ["world has shape []", "expected the world's name"]),
    "worlds": (lambda c, d: {**d, "world": ["a", "b"]}, ["world has shape [2]"]),
    "object world": (
        lambda c, d: {**d, "world": np.array("lane_keep", object)},
        ["world has shape [], dtype object"],
    ),
    "no world": (lambda c, d: {**d, "world": np.array([], "U3")}, ["world has shape [0]"]),
}


def put(arrays, key, place, value):
    array = arrays[key].astype(np.float64)
    array[place] = value
    return {**arrays, key: array}


@pytest.mark.parametrize("kind", BAD)
def test_bad_arrays(kind, tmp_path):
    spoil, parts = BAD[kind]
    arrays = spoil(Case(LANE), Case(LANE, (5, 5, 5)).padded())
    line = refused(saved(tmp_path / "d.npz", **arrays), LANE, *parts)
    assert "damaged" not in line and ("convert: " in line or "nearest: " in line)


@pytest.mark.parametrize(
    ("actions", "part"),
    [
        (np.full((3, 5), 0.5), "no integer in 0..3, step 0 (actions is 0.5"),
        (np.full((3, 5), -1), "no integer in 0..3"),
        (np.full((3, 5), 4), "no integer in 0..3"),
        (np.full((3, 5), 2**62), "no integer in 0..3"),
        (np.full((3, 5), 1e30), "no integer in 0..3"),
        (np.full((3, 5), np.nan), "not finite"),
        (np.tile([0, 1, 0, 0], (3, 5, 1)), "actions.argmax(-1)"),
        (np.zeros((3, 5, 2)), "takes an integer in 0..3"),
    ],
)
def test_actions_of_a_discrete_world(actions, part, tmp_path):
    refused(
        saved(
            tmp_path / "d.npz", observations=Case(CHAIN).padded()["observations"], actions=actions
        ),
        CHAIN,
        part,
    )


def test_an_observation_of_one_number(tmp_path):
    refused(
        saved(tmp_path / "d.npz", observations=np.zeros((3, 5)), actions=np.zeros((3, 5))),
        POINT,
        "[..., None]",
    )


# Fuzz


KEYS = [*sorted({name for names in layouts.ALIASES.values() for name in names}), "states", "x"]
DTYPES = st.sampled_from(
    ["f4", "f8", ">f8", "f2", "i8", "u1", "bool", "U3", "S2", "c8", "M8[s]", [("a", "f4")]]
)
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4]), max_size=4).map(tuple)


@hypothesis.settings(
    max_examples=400, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
@hypothesis.given(
    st.dictionaries(
        st.sampled_from(KEYS),
        st.tuples(DTYPES, SHAPES).flatmap(lambda x: arrays_of.arrays(*x)),
        max_size=6,
    ),
    st.sampled_from([POINT, CHAIN]),
)
def test_any_arrays_are_read_or_refused_in_one_line(tmp_path_factory, arrays, world):
    path = saved(tmp_path_factory.getbasetemp() / "fuzz.npz", **arrays)
    try:
        found = read(path, world)
    except BadInput as error:
        assert "\n" not in str(error) and "damaged" not in str(error), str(error)
    else:
        assert np.isfinite(found.observation).all() and min(found.lengths) >= 1


def likely(draw):
    """Arrays that nearly fit together."""
    n, t = draw(st.integers(0, 3)), draw(st.integers(0, 4))
    world = draw(st.sampled_from([POINT, CHAIN]))
    lead = draw(st.sampled_from([(n, t), (t,)]))
    number = (
        st.sampled_from([0, 1, 0.5, -1, 2, np.nan, 1e300])
        if draw(st.booleans())
        else st.sampled_from([0, 1])
    )
    fill = lambda shape: draw(arrays_of.arrays(np.float64, shape, elements=number))
    more = draw(st.sampled_from([0, 0, 1, 2]))
    arrays = {"obs": fill((*lead[:-1], lead[-1] + more, int(world.observation_size)))}
    for key, shapes in {
        "acts": [lead, (*lead, 1)],
        "rews": [lead],
        "terminals": [lead],
        "lengths": [(n,)],
        "indices": [(1,)],
    }.items():
        if draw(st.booleans()):
            arrays[key] = fill(draw(st.sampled_from(shapes)))
    return arrays, world


@hypothesis.settings(
    max_examples=400, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
@hypothesis.given(st.composite(likely)())
def test_arrays_that_nearly_fit_are_read_or_refused_in_one_line(tmp_path_factory, given):
    test_any_arrays_are_read_or_refused_in_one_line.hypothesis.inner_test(tmp_path_factory, *given)


@hypothesis.settings(
    max_examples=200, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
@hypothesis.given(st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_changed_bytes_are_read_or_refused_in_one_line(tmp_path_factory, at, byte, cut):
    content = bytearray(SMALL)
    content[at % len(content)] = byte
    path = tmp_path_factory.getbasetemp() / "bytes.npz"
    path.write_bytes(content[: at % len(content)] if cut else content)
    try:
        read(path, POINT)
    except BadInput as error:
        assert "\n" not in str(error)


def small():
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        observations=np.zeros((2, 3, 1)),
        actions=np.zeros((2, 3)),
        world=np.asarray("point"),
    )
    return buffer.getvalue()


SMALL = small()


def test_the_program_checks_in_one_line(tmp_path):
    def call(name, *flags):
        line = [
            sys.executable,
            ROOT / "launch" / "demos.py",
            "--env=lane_keep",
            f"--check={name}",
            *flags,
        ]
        return subprocess.run(line, capture_output=True, text=True, timeout=300, cwd=tmp_path)

    case = Case(LANE)
    saved(tmp_path / "d.NPZ", **case.flat(), terminals=case.ends())
    done = call("d.NPZ")
    assert (
        done.returncode == 0
        and "layout npz, flat, cut by terminals" in done.stdout
        and "rewards True" in done.stdout
    )
    saved(tmp_path / "d.npz", **put(case.padded(), "observations", (0, 4, 1), 1e300))
    for name in ("d.npz", "~nobody-of-this-name/d.npz"):
        bad = call(name)
        assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and not bad.stdout, bad.stderr


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("d.h5", "d-v0"),
        ("a b", "a-b-v0"),
        ("x.y-v0", "x-v0"),
        ("~nobody-of-this-name/d", "full path"),
    ],
)
def test_the_program_writes_no_dataset_of_an_odd_name(name, near, tmp_path):
    with pytest.raises(BadInput, match=near):
        check_new(folders.expand(tmp_path / name if name[0] != "~" else name))


def test_interleaved_episodes_say_how_to_sort_them(tmp_path):
    """As recorders of several worlds at once write them."""
    np.savez(
        tmp_path / "d.npz",
        observations=np.zeros((12, 65)),
        actions=np.zeros(12, int),
        episode_id=np.tile(np.arange(3), 4),
    )
    with pytest.raises(
        BadInput, match=r"comes back to an episode .* np\.argsort\(episode_id, kind='stable'\)"
    ):
        read(tmp_path / "d.npz", envs.make("chain"))


def test_lengths_and_marks_of_ends_that_contradict_are_refused(tmp_path):
    dones = np.zeros((2, 50))
    dones[:, 9] = 1
    arrays = {
        "observations": np.zeros((2, 50, 65)),
        "actions": np.zeros((2, 50), int),
        "dones": dones,
    }
    np.savez(tmp_path / "d.npz", **arrays, lengths=[50, 50])
    with pytest.raises(BadInput, match=r"dones end episode 0 at step 9, but lengths says 50"):
        read(tmp_path / "d.npz", envs.make("chain"))
    np.savez(tmp_path / "d.npz", **arrays, lengths=[10, 10])
    assert read(tmp_path / "d.npz", envs.make("chain")).lengths == (10, 10)


def test_keys_that_are_not_read_are_named(tmp_path):
    states, controls = np.zeros((2, 5, 82), np.float32), np.zeros((2, 5, 2), np.float32)
    np.savez(tmp_path / "d.npz", states=states, controls=controls)
    assert summary(read(tmp_path / "d.npz", LANE))["ignored"] == ["controls"]
    np.savez(tmp_path / "e.npz", observations=states, actions=controls, state=states[..., :3])
    assert summary(read(tmp_path / "e.npz", LANE).first(1))["ignored"] == ["state"]
    tree = {"observations": states, "controls": controls, "infos/speed": states[..., 0]}
    found = summary(read(h5(tmp_path / "f.hdf5", tree), LANE))
    assert sorted(found["ignored"]) == ["controls", "infos/"]
    tree = {
        "version": np.array(1),
        **{f"{i}/{key}": x for i in range(2) for key, x in (("obs", states[0]), ("u", states[0]))},
    }
    assert summary(read(h5(tmp_path / "g.hdf5", tree), LANE))["ignored"] == ["version", "u"]
    np.savez(tmp_path / "h.npz", observations=states, actions=controls, world="lane_keep")
    assert summary(read(tmp_path / "h.npz", LANE))["ignored"] == []


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_the_current_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="an empty name is no file or folder; nearest: "):
        read(name, LANE)


def test_the_remedy_names_an_outside_world_by_its_reference(tmp_path):
    np.savez(tmp_path / "d.npz", observations=np.zeros((2, 5, 3)), actions=np.zeros((2, 5, 2)))

    class Pend(type(LANE)):
        name = "pend"

    pend = Pend()
    for ref, shown in (("mine:make", "mine:make"), ("", f"{__name__}:Pend")):
        with pytest.raises(BadInput, match=f"irl-bench demos --env={shown} --out="):
            read(tmp_path / "d.npz", pend, ref)
    with pytest.raises(BadInput, match="irl-bench demos --env=lane_keep --out="):
        read(tmp_path / "d.npz", LANE)
