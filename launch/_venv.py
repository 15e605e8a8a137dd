"""Lets `python launch/NAME.py` work with any Python: it goes on in the repository's environment.

The standard library only.
"""

import importlib.util
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NEEDED = ("absl", "jax", "brax", "orbax", "pyarrow")


def ensure():
    """Returns if the packages are here; else starts this program anew in .venv, which `make`
    creates if it is not there.

    The code that runs is that beside this file, whatever is installed.
    """
    sys.path.insert(0, ROOT)
    if all(importlib.util.find_spec(name) for name in NEEDED):
        return
    home = os.path.join(ROOT, ".venv")
    python = os.path.join(home, "bin", "python")
    if os.path.realpath(sys.prefix) == os.path.realpath(home):
        sys.exit("error: .venv is incomplete; remove it and run `make setup`")
    if not os.path.exists(python):
        print(
            "The packages are not installed for this Python: setting up .venv (once; a few "
            "minutes) ...",
            file=sys.stderr,
        )
        if subprocess.call(
            ["make", "--silent", "-C", ROOT, "setup", "VENV=.venv"], stdout=sys.stderr
        ):
            sys.exit("error: `make setup` failed; see above")
    sys.stdout.flush()
    os.execv(python, [python, *sys.argv])


def start(name):
    """Runs the command `name` of `irl_bench.cli` with the flags in `sys.argv`."""
    ensure()
    from irl_bench.cli import main

    main.start(name)
