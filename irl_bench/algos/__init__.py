"""Algorithms, one file each. To add one, write its file and add a line here."""

ALGORITHMS = {
    "bc": "irl_bench.algos.bc",
    "dagger": "irl_bench.algos.dagger",
    "dart": "irl_bench.algos.dart",
    "clone": "irl_bench.algos.clone",
    "gail": "irl_bench.algos.gail",
    "gailfo": "irl_bench.algos.gailfo",
    "airl": "irl_bench.algos.airl",
    "maxent_irl": "irl_bench.algos.maxent_irl",
    "ppo": "irl_bench.algos.ppo",
    "sac": "irl_bench.algos.sac",
    "rlhf": "irl_bench.algos.rlhf",
    "rlhf_iterated": "irl_bench.algos.rlhf_iterated",
    "best_of_n": "irl_bench.algos.best_of_n",
    "trex": "irl_bench.algos.trex",
    "drex": "irl_bench.algos.drex",
    "dpo": "irl_bench.algos.dpo",
    "cpl": "irl_bench.algos.cpl",
    "expert": "irl_bench.algos.expert",
    "judged": "irl_bench.algos.judged",
    "stored": "irl_bench.algos.stored",
    "untrained": "irl_bench.algos.untrained",
}
"""The registry: name -> module with `Config` (optional) and `make(spec, config) -> Learner`."""
