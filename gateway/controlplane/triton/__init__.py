"""What the control process answers of Triton's superset of the protocol: errands that proxies hand on for clients.

Everything here speaks `protos/inference.proto`; what it says holds for the whole gateway, whichever proxy was asked.
"""
