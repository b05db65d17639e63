from gateway.controlplane.settings import WorkerOverrides, WorkerSettings


def test_only_what_is_said_replaces_the_base() -> None:
    base = WorkerSettings(instances=2, threads=4)
    assert WorkerOverrides().over(base) == base
    assert WorkerOverrides(instances=3, batching="off").over(base) == WorkerSettings(3, 4, 64, "off")
