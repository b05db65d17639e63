import pytest

from protos import admin_pb2 as pb
from tests.unit.gateway.cli.fake import Shell, release, version


@pytest.fixture
def busy(cutover: Shell) -> Shell:
    admin = cutover.admin
    canaries = [pb.Canary(version=2, basis_points=1000, ranges=[pb.BucketRange(start=0, end=1000)])]
    shadows = [pb.Shadow(version=3, rate=0.5)]
    admin.releases["digits"] = release("digits", 7, stable=1, canaries=canaries, shadows=shadows, salt="digits/2")
    admin.releases["digits"].rollback_policy.stable_version = 4
    admin.versions.append(
        version("digits", 3, ["shadow"], state=pb.Version.FAILED, error="not [ONNX]\nat all", restarts=2)
    )
    latency = pb.Latency(count=5, p50_ms=0.412, p99_ms=12.34)
    shadow = pb.ShadowStatistics(compared=10_000, agreed=9_999, dropped=3, failed=1, max_absolute_difference=0.0123)
    admin.statistics = [
        pb.Statistics(model="digits", version=1, arm="stable", requests={"OK": 1234, "INTERNAL": 2}, latency=latency),
        pb.Statistics(model="digits", version=3, arm="shadow", requests={"OK": 2_500}, shadow=shadow),
        pb.Statistics(model="other", version=1, arm="stable", requests={"OK": 1}),
    ]
    return cutover


def test_status_shows_who_answers_whom_and_how_well(busy: Shell) -> None:
    said = busy("status")
    assert (said.code, said.err) == (0, "")
    heading, header, *lines = [line for line in said.out.splitlines() if line.strip()]
    assert heading.split("  ")[:3] == ["digits", "revision 7", 'etag "7-abcdef01"']
    assert "rollback to stable 4" in heading
    assert header.split()[:4] == ["ARM", "VERSION", "SHARE", "STATE"]
    assert " ".join(lines[0].split()) == "stable 1 90 % ready 2/2 1,236 2 0.412 ms 12.3 ms"
    assert " ".join(lines[1].split()) == "canary-2 2 10 % ready 2/2 0 0 - -"
    assert " ".join(lines[2].split()) == "shadow 3 50 % copied failed 2/2, 2 restarts 2,501 1 - - 99.99 % 0.0123 3"


def test_status_as_json_is_one_document(busy: Shell) -> None:
    (model,) = busy("status", "digits", "-o", "json").json["models"]
    assert model["release"]["revision"] == 7
    assert [one["version"] for one in model["versions"]] == [1, 2, 3]
    assert [one["arm"] for one in model["statistics"]] == ["stable", "shadow"]


def test_status_of_nothing_says_what_to_do(cutover: Shell) -> None:
    cutover.admin.releases.clear()
    assert "no model is released yet" in cutover("status").out


def test_status_of_an_unknown_model_is_refused(cutover: Shell) -> None:
    said = cutover("status", "nothing")
    assert (said.code, said.err) == (1, "cutover: models/nothing/release does not exist\n")


def test_models_shows_versions_and_problems(busy: Shell) -> None:
    busy.admin.problems = ["digits/new: a version folder must be named by an integer", "not [ONNX]\nat all"]
    lines = busy("models").out.splitlines()
    assert lines[0].split() == ["MODEL", "VERSION", "STATE", "ROLES", "DIGEST", "ERROR"]
    assert lines[1].split() == ["digits", "1", "ready", "2/2", "stable", "f" * 12]
    assert lines[3].endswith("not [ONNX] at all")
    assert lines[4:] == ["problem: digits/new: a version folder must be named by an integer"], "each of them once"


def test_models_as_json(busy: Shell) -> None:
    found = busy("models", "-o", "json").json
    assert found["problems"] == []
    assert (found["versions"][2]["state"], found["versions"][2]["error"]) == ("FAILED", "not [ONNX]\nat all")


def test_models_of_an_empty_directory_says_what_to_do(cutover: Shell) -> None:
    cutover.admin.versions.clear()
    assert "no version found" in cutover("models").out


def test_stats_shows_every_arm(busy: Shell) -> None:
    out = busy("stats").out
    assert "2 INTERNAL, 1,234 OK" in out
    assert "10,000 rows compared, 99.99 % agree, max difference 0.0123, 3 dropped, 1 failed" in out
    assert len(busy("stats", "digits", "-o", "json").json["statistics"]) == 2


def test_stats_shows_each_proxy(busy: Shell) -> None:
    busy.admin.proxies = [
        pb.Proxy(index=0, up=True, connections=31, in_flight=4, requests=1200),
        pb.Proxy(index=1, requests=1310),
    ]
    last = busy("stats").out.splitlines()[-1]
    assert last == "proxies 1/2, connections 31 + 0, in flight 4 + 0, requests 1,200 + 1,310"
    assert busy("stats", "-o", "json").json["proxies"][0]["connections"] == 31


def test_control_characters_of_others_do_not_reach_the_terminal(cutover: Shell) -> None:
    cutover.admin.problems = ["evil\x1b[2J\x07\u202e"]
    out = cutover("models").out
    assert all(char.isprintable() or char == "\n" for char in out)


def test_assign_is_recomputed_from_the_release(busy: Shell) -> None:
    salt = "exp-1"
    busy.admin.releases["digits"].policy.salt = salt
    busy.admin.releases["digits"].policy.canaries[0].ranges[0].end = 5600
    said = busy("assign", "digits", "--unit", "user-1", "--unit", "user-2", "-o", "json").json
    assert (said["salt"], said["revision"]) == (salt, 7)
    assert said["assignments"] == [
        {"unit": "user-1", "bucket": 5504, "arm": "canary-2", "version": 2, "reason": "split"},
        {"unit": "user-2", "bucket": 6104, "arm": "stable", "version": 1, "reason": "split"},
    ]
    assert busy("assign", "digits", "--unit", "user-1").out.splitlines()[1].split()[:4] == [
        "user-1",
        "5504",
        "canary-2",
        "2",
    ]


def test_assign_goes_by_rules_and_by_the_holdout_whose_salt_it_names(cutover: Shell) -> None:
    policy = cutover.admin.releases["digits"].policy
    policy.rules.add(key="x-region", values=["eu"], arm="stable")
    policy.holdout.version, policy.holdout.salt = 1, "exp-2"
    policy.holdout.ranges.add(start=5576, end=5577)
    by_rule = cutover("assign", "digits", "--unit", "user-1", "--metadata", "X-Region=eu", "-o", "json").json
    assert [one["reason"] for one in by_rule["assignments"]] == ["rule"]
    said = cutover("assign", "digits", "--unit", "user-1", "--metadata", "x-region=", "-o", "json").json
    assert said["holdout_salt"] == "exp-2"
    assert said["assignments"] == [
        {"unit": "user-1", "bucket": 5576, "arm": "holdout", "version": 1, "reason": "holdout"}
    ]
    assert cutover("assign", "digits", "--unit", "user-1").out.endswith("of the holdout exp-2\n")


@pytest.mark.parametrize("text", ["x-region", "=eu", ""])
def test_metadata_is_a_key_and_a_value(cutover: Shell, text: str) -> None:
    said = cutover("assign", "digits", "--unit", "user-1", "--metadata", text)
    assert (said.code, cutover.admin.requests) == (2, [])
    assert "--metadata is KEY=VALUE" in said.err


def test_assign_needs_a_unit(cutover: Shell) -> None:
    assert cutover("assign", "digits").code == 2
    assert cutover("assign", "digits", "--unit", "").code == 2
