"""A real PACS for tests: Debian's Orthanc on this machine, with its data in a folder that goes with it."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from minet_core.runtime.processes.child_processes import free_port
from tests.support.hospital_ca import TlsFiles

PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
NEEDS_ORTHANC = pytest.mark.skipif(
    PROGRAM is None, reason="Orthanc is not installed (docker/install-engine.sh installs it on Debian)"
)
TITLE = "ORTHANC"


@dataclass(frozen=True)
class Orthanc:
    """One that runs. port: of DICOM. http: of its REST interface. site_port: where it looks for the site's receiver."""

    port: int
    http: int
    site_port: int

    def ask(self, path: str, content: object = None, *, method: str | None = None) -> Any:
        """The answer of its REST interface: JSON where it is JSON, else bytes."""
        body = content if isinstance(content, bytes) or content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data=body, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            found = answer.read()
            is_json = "json" in answer.headers.get("Content-Type", "")
        return json.loads(found) if is_json else found

    def put(self, paths: list[Path]) -> list[str]:
        """Its own names of the studies that the files are of."""
        return sorted({self.ask("/instances", path.read_bytes())["ParentStudy"] for path in paths})

    def push(self, study: str) -> str:
        """Begin to send a study to the site; the job."""
        return str(self.ask("/modalities/site/store", {"Resources": [study], "Synchronous": False})["ID"])

    def ended(self, job: str, *, within_s: float = 120) -> str:
        """The state in which a job ended."""
        ends = time.monotonic() + within_s
        while (state := self.ask(f"/jobs/{job}")["State"]) in ("Pending", "Running", "Retry"):
            assert time.monotonic() < ends, f"the job is {state}"
            time.sleep(0.05)
        return str(state)


@contextlib.contextmanager
def orthanc(folder: Path, *, site_port: int | None = None, tls: TlsFiles | None = None) -> Iterator[Orthanc]:
    """A PACS that knows the site as "site", title FEDMINET, and lets it ask for everything.

    tls: its own files, with which it calls and is called.
    """
    made = Orthanc(free_port(), free_port(), free_port() if site_port is None else site_port)
    folder.mkdir(parents=True)
    settings = {
        "Name": "pacs",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "Plugins": [],
        "HttpPort": made.http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": TITLE,
        "DicomPort": made.port,
        "DicomModalities": {"site": ["FEDMINET", "127.0.0.1", made.site_port]},
        "DicomScuTimeout": 60,
        "JobsHistorySize": 100,
        "StableAge": 1,
        "OverwriteInstances": True,
    }
    if tls is not None:
        settings |= {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(tls.certificate),
            "DicomTlsPrivateKey": str(tls.private_key),
            "DicomTlsTrustedCertificates": str(tls.authority),
            "DicomTlsRemoteCertificateRequired": True,
            "DicomModalities": {
                "site": {"AET": "FEDMINET", "Host": "127.0.0.1", "Port": made.site_port, "UseDicomTls": True}
            },
        }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(PROGRAM), str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        ends = time.monotonic() + 60
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                made.ask("/system")
                break
            assert time.monotonic() < ends
            time.sleep(0.1)
        yield made
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder / "db", ignore_errors=True)
