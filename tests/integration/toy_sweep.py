"""A sweep of the toys as a program of its own: `python -m tests.integration.toy_sweep OUT DEVICES
[ALGO [ROUNDS [BYTES]]]`. OUT may be the URL of a folder in an object store.

Prints "computing" once training is under way, so that whoever disturbs it knows when. BYTES limits
the size of any one file, as a full disk would.
"""

import resource
import signal
import sys

from irl_bench.running import leases, runner
from irl_bench.running.console import Lines
from irl_bench.storage import remote
from irl_bench.storage.files import StoreError
from tests.worlds.toys import cell

LONG = {"algo": "tests.worlds.toys:make_long", "eval_every": 1500}


def cells(**changes):
    """Four cells of one program: two modes, two groups of seeds."""
    return [
        cell(**changes, mode=mode, first_seed=seed)
        for mode in ("nominal", "recoverable")
        for seed in (0, 3)
    ]


class Loud(Lines):
    """Says each stage at once."""

    def advance(self, label: str, stage: str, fraction: float) -> None:
        if stage == "training":
            print("computing", flush=True)


def main(out: str, devices: str, algo: str = "", rounds: str = "0", limit: str = "0") -> None:
    runner.configure(int(devices))
    if int(limit):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    chosen = cells(**({**LONG, "algo": algo} if algo else LONG))
    leases.EXPIRY, leases.RENEWAL_THERE = 6.0, 1.0
    try:
        folder = remote.folder(out, writing=True)
        runner.run(
            chosen, folder, display=Loud(), checkpoint_seconds=0.0, chunk_rounds=int(rounds) or None
        )
        remote.push(folder)
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(*sys.argv[1:])
