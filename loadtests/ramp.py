"""A rate that grows along a straight line: where does latency bend?

`locust -f loadtests/ramp.py --headless --model NAME --host HOST:PORT`; every option also comes from the environment.
"""

from loadtests import suite
from loadtests.user import InferenceUser

suite.install("ramp")


class Ramp(InferenceUser):
    """A user of this suite."""
