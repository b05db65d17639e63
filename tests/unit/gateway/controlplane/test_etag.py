"""Etags name one state of a release."""

import re

import msgspec
import pytest

from gateway.controlplane.etag import check, etag
from gateway.errors import InvalidRequest, Stale
from gateway.routing.snapshot import Policy, Release

RELEASE = Release("iris", 3, Policy(stable=1), updated_ms=5)


def test_an_etag_is_the_revision_and_a_digest_in_quotes() -> None:
    assert re.fullmatch(r'"3-[0-9a-f]{8}"', etag(RELEASE))
    assert etag(RELEASE) == etag(Release("iris", 3, Policy(stable=1), updated_ms=5))


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
