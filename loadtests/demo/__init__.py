"""The demo: a model release on real data and real processes, told step by step. `python -m loadtests.demo`."""
