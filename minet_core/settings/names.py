"""The types of names and digests in settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

_SITE, _FEDERATION, _DIGEST = r"^[a-z][a-z0-9-]{0,30}$", r"^[a-z0-9][a-z0-9-]{0,40}$", r"^[0-9a-f]{64}$"
_NAME, _IPV6 = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", r"\[?[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*\]?"
_HOST = rf"^({_NAME}|{_IPV6})$"

SiteName = Annotated[str, StringConstraints(pattern=_SITE)]
FederationName = Annotated[str, StringConstraints(pattern=_FEDERATION)]
HostName = Annotated[str, StringConstraints(pattern=_HOST)]
Digest = Annotated[str, StringConstraints(pattern=_DIGEST)]

PATTERNS_IN_WORDS = {
    _SITE: "a small letter, then small letters, digits or hyphens, 31 at most (north-2)",
    _FEDERATION: "small letters, digits or hyphens, 41 at most (study-2)",
    _HOST: "the name or address of a machine alone, without https://, port or path",
    _DIGEST: "a SHA-256: 64 of the characters 0 to 9 and a to f",
}
"""What a message says in place of the regular expression that a value does not match."""
