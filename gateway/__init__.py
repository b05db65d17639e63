"""Cutover's gateway: a control process, proxies, and the values they agree on.

Rooms import one way: cli -> app -> config -> controlplane | dataplane -> observe | transport -> routing -> oip ->
errors.
"""

__version__ = "0.1.0"
