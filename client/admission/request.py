"""Making the site's request for admission; its form is in minet_core.admission.request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client.admission.keys import SiteKeys, make_tls_key, read_node_private, read_tls_private
from client.site_home import SiteHome
from minet_core.admission.request import build_request, check_request
from minet_core.errors import FileMissing
from minet_core.protocol.cohort_declaration import DECLARATION_FILE, read_declaration
from minet_core.runtime.files.atomic_write import write_json


@dataclass(frozen=True)
class MadeRequest:
    """The request's file, and the fingerprint to read out by telephone."""

    path: Path
    fingerprint: str
    declares: bool


def make_request(home: SiteHome) -> MadeRequest:
    """Write request.json from the site's keys and, where scans were ingested, its declaration.

    The keys stay as they are, and so does the fingerprint. Raises FileMissing (FM-C103) where there is no key,
    InvalidSetting (FM-C102).
    """
    keys = SiteKeys.of(home.keys)
    if not keys.private_key.is_file():
        raise FileMissing(
            "a key of the site is missing", got=keys.private_key, action="Run `fedminet site init`"
        )
    make_tls_key(keys)
    declared = home.path / DECLARATION_FILE
    declaration = read_declaration(declared) if declared.is_file() else None
    request = build_request(
        home.settings().name,
        node_key=read_node_private(keys),
        tls_key=read_tls_private(keys),
        declaration=declaration,
    )
    write_json(home.request, request.model_dump(mode="json"))
    return MadeRequest(home.request, check_request(request).fingerprint, declaration is not None)
