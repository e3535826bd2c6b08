"""A site's request for admission: one file, `request.json`, and nothing in it is secret.

    form         "fedminet request 1"
    site         the site's name
    node_key     its Flower node key, public, OpenSSH form
    tls_request  a certificate request (PKCS#10, PEM) for its TLS key
    declaration  what it declares of its cohort, or null
    signature    ECDSA-P384/SHA-384 of the node key over the five fields above, base64

Neither key can be exchanged on the way: the certificate request, signed by the TLS key, names the node key, and the
node key signs the certificate request. Somebody who replaces both makes another fingerprint, which the telephone shows.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import Field

from minet_core.admission.fingerprints import (
    line_fingerprint,
    read_node_key,
    site_fingerprint,
    tls_key_digest,
)
from minet_core.errors import AdmissionRefused, ConfigurationError, FileMissing
from minet_core.protocol.cohort_declaration import CohortDeclaration
from minet_core.runtime.json_text import parse_json
from minet_core.settings.names import SiteName
from minet_core.settings.yaml_file import Settings, parse_settings

_MAX_BYTES = 64 * 1024
"""A request is about 2 KB."""


class RequestFile(Settings):
    """`request.json`."""

    form: Literal["fedminet request 1"] = "fedminet request 1"
    site: SiteName = Field(description="the site's name")
    node_key: str = Field(description="the site's Flower node key, public, OpenSSH form")
    tls_request: str = Field(description="certificate request of the site's TLS key, PEM")
    declaration: CohortDeclaration | None = Field(None, description="what the site declares of its cohort")
    signature: str = Field("", description="of the node key over the other fields, base64")

    def signed_bytes(self) -> bytes:
        """What the node key signs: the other fields, keys sorted, without spaces.

        Returns
        -------
        bytes
            JSON, UTF-8.
        """
        content = self.model_dump(mode="json", exclude={"signature"})
        return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True)
class CheckedRequest:
    """A request whose signatures hold and whose keys name each other."""

    site: str
    node_key: str
    tls_key: ec.EllipticCurvePublicKey
    declaration: CohortDeclaration | None

    @property
    def node_fingerprint(self) -> str:
        """Of the node key, as `ssh-keygen -l` prints it."""
        return line_fingerprint(self.node_key)

    @property
    def tls_digest(self) -> str:
        return tls_key_digest(self.tls_key)

    @property
    def fingerprint(self) -> str:
        """To compare by telephone."""
        return site_fingerprint(self.site, node_key=self.node_key, tls_key=self.tls_key)


def build_request(
    site: str,
    *,
    node_key: ec.EllipticCurvePrivateKey,
    tls_key: ec.EllipticCurvePrivateKey,
    declaration: CohortDeclaration | None,
) -> RequestFile:
    """The request for admission of a site.

    Parameters
    ----------
    site
        Its name.
    node_key, tls_key
        Its private keys, on the curve P-384; neither is in the request.
    declaration
        What it declares of its cohort, or None.

    Returns
    -------
    RequestFile
        Signed by both keys.
    """
    node_line = _openssh(node_key.public_key(), site)
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)]))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(site), _node_uri(node_line)]), critical=False
        )
        .sign(tls_key, hashes.SHA384())
    )
    unsigned = RequestFile(
        site=site,
        node_key=node_line,
        tls_request=csr.public_bytes(serialization.Encoding.PEM).decode("ascii"),
        declaration=declaration,
    )
    signature = node_key.sign(unsigned.signed_bytes(), ec.ECDSA(hashes.SHA384()))
    return unsigned.model_copy(update={"signature": base64.b64encode(signature).decode("ascii")})


def read_request(path: Path) -> tuple[RequestFile, CheckedRequest]:
    """Read a site's request and hold it to its signatures.

    Parameters
    ----------
    path
        Of `request.json`.

    Returns
    -------
    tuple of RequestFile and CheckedRequest
        The file as it is, and what it says once it is believed.

    Raises
    ------
    FileMissing
        FM-C103, where there is no file.
    ConfigurationError, UnknownKey, InvalidSetting
        FM-C100 to FM-C102, for what is no request.
    AdmissionRefused
        FM-F404, with the reason, for one that was altered.
    """
    if not path.is_file():
        raise FileMissing(
            "the site's request is missing", got=path, action="Use the one of `fedminet site init`"
        )
    if path.stat().st_size > _MAX_BYTES:
        raise _no_request(path, f"{path.stat().st_size} bytes")
    try:
        content = parse_json(path.read_bytes())
    except ValueError as failure:
        raise _no_request(path, "no JSON") from failure
    if not isinstance(content, dict):
        raise _no_request(path, f"a {type(content).__name__} alone")
    request = parse_settings(content, RequestFile, source=str(path))
    return request, check_request(request)


def _no_request(path: Path, got: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is no request",
        got=got,
        expected="the file request.json of a site, as `fedminet site request` writes it",
        action="Give that file, or ask the site to send it again",
    )


def check_request(request: RequestFile) -> CheckedRequest:
    """Hold a request to its signatures.

    Parameters
    ----------
    request
        As it was received.

    Returns
    -------
    CheckedRequest
        The site, its keys and its declaration, all of which name each other.

    Raises
    ------
    AdmissionRefused
        FM-F404, with what does not hold.
    """
    node_key = read_node_key(request.node_key)
    try:
        node_key.verify(
            base64.b64decode(request.signature, validate=True),
            request.signed_bytes(),
            ec.ECDSA(hashes.SHA384()),
        )
    except (InvalidSignature, binascii.Error, ValueError) as failure:
        raise _refused("its node key has not signed it as it is: it was altered on the way") from failure
    csr = _read_csr(request.tls_request)
    key = csr.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise _refused("its TLS key is not on the curve P-384")
    names = [str(name.value) for name in csr.subject]
    if names != [request.site]:
        raise _refused(
            f"its certificate request is for {', '.join(names) or 'nobody'}, not for {request.site}"
        )
    if _named_node(csr) != [_node_uri(request.node_key).value]:
        raise _refused("its certificate request names another node key: one of the two was exchanged")
    if request.declaration is not None and request.declaration.site != request.site:
        raise _refused(f"its declaration is that of {request.declaration.site}")
    return CheckedRequest(request.site, request.node_key, key, request.declaration)


def _read_csr(pem: str) -> x509.CertificateSigningRequest:
    try:
        csr = x509.load_pem_x509_csr(pem.encode("ascii"))
        valid = csr.is_signature_valid
    except (ValueError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion) as failure:
        raise _refused("its certificate request cannot be read") from failure
    if not valid:
        raise _refused("its certificate request is not signed by the key in it")
    return csr


def _named_node(csr: x509.CertificateSigningRequest) -> list[str]:
    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _node_uri(line: str) -> x509.UniformResourceIdentifier:
    digest = line_fingerprint(line).removeprefix("SHA256:")
    return x509.UniformResourceIdentifier(f"urn:fedminet:node:{base64.b64decode(digest + '=').hex()}")


def _openssh(key: ec.EllipticCurvePublicKey, comment: str) -> str:
    encoded = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{encoded.decode('ascii')} {comment}"


def _refused(reason: str) -> AdmissionRefused:
    return AdmissionRefused(
        "the site's request is refused", got=reason, action="Ask the site for `fedminet site request` anew"
    )
