"""Who made a back-up: a signature over its list, by a key that the federation's authority has certified for it.

Not the server's key, which is in the back-up: whoever gets hold of one could sign another. Not the authority's own,
which is under a passphrase, and a back-up is made at night. So `server init` makes a key for back-ups alone, and the
authority certifies it, once. It lies in `pki/back-up.key` and is left out of every back-up; a restored folder gets a
new one when the authority is opened there next.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from minet_core.admission.kit import read_authority
from minet_core.errors import BackupDamaged, ConfigurationError
from server.admission.pem_files import naming_damaged
from server.admission.pki import BACKUP_USAGE, Authority, backup_files, ca_files, issue_backup_key

SIGNATURE_FILE = "back-up.sig"
MAX_SIGNATURE_BYTES = 256
"""DER of ECDSA-P384: 104 at most."""


def has_backup_key(pki: Path) -> bool:
    """Whether back-ups can be signed here without the authority."""
    files = backup_files(pki)
    return files.private_key.is_file() and files.certificate.is_file()


def ensure_backup_key(authority: Authority) -> None:
    """Make it where there is none, as after a restore or in a folder of an earlier version."""
    if not has_backup_key(authority.folder):
        issue_backup_key(authority)


def require_backup_key(pki: Path) -> None:
    """Raise ConfigurationError (FM-C100) where nothing could sign."""
    if not has_backup_key(pki):
        raise ConfigurationError(
            "there is no key to sign the back-up with",
            got=backup_files(pki).private_key,
            action="Give the command with --passphrase-file, once: the authority certifies a new one",
        )


def signed(pki: Path, content: bytes) -> bytes:
    """The signature over `content`: ECDSA-P384/SHA-384, DER.

    Raises ConfigurationError (FM-C100) for a damaged key, and for one that is not that of the certificate beside it: no
    restore would take what it signed.
    """
    files = backup_files(pki)
    with naming_damaged(files.private_key):
        key = serialization.load_pem_private_key(files.private_key.read_bytes(), password=None)
    with naming_damaged(files.certificate):
        certified = x509.load_pem_x509_certificate(files.certificate.read_bytes()).public_key()
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certified:
        raise ConfigurationError(
            "the key that signs back-ups is not that of its certificate",
            got=files.private_key,
            expected=f"the key of {files.certificate}",
            action="Remove both, and give the command with --passphrase-file once: the authority certifies new ones",
        )
    return key.sign(content, ec.ECDSA(hashes.SHA384()))


def require_signature(pki: Path, content: bytes, signature: bytes) -> None:
    """Raise BackupDamaged (FM-S508) unless a key that the authority of `pki` has certified for it signed `content`.

    Dates are not looked at: a back-up outlives its key.
    """
    authority = read_authority(ca_files(pki).certificate)
    try:
        certificate = x509.load_pem_x509_certificate(backup_files(pki).certificate.read_bytes())
        certificate.verify_directly_issued_by(authority)
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        key = certificate.public_key()
        if list(usage) != [BACKUP_USAGE] or not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("the certificate is for something else")
        key.verify(signature, content, ec.ECDSA(hashes.SHA384()))
    except (InvalidSignature, OSError, ValueError, TypeError, x509.ExtensionNotFound) as failure:
        raise BackupDamaged(
            "the federation's authority has not signed the back-up as it is",
            got=str(failure) or type(failure).__name__,
            expected="a signature of the key that it certified for back-ups",
            action="Use another back-up, and ask who could write to this one",
        ) from failure
