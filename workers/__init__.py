"""Runs one version of a model in a process of its own: numpy, onnxruntime and the standard library.

`wire` and `memory` are shared with the gateway; nothing here imports the gateway.
"""
