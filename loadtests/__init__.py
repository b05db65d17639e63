"""Load tests of an inference service, from the outside: Locust suites, a service-level objective, a verdict.

A black box: nothing here imports the gateway. The pure modules (units, schedule, recorder, slo, verdict, report) need
neither Locust nor gRPC; `suite` and `user` run inside a Locust process; `cli` starts that process and judges.
"""
