"""People's comparisons as files: the clips that are compared and the answers.

A folder holds `clips.npz` (segments, the pairs of them, and pictures) and `answers.jsonl`, one line
per answer; the last answer to a pair counts. `irl_bench.labelling` writes both.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from irl_bench.core.handover import PEOPLE
from irl_bench.core.settings import BadInput
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
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(str(arrays.pop("facts")))
        if not facts.keys() >= FACTS or not {"observation", "action", "pairs"} <= arrays.keys():
            raise KeyError
        return facts, arrays
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        raise BadInput(f"{path} is damaged or not a file of clips") from None


def read_answers(folder: Path, pairs: int) -> dict[int, str]:
    """Returns {pair: its last answer}; a last line that an interruption cut off is ignored.

    Args:
      folder: of the clips.
      pairs: how many pairs there are.

    Raises:
      BadInput: any other line is no answer to one of the pairs.
    """
    path = folder / ANSWERS_FILE
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    answers: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
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
