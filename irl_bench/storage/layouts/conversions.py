"""How to convert files that are not read."""

from __future__ import annotations

from collections.abc import Mapping

from irl_bench.storage.layouts.contents import SAVE

_ARRAYS = "np.savez('demos.npz', observations=d['observations'], actions=d['actions'])"

_PICKLED = (
    f"d = pandas.read_pickle(FILE), which runs code from the file: only if you trust it; {_ARRAYS}"
)

_TORCH = f"d = {{k: x.numpy() for k, x in torch.load(FILE, weights_only=True).items()}}; {_ARRAYS}"

_LINES = (
    "t = pandas.read_json(FILE, lines=True); np.savez('demos.npz', observations=np.stack(t.obs), "
    "actions=np.stack(t.action),"
    " terminals=t.done)"
)

_PARQUET = (
    "np.savez('demos.npz', observations=np.stack(t['observation.state']), "
    "actions=np.stack(t.action),"
    " lengths=t.groupby('episode_index').size())"
)

REFUSED: Mapping[str, str] = {
    ".npy": "np.savez('demos.npz', observations=np.load('obs.npy'), "
    "actions=np.load('actions.npy'))",
    ".pkl": _PICKLED,
    ".pickle": _PICKLED,
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".csv": "t = pandas.read_csv(FILE); np.savez('demos.npz', observations=t[NAMES], "
    "actions=t[NAMES], terminals=t.done)",
    ".json": f"d = {{k: np.asarray(x) for k, x in json.load(open(FILE)).items()}}; {_ARRAYS}",
    ".jsonl": _LINES,
    ".ndjson": _LINES,
    ".zarr": (
        "z = zarr.open(FOLDER, 'r'); np.savez('demos.npz', observations=z['data/state'][:], "
        "actions=z['data/action'][:],"
        " lengths=np.diff(z['meta/episode_ends'][:], prepend=0))"
    ),
    ".tfrecord": (
        "e = [list(x['steps'].as_numpy_iterator()) for x in "
        "tfds.builder_from_directory(FOLDER).as_dataset('train')];"
        " np.savez('demos.npz', observations=[s['observation'] for x in e for s in x],"
        " actions=[s['action'] for x in e for s in x], lengths=[len(x) for x in e])"
    ),
    ".mat": f"d = scipy.io.loadmat(FILE); {_ARRAYS}",
    ".parquet": "give the folder of the LeRobot dataset, or t = pandas.read_parquet(FILE); "
    f"{_PARQUET}",
    ".arrow": f"give the folder of the dataset, or {SAVE}",
    ".gz": "unpack it: gunzip FILE",
    ".zip": "unpack it: unzip FILE",
    ".tar": "unpack it: tar -xf FILE",
}
"""How to convert files that are not read, by suffix in lower case."""
