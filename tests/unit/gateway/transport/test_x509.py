import datetime as dt
import ssl

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transport.x509 import validity
from tests.certificates import Authority

FAR = dt.timedelta(days=365 * 40)
DER = ssl.PEM_cert_to_DER_cert(Authority().server().certificate.decode())


@pytest.mark.parametrize("ends_in", [dt.timedelta(days=1), dt.timedelta(days=-1), FAR])
def test_validity_is_what_the_cryptography_package_reads(ends_in: dt.timedelta) -> None:
    """Before and after 2050, when the encoding changes."""
    pem = Authority().server(ends_in=ends_in).certificate
    found = x509.load_pem_x509_certificate(pem)
    expected = (int(found.not_valid_before_utc.timestamp()), int(found.not_valid_after_utc.timestamp()))
    assert validity(ssl.PEM_cert_to_DER_cert(pem.decode())) == expected


@given(st.one_of(st.binary(max_size=100), st.integers(0, len(DER) - 1).map(lambda size: DER[:size])))
@settings(max_examples=100)
def test_anything_else_is_no_certificate(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a certificate"):
        validity(data)


@given(st.integers(0, len(DER) - 1), st.integers(0, 255))
@settings(max_examples=100)
def test_a_changed_byte_never_does_worse_than_that(at: int, value: int) -> None:
    changed = DER[:at] + bytes([value]) + DER[at + 1 :]
    try:
        assert len(validity(changed)) == 2
    except ValueError as error:
        assert str(error) == "not a certificate"  # noqa: PT017 - either outcome is right
