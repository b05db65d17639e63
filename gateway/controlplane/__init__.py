"""A release's way: admin -> release (pure) -> store (durable) -> fleet (pools, proxies) -> answer.

Deciders: release, ranges, commands, readiness, audit, etag. Doers: releases (the one door), store, admin, and behind
`ports.Fleet` everything that owns processes. May import observe, routing and errors; never the data plane.
"""
