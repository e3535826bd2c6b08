"""The digits that two people compare."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from minet_core.admission.fingerprints import same_fingerprint, site_fingerprint, spoken
from minet_core.admission.request import build_request, check_request

DIGEST = hashlib.sha256(b"abc").digest()


def test_the_digits_are_the_digest_modulo_ten_to_the_fortieth() -> None:
    groups = spoken(DIGEST).split()
    assert [len(group) for group in groups] == [5] * 8
    assert int("".join(groups)) == int.from_bytes(DIGEST, "big") % 10**40
    assert spoken(bytes(31) + b"\x07") == "00000 " * 7 + "00007"


@pytest.mark.parametrize("separator", ["", " ", "-", "  ", ".", "\n"])
def test_how_the_digits_are_grouped_does_not_matter(separator: str) -> None:
    assert same_fingerprint(separator.join(spoken(DIGEST).split()), spoken(DIGEST))


@pytest.mark.parametrize("given", ["", "12911", "x" * 40, spoken(DIGEST)[:-1], spoken(DIGEST) + "0"])
def test_a_part_of_the_digits_is_not_the_fingerprint(given: str) -> None:
    assert not same_fingerprint(given, spoken(DIGEST))


def test_each_key_and_the_name_change_the_fingerprint() -> None:
    keys = [ec.generate_private_key(ec.SECP384R1()) for _ in range(4)]

    def fingerprint(site: str, node: int, tls: int) -> str:
        request = build_request(site, node_key=keys[node], tls_key=keys[tls], declaration=None)
        return check_request(request).fingerprint

    assert fingerprint("sms", 0, 1) == fingerprint("sms", 0, 1)  # of the keys, not of one signature
    others = [fingerprint("umr", 0, 1), fingerprint("sms", 2, 1), fingerprint("sms", 0, 3)]
    assert len({fingerprint("sms", 0, 1), *others}) == 4


def test_what_stands_before_and_after_a_boundary_is_not_confused() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    request = build_request("sms", node_key=key, tls_key=key, declaration=None)
    line = request.node_key
    assert site_fingerprint("a", node_key=line, tls_key=key.public_key()) != site_fingerprint(
        "ab", node_key=line, tls_key=key.public_key()
    )
