"""Cutover beside what people would otherwise use: same model, same load, same machine, one run.

`python -m loadtests.compare --help`
"""
