"""The steps: one file for each version of the schema since 2, the first one in PostgreSQL.

A step names what it makes as it was then, and does not look at `schema`, which goes on changing.
"""
