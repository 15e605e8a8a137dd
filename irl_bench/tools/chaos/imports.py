"""What a victim needs, imported once by the process that forks them all. JAX's backend does not
start here: its threads would not survive."""

import irl_bench.plan.build
import irl_bench.running.runner
import irl_bench.storage.artifacts
import irl_bench.tools.chaos.sweeps
import irl_bench.tools.chaos.victims  # noqa: F401
