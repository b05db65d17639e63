"""The admin API by subject: rooms, each with the RPCs of `protos/admin.proto` about one thing, put together in `admin`.

A room is any object with methods named like RPCs; errors leave them as exceptions of `gateway.errors` (see `statuses`).
"""
