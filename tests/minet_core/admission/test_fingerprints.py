"""The digits that two people compare."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from minet_core.admission.fingerprints import read_node_key, same_fingerprint, site_fingerprint, spoken
from minet_core.admission.request import build_request, check_request
from minet_core.errors import AdmissionRefused

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


def test_a_node_key_as_a_compressed_point_is_refused() -> None:
    """OpenSSH writes none; the library says so in a way of its own."""
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    kind, encoded = line.split()
    blob = base64.b64decode(encoded)
    point = len(blob) - 97
    assert blob[point] == 4
    changed = blob[:point] + b"\x02" + blob[point + 1 :]
    with pytest.raises(AdmissionRefused, match="FM-F404"):
        read_node_key(f"{kind} {base64.b64encode(changed).decode()}")


def test_a_certificate_request_of_an_unknown_version_is_refused() -> None:
    node, tls = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    request = build_request("sms", node_key=node, tls_key=tls, declaration=None)
    first, *middle, last = request.tls_request.strip().splitlines()
    content = base64.b64decode("".join(middle))
    assert content.count(b"\x02\x01\x00") >= 1
    changed = base64.encodebytes(content.replace(b"\x02\x01\x00", b"\x02\x01\x40", 1)).decode().strip()
    odd = request.model_copy(update={"tls_request": "\n".join([first, changed, last, ""])})
    signature = node.sign(odd.signed_bytes(), ec.ECDSA(hashes.SHA384()))
    odd = odd.model_copy(update={"signature": base64.b64encode(signature).decode()})
    with pytest.raises(AdmissionRefused, match="certificate request cannot be read"):
        check_request(odd)
