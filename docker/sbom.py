"""The bill of materials of an image, CycloneDX 1.6 in JSON: its Python distributions and its Debian packages.

    python docker/sbom.py fedminet/site:0.1.0 > site.cdx.json

Read from the image itself, by its own Python where it has one: what is listed is what is installed.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import urllib.parse
import uuid
from typing import Any

LIST_DISTRIBUTIONS = """
import hashlib, importlib.metadata as m, json
found = []
for d in m.distributions():
    record = d.read_text("RECORD") or ""
    found.append([d.metadata["Name"], d.version, d.metadata.get("License-Expression") or "",
                  hashlib.sha256(record.encode()).hexdigest()])
print(json.dumps(sorted(found)))
"""
DPKG_STATUS = "/var/lib/dpkg/status"


def sbom(image: str) -> dict[str, Any]:
    """The bill of materials of a local image. Raises CalledProcessError where it cannot be read."""
    facts = json.loads(_docker("image", "inspect", image))[0]
    components = [*_debian(_in_image(image, "cat", DPKG_STATUS)), *_python(image)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, facts['Id'])}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "component": {
                "type": "container",
                "bom-ref": facts["Id"],
                "name": image.rpartition(":")[0],
                "version": image.rpartition(":")[2],
                "hashes": [{"alg": "SHA-256", "content": facts["Id"].removeprefix("sha256:")}],
            },
        },
        "components": components,
    }


def _python(image: str) -> list[dict[str, Any]]:
    listed = _tried(image, "python", "-I", "-c", LIST_DISTRIBUTIONS)
    if listed is None:
        return []
    components = []
    for name, version, licence, record in json.loads(listed):
        purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{urllib.parse.quote(version)}"
        component = {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
            "properties": [{"name": "fedminet:record:sha256", "value": record}],
        }
        if licence:
            component["licenses"] = [{"expression": licence}]
        components.append(component)
    return components


def _debian(status: str) -> list[dict[str, Any]]:
    components = []
    for paragraph in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1)
            for line in paragraph.splitlines()
            if ": " in line and not line.startswith(" ")
        )
        if fields.get("Status", "").endswith(" installed"):
            name, version = fields["Package"], fields["Version"]
            purl = f"pkg:deb/debian/{name}@{urllib.parse.quote(version)}?arch={fields['Architecture']}"
            components.append(
                {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
            )
    return components


def _in_image(image: str, program: str, *arguments: str) -> str:
    return _docker("run", "--rm", "--network", "none", "--entrypoint", program, image, *arguments)


def _tried(image: str, program: str, *arguments: str) -> str | None:
    try:
        return _in_image(image, program, *arguments)
    except subprocess.CalledProcessError as failure:
        if failure.returncode == 127:  # the image has no such program
            return None
        raise


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, text=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    json.dump(sbom(sys.argv[1]), sys.stdout, indent=1)
    sys.stdout.write("\n")
