"""Etags name one state of a release."""

import re

import msgspec
import pytest

from gateway.controlplane import etag as module
from gateway.controlplane.etag import check, etag
from gateway.errors import InvalidRequest, Stale
from gateway.routing.snapshot import Canary, Policy, Range, Release, Shadow

RELEASE = Release("iris", 3, Policy(stable=1), updated_ms=5)


def test_an_etag_is_the_revision_and_a_digest_in_quotes() -> None:
    assert re.fullmatch(r'"3-[0-9a-f]{8}"', etag(RELEASE))
    assert etag(RELEASE) == etag(Release("iris", 3, Policy(stable=1), updated_ms=5))


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        (RELEASE, '"3-4611f6c6"'),
        (
            Release(
                *("iris", 7),
                Policy(2, (Canary(3, (Range(0, 100), Range(200, 250))),), (Shadow(4, 0.25),), 3, "iris/3"),
                rollback=Policy(stable=1),
                updated_ms=1_700_000_000_000,
            ),
            '"7-e49df458"',
        ),
    ],
)
def test_releases_without_overrides_have_the_etags_of_before_there_were_any(release: Release, expected: str) -> None:
    assert etag(release) == expected


def test_overrides_of_either_policy_make_another_etag() -> None:
    listed = Policy(stable=1, overrides={"ann": "stable"})
    releases = [
        msgspec.structs.replace(RELEASE, policy=policy, rollback=rollback)
        for policy in (Policy(stable=1), listed)
        for rollback in (None, Policy(stable=1), listed)
    ]
    assert len({etag(release) for release in releases}) == len(releases)


def test_the_digest_of_a_release_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    release = msgspec.structs.replace(RELEASE, policy=Policy(stable=7))
    first = etag(release)
    monkeypatch.setattr(module, "_digest", lambda _: "another")
    assert etag(release) == first
    assert etag(msgspec.structs.replace(release)) == '"3-another"'
    monkeypatch.undo()
    etag(RELEASE)  # the made-up one is forgotten
    assert etag(msgspec.structs.replace(release)) == first


def test_the_same_revision_of_another_history_has_another_etag() -> None:
    assert etag(RELEASE) != etag(msgspec.structs.replace(RELEASE, policy=Policy(stable=2)))


def test_the_current_etag_passes_with_or_without_quotes() -> None:
    check(etag(RELEASE), RELEASE)
    check(etag(RELEASE).strip('"'), RELEASE)


@pytest.mark.parametrize("given", [None, ""])
def test_no_etag_is_invalid(given: str | None) -> None:
    with pytest.raises(InvalidRequest, match="a change of iris needs the etag"):
        check(given, RELEASE)


def test_another_etag_is_stale_and_learns_the_current_one() -> None:
    with pytest.raises(Stale, match=re.escape(f'the release of iris is at {etag(RELEASE)}, not "2-00000000"')):
        check('"2-00000000"', RELEASE)
