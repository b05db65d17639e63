"""What a gateway does when far more arrives than it can answer, and how soon it is over.

`python -m loadtests.overload --help`
"""
