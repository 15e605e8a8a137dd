"""Faults on purpose: what a run's folder survives, counted. `launch/bench.py --suite=chaos` runs
them in full size, and `tests/chaos/` in small ones.

Each fault is a function of a folder to work in and a size. It disturbs sweeps that run as processes
of their own, or files of them, and returns a `Count`.
"""
