"""Why a bench cannot go on."""


class BenchError(Exception):
    """The bench cannot go on; one line."""
