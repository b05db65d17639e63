"""Contracts on the wire and the modules generated from them (`python -m protos.generate`).

`inference` and `health` are registered in a descriptor pool of their own, so that a process may import them beside
tritonclient's or KServe's modules, which define messages of the same full names.
"""
