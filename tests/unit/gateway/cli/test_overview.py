from gateway.cli.overview import errors, one_line, overviews, requests, rows
from protos import admin_pb2 as pb
from tests.unit.gateway.cli.fake import release, version


def test_everything_comes_to_its_model_by_name() -> None:
    both = [release("b", 1, stable=1), release("a", 2, stable=2)]
    found = overviews(
        both, [version("a", 2, []), version("b", 1, [])], [pb.Statistics(model="a", version=2, arm="stable")]
    )
    assert [one.release.model for one in found] == ["a", "b"]
    assert (list(found[0].versions), list(found[0].statistics)) == ([2], [(2, "stable")])
    assert (list(found[1].versions), list(found[1].statistics)) == ([1], [])


def test_rows_are_in_the_order_in_which_they_matter() -> None:
    policy = release(
        *("m", 3, 1),
        canaries=[pb.Canary(version=2, ranges=[pb.BucketRange(start=0, end=25)])],
        shadows=[pb.Shadow(version=3, rate=1)],
        standby_version=4,
    )
    (found,) = overviews([policy], [version("m", 1, [])], [])
    shown = [(row.arm, row.version, row.share) for row in rows(found)]
    assert shown == [
        ("stable", 1, "99.75 %"),
        ("canary-2", 2, "0.25 %"),
        ("standby", 4, "-"),
        ("shadow", 3, "100 % copied"),
    ]
    assert [row.found.state for row in rows(found)] == [pb.Version.READY, *[pb.Version.MISSING] * 3]


def test_errors_of_an_arm_and_of_a_shadow() -> None:
    assert errors(pb.Statistics(requests={"OK": 5, "INTERNAL": 2, "UNAVAILABLE": 1})) == 3
    shadow = pb.Statistics(requests={"OK": 5}, shadow=pb.ShadowStatistics(compared=40, failed=2, incomparable=3))
    assert (requests(shadow), errors(shadow)) == (7, 5)


def test_one_line() -> None:
    did = [
        pb.Statistics(
            model="m", version=1, arm="stable", requests={"OK": 9, "INTERNAL": 1}, latency=pb.Latency(p99_ms=2)
        ),
        pb.Statistics(model="m", version=3, arm="shadow", shadow=pb.ShadowStatistics(compared=4, agreed=3)),
    ]
    (found,) = overviews([release("m", 3, 1, shadows=[pb.Shadow(version=3, rate=1)])], [], did)
    assert one_line(found) == (
        "m revision 3: stable 1, shadow 3 (100 %); stable: 10 requests, 1 errors, p99 2 ms; "
        "shadow 3: 4 rows, 75.00 % agree"
    )
