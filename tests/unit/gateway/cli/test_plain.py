from gateway.cli.plain import timestamp, to_plain
from protos import admin_pb2 as pb


def test_fields_keep_their_names_and_integers_stay_numbers() -> None:
    release = pb.Release(model="digits", revision=2**60)
    release.policy.canaries.add(version=2, ranges=[pb.BucketRange(start=0, end=5)])
    release.update_time.FromMilliseconds(1_700_000_000_120)
    plain = to_plain(release)
    assert (plain["revision"], plain["rollback_policy"]) == (2**60, None)
    assert plain["policy"]["canaries"] == [{"version": 2, "basis_points": 0, "ranges": [{"start": 0, "end": 5}]}]
    assert plain["update_time"] == "2023-11-14T22:13:20.120Z"
    assert timestamp(release.update_time).timestamp() == 1_700_000_000.12


def test_enums_maps_and_what_json_cannot_say() -> None:
    version = pb.Version(state=pb.Version.LOADING, inputs=[pb.Tensor(name="X", shape=[-1, 3])])
    assert to_plain(version)["state"] == "LOADING"
    assert to_plain(version)["inputs"] == [{"name": "X", "datatype": "", "shape": [-1, 3]}]
    statistics = pb.Statistics(requests={"OK": 3}, shadow=pb.ShadowStatistics(max_absolute_difference=float("nan")))
    assert to_plain(statistics)["requests"] == {"OK": 3}
    assert to_plain(statistics)["shadow"]["max_absolute_difference"] == "nan"
    unknown = pb.Version.FromString(b"\x28\x63")
    assert to_plain(unknown)["state"] == 99
