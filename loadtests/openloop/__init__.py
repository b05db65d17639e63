"""An open-loop load generator for unary gRPC calls: a process of its own that costs little.

`python -m loadtests.openloop --help`
"""
