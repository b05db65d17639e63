"""A release's way: admin -> release (pure) -> store (durable) -> fleet (pools, proxies) -> answer.

Deciders: release, policies, declaring, overrides, metadata_rules, reach, exposure, ranges, commands, readiness, audit,
etag, canonical; declared and releasefile put releases into words and files. Doers: releases (the one door), store,
admin, and behind `ports.Fleet` everything that owns processes. May import observe, routing and
errors; never the data plane.
"""
