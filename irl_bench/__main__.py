"""`python -m irl_bench` is `irl-bench`."""

from irl_bench.cli.main import main

main()
