"""`python -m irl_bench.cli` is `irl-bench`."""

from irl_bench.cli.main import main

main()
