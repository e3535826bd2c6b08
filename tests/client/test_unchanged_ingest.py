"""`fedminet site ingest` of a folder in which nothing has changed: the same answer, without loading anything large."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from client.admission.init_site import init_site
from minet_core.errors import DataError
from minet_core.ledger.records import Ledger
from sites.store.read_before import SETTLED_S
from tests.sites.test_dicom_ingest import AFFINE, CONTENT, T1, T2, stored
from tests.support.dicom_series import Header, write_classic
from tests.support.repository import ROOT
from tests.support.warm_python import warm_python

LARGE = {
    "torch",
    "SimpleITK",
    "scipy",
    "skimage",
    "nibabel",
    "pydicom",
    "h5py",
    "numpy",
    "PIL",
    "jinja2",
    "rich",
}


def ingest(folder: Path, *options: str, python: str = sys.executable) -> tuple[int, str, str, set[str]]:
    """Exit status, what was printed to both streams, and the modules that were loaded, of one command."""
    code = (
        "import atexit, json, pathlib, sys\n"
        f"sys.argv = {['fedminet', 'site', 'ingest', str(folder / 'home'), str(folder / 'scans'), *options]!r}\n"
        f"loaded = pathlib.Path({str(folder / 'loaded.json')!r})\n"
        "names = lambda: sorted({one.partition('.')[0] for one in sys.modules})\n"
        "atexit.register(lambda: loaded.write_text(json.dumps(names())))\n"
        "from fedminet.main import run; run()"
    )
    done = subprocess.run([python, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr, set(json.loads((folder / "loaded.json").read_text()))


def table(printed: str) -> str:
    """From the first pair on, without the seconds; the plan before it is of an ingest that reads headers."""
    return re.sub(r"in \d+ s\.", "in some s.", printed[printed.index("Accepted ") :])


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site that has ingested three patients and refused one."""
    folder = tmp_path_factory.mktemp("unchanged")
    for seed in range(1, 5):
        for contrast, times in (("T1", T1), ("T2", T2)):
            header = Header(patient_id=f"P{seed}", series=contrast, **times)
            place = folder / "scans" / str(seed) / contrast
            paths = write_classic(place, stored(seed, contrast), AFFINE, header=header)
    paths[3].unlink()  # a gap in the last one's
    (folder / "site.yaml").write_text(yaml.safe_dump({**CONTENT, "name": "hospital"}))
    init_site(folder / "home", chosen=str(folder / "site.yaml"), name=None)
    time.sleep(SETTLED_S + 0.2)
    assert ingest(folder, python=warm_python())[0] == DataError.exit_status
    return folder


def test_an_unchanged_folder_loads_nothing_large_and_gets_the_same_answer(ingested: Path) -> None:
    page = ingested / "home" / "onboarding.html"
    before, events = page.stat().st_mtime_ns, len(list(Ledger(ingested / "home" / "state").records()))
    status, out, err, loaded = ingest(ingested)
    assert "pydantic" in loaded
    assert not loaded & LARGE
    assert page.stat().st_mtime_ns == before
    assert len(list(Ledger(ingested / "home" / "state").records())) == events + 1
    fully = ingest(ingested, "--reread")
    assert {"pydicom", "numpy"} <= fully[3]
    assert (status, table(out)) == (fully[0], table(fully[1]))
    assert "3 already there), refused 1" in out
    assert [line for line in fully[2].splitlines() if "FM-D" in line] == err.splitlines()
    assert page.stat().st_mtime_ns > before


def test_a_page_that_is_gone_or_of_another_ingest_is_drawn_again(ingested: Path) -> None:
    page = ingested / "home" / "onboarding.html"
    whole = page.read_bytes()
    page.unlink()
    ingest(ingested, python=warm_python())
    assert page.read_bytes() == whole
    page.write_bytes(b"<!doctype html>\n<!-- drawn from " + b"0" * 64 + b" -->\n")
    ingest(ingested, python=warm_python())
    assert page.read_bytes() == whole


def test_a_request_that_does_not_declare_the_store_is_made_again(ingested: Path) -> None:
    request = ingested / "home" / "request.json"
    written = request.read_bytes()
    ingest(ingested, python=warm_python())
    assert request.read_bytes() == written
    request.write_text(json.dumps({**json.loads(written), "declaration": None}))
    ingest(ingested, python=warm_python())
    assert json.loads(request.read_bytes())["declaration"] == json.loads(written)["declaration"]
