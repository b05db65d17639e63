"""Contracts on the wire and the modules generated from them (`python -m protos.generate`).

All but `admin` are registered in descriptor pools of their own, so that a process may import them beside tritonclient's
or KServe's modules, or grpcio-reflection's, which define messages of the same full names.
"""
