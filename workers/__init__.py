"""Runs one version of a model in a process of its own: numpy, onnxruntime and the standard library.

`wire` is the one module shared with the gateway; nothing here imports the gateway.
"""
