"""A request's way: service -> pipeline: read -> assign -> lane -> worker -> answer -> tap, with copies to shadow lanes.

One uvloop, one thread, no disk, no store. Everything a request passes through is a synchronous function or callback.
"""
