"""People's comparisons as files: the clips that are compared and the answers.

A folder holds `clips.npz` (segments, the pairs of them, and pictures) and `answers.jsonl`, one line
per answer; the last answer to a pair counts. `irl_bench.labelling` writes both.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from irl_bench.core.handover import PEOPLE
from irl_bench.core.settings import BadInput
from irl_bench.storage import untrusted
from irl_bench.storage.artifacts import Artifact

ANSWERS = {"left": 1.0, "right": 0.0, "equal": 0.5, "skip": None}
"""Answer -> label of the first (left) clip."""
FACTS = frozenset(
    ("env", "world", "segment", "pairs", "seed", "demos", "demo_steps", "steps", "env_steps")
)
"""Fields of a clip file's description."""
CLIPS, ANSWERS_FILE = "clips.npz", "answers.jsonl"
"""Names of the two files."""


def read_clips(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns (facts, arrays) of a folder's clips: observation float32[S, H, O], action [S, H,
    ...], pairs int[P, 2], and pictures.

    Raises BadInput if there are no clips or the file is damaged.
    """
    path = folder / CLIPS
    if not path.exists():
        raise BadInput(f"{folder} holds no {CLIPS}; nearest: irl-bench label --out={folder}")
    try:
        untrusted.check_regular(path)
        untrusted.check_zip(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = untrusted.parsed(str(arrays.pop("facts")))
        _check_clips(facts, arrays)
        return facts, arrays
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError, EOFError,
        NotImplementedError, zipfile.BadZipFile, zlib.error,
    ):  # fmt: skip
        raise BadInput(f"{path} is damaged or not a file of clips") from None


def _check_clips(facts: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError or KeyError unless the clips and their pairs fit one another."""
    whole = untrusted.whole(0, 2**31)
    numbers = ("segment", "pairs", "seed", "demos", "demo_steps", "steps", "env_steps")
    wrong = untrusted.fields(
        facts,
        {
            "env": untrusted.name,
            "world": untrusted.mapped(untrusted.anything),
            **dict.fromkeys(numbers, whole),
        },
    )
    observation, action, pairs = (arrays[name] for name in ("observation", "action", "pairs"))
    segments = len(observation)
    if (
        wrong
        or observation.ndim != 3
        or action.shape[:2] != observation.shape[:2]
        or any(array.dtype.kind not in "biuf" for array in (observation, action, pairs))
        or pairs.ndim != 2
        or pairs.shape[1] != 2
        or (pairs.size and not (pairs.min() >= 0 and pairs.max() < segments))
    ):
        raise ValueError(wrong)


def read_answers(folder: Path, pairs: int) -> dict[int, str]:
    """Returns {pair: its last answer}; a last line that an interruption cut off is ignored.

    Args:
      folder: of the clips.
      pairs: how many pairs there are.

    Raises:
      BadInput: any other line is no answer to one of the pairs.
    """
    path = folder / ANSWERS_FILE
    try:
        stored = untrusted.content(path) if path.exists() else b""
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from None
    lines = stored.decode("utf-8", errors="replace").split("\n")
    answers: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        try:
            entry = untrusted.parsed(line)
            pair, answer = entry["pair"], entry["answer"]
            if answer not in ANSWERS or not isinstance(pair, int) or not 0 <= pair < pairs:
                raise KeyError(answer)
        except (ValueError, KeyError, TypeError):
            if number == len(lines):  # the file ends with a newline unless it was interrupted
                break
            text = f"{path}, line {number}: no answer to one of the {pairs} pairs"
            raise BadInput(text) from None
        answers[pair] = answer
    return answers


def read(folder: str | Path, least: int) -> Artifact:
    """Returns the comparisons of a folder, shared by all seeds.

    Raises:
      BadInput: fewer than `least` comparisons, or a damaged file.
    """
    folder = Path(folder)
    facts, arrays = read_clips(folder)
    answers = read_answers(folder, len(arrays["pairs"]))
    labels = {
        pair: ANSWERS[answer]
        for pair, answer in sorted(answers.items())
        if ANSWERS[answer] is not None
    }
    if len(labels) < least:
        raise BadInput(
            f"{folder} holds {len(labels)} comparisons; {least} are needed; nearest: "
            f"irl-bench label --out={folder}"
        )
    index = arrays["pairs"][list(labels)]
    leaves = [
        arrays["observation"].astype(np.float32),
        arrays["action"],
        index[:, 0].astype(np.int32),
        index[:, 1].astype(np.int32),
        np.array(list(labels.values()), np.float32),
    ]
    config = {
        "segments": len(leaves[0]),
        "answers": len(labels),
        "asked": len(answers),
        "segment": facts["segment"],
        "world": facts["world"],
        "expert_queries": facts["demos"] * facts["demo_steps"],
        "env_steps": facts["env_steps"],
    }
    digest = hashlib.sha256(json.dumps([facts, config], sort_keys=True).encode())
    for leaf in leaves:
        digest.update(leaf.tobytes())
    sha256 = digest.hexdigest()
    return Artifact(
        algo=PEOPLE,
        env=facts["env"],
        config=config,
        demos=facts["demos"],
        demo_steps=0,
        horizon=0,
        sha256=sha256,
        kind=sha256[:8],
        arrays={0: {"comparisons": leaves}},
        shared=True,
    )
