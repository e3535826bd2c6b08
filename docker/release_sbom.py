"""The bill of materials of a release, CycloneDX 1.6 in JSON: the wheel, and all that it is installed with, by digest.

    python docker/release_sbom.py WHEEL > sbom.cdx.json

Read from the lists that it is installed from (pins/). Its time is SOURCE_DATE_EPOCH: the same release has the same one.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import sys
import urllib.parse
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # started with its path, it finds its neighbour
from pins import ROOT, listed


def sbom(wheel: Path) -> dict[str, Any]:
    """The bill of materials. Raises ValueError where a list holds a package without a digest."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    made = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.UTC)
    own = _component("fedminet", wheel.name.split("-")[1], {digest}, scope=None)
    needed = [
        _component(name, version, digests, scope=scope)
        for list_name, scope in (
            ("run", "required"),
            ("torch", "optional"),
            ("torch-cpu", "optional"),
            ("cuda", "optional"),
        )
        for name, (version, digests) in listed(ROOT / "pins" / f"{list_name}.txt").items()
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {"timestamp": made.isoformat(), "component": own},
        "components": needed,
        "dependencies": [
            {"ref": own["bom-ref"], "dependsOn": [component["bom-ref"] for component in needed]}
        ],
    }


def _component(name: str, version: str, digests: set[str], *, scope: str | None) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{urllib.parse.quote(version)}"
    component = {
        "type": "library" if scope else "application",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": digest} for digest in sorted(digests)],
    }
    return component | ({"scope": scope} if scope else {})


if __name__ == "__main__":
    json.dump(sbom(Path(sys.argv[1])), sys.stdout, indent=1)
    sys.stdout.write("\n")
