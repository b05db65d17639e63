"""A sudden multiple of the rate, and back: does the service recover?

`locust -f loadtests/spike.py --headless --model NAME --host HOST:PORT`; every option also comes from the environment.
"""

from loadtests import suite
from loadtests.user import InferenceUser

suite.install("spike")


class Spike(InferenceUser):
    """A user of this suite."""
