"""Where and when a bench ran; see `loadtests.bench.machine`."""

from loadtests.bench.machine import machine

__all__ = ["machine"]
