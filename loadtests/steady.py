"""One rate from beginning to end.

`locust -f loadtests/steady.py --headless --model NAME --host HOST:PORT`; every option also comes from the environment.
"""

from loadtests import suite
from loadtests.user import InferenceUser

suite.install("steady")


class Steady(InferenceUser):
    """A user of this suite."""
