"""Damaged pages: settings, pair lists, requests for admission, kits, ledgers, and the figures of a reply."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from client.admission.kit import read_kit
from minet_core.admission.kit import CA_FILE, FEDERATION_FILE, KIT_FILE, SIGNATURE_FILE, read_authority
from minet_core.admission.request import RequestFile, build_request, read_request
from minet_core.errors import FedminetError
from minet_core.ledger.page import heads_held, record_as_text
from minet_core.ledger.records import Ledger
from minet_core.protocol import messages
from minet_core.protocol.cohort_declaration import CohortDeclaration, read_declaration
from minet_core.settings.federation import FederationSettings
from minet_core.settings.yaml_file import Settings, read_settings, settings_text
from server.server_home import ServerSettings
from sites.pairing.pair_lists import find_listed
from sites.settings.definitions import definition
from sites.settings.scan_files import FastmriFiles
from sites.settings.site_settings import SiteSettings
from tests.fuzz.measure import Attempt
from tests.fuzz.mutators import ODD, SNIPPETS, mutated_bytes, mutated_json, mutated_tree, mutated_yaml
from tests.support.admitted import make_coordinator, make_site
from tests.support.small_scans import write_fastmri


def federation_file(folder: Path) -> Attempt:
    """federation.yaml, up to its digest."""
    seed = FederationSettings(name="trial", sites=("sms", "umr"), participation={"quorum": 1})
    return _settings(folder, seed, FederationSettings, use=FederationSettings.digest)


def site_file(folder: Path) -> Attempt:
    """site.yaml."""
    return _settings(folder, definition("fastmri"), SiteSettings, use=settings_text)


def server_file(folder: Path) -> Attempt:
    """server.yaml."""
    return _settings(folder, ServerSettings(), ServerSettings, use=settings_text)


def _settings(folder: Path, seed: Any, model: type[Any], *, use: Callable[[Any], object]) -> Attempt:
    text, path = settings_text(seed), folder / "settings.yaml"

    def attempt(generator: random.Random) -> Callable[[], object]:
        path.write_bytes(mutated_yaml(text, generator))

        def read() -> object:
            settings: Settings = read_settings(path, model)
            return use(settings)

        return read

    return attempt


def pair_lists(folder: Path) -> Attempt:
    """A CSV list of pairs beside two scans of one patient."""
    for name, acquisition in (("file1", "CORPD_FBK"), ("file2", "CORPDFS_FBK")):
        write_fastmri(folder / "scans" / f"{name}.h5", 1, acquisition, patient_id="p1", n_slices=4)
    files = sorted((folder / "scans").iterdir())
    path = folder / "scans" / "pairs.csv"
    settings = FastmriFiles(pairing="pair_list", pair_list=Path("pairs.csv"))
    lines = [["file1", "file2", "0.1"], ["file1", "file3"], ["file2", "file1", ""]]
    cells = ("", '"', "a" * 200_000, "\0", "é", "../x", "file1.h5", ",", "\r", "﻿", "file2", "=1+1")

    def attempt(generator: random.Random) -> Callable[[], object]:
        rows = [list(row) for row in generator.choices(lines, k=generator.choice((1, 2, 5)))]
        for row in rows:
            if generator.random() < 0.6:
                row[generator.randrange(len(row))] = generator.choice(cells)
        text = io.StringIO()
        csv.writer(text, escapechar="\\").writerows(rows)
        content = text.getvalue().encode(generator.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16")))
        path.write_bytes(mutated_bytes(content, generator) if generator.random() < 0.5 else content)
        return lambda: find_listed(files, settings, source=folder / "scans")

    return attempt


def requests(folder: Path) -> Attempt:
    """request.json: altered on the way, or signed by a site that makes odd ones; and declaration.json."""
    node_key, tls_key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    declaration = CohortDeclaration(site="sms", cohort_digest="ab" * 32, n_training_slices=100)
    seed = build_request("sms", node_key=node_key, tls_key=tls_key, declaration=declaration)
    content = seed.model_dump(mode="json")
    path = folder / "request.json"

    def attempt(generator: random.Random) -> Callable[[], object]:
        if generator.random() < 0.1:
            path.write_bytes(mutated_json(declaration.model_dump(mode="json"), generator))
            return lambda: read_declaration(path)
        path.write_bytes(mutated_json(content, generator))
        if generator.random() < 0.5:
            changed = dict(content)
            name = generator.choice(("tls_request", "node_key", "site"))
            changed[name] = mutated_bytes(str(changed[name]).encode(), generator).decode("latin-1")
            if generator.random() < 0.5:
                changed["tls_request"] = _damaged_pem(str(content["tls_request"]), generator)
            unsigned = RequestFile.model_construct(**{**changed, "declaration": declaration})
            signature = node_key.sign(unsigned.signed_bytes(), ec.ECDSA(hashes.SHA384()))
            path.write_text(json.dumps({**changed, "signature": base64.b64encode(signature).decode()}))

        def read() -> object:
            checked = read_request(path)[1]
            return checked.fingerprint, checked.node_fingerprint, checked.tls_digest

        return read

    return attempt


def _damaged_pem(pem: str, generator: random.Random) -> str:
    """The same armour around other bytes."""
    first, *middle, last = pem.strip().splitlines()
    der = mutated_bytes(base64.b64decode("".join(middle)), generator)
    return "\n".join([first, base64.encodebytes(der).decode().strip(), last, ""])


def kits(folder: Path) -> Attempt:
    """A kit: altered on the way, or odd and signed by the authority itself."""
    coordinator = make_coordinator(folder / "server")
    coordinator.admit(make_site(folder / "sms"), folder / "kit")
    authority, trial = read_authority(folder / "kit" / CA_FILE), folder / "trial"
    kit = json.loads((folder / "kit" / KIT_FILE).read_text())

    def attempt(generator: random.Random) -> Callable[[], object]:
        shutil.rmtree(trial, ignore_errors=True)
        shutil.copytree(folder / "kit", trial)
        changed = trial / generator.choice(sorted(path.name for path in trial.iterdir()))
        kind = generator.random()
        if changed.suffix == ".pem":
            changed.write_text(_damaged_pem(changed.read_text(), generator), encoding="latin-1")
        elif changed.name == FEDERATION_FILE:
            changed.write_bytes(mutated_yaml(changed.read_text(), generator))
        else:
            changed.write_bytes(mutated_bytes(changed.read_bytes(), generator))
        if kind < 0.7:
            files = {name: hashlib.sha256((trial / name).read_bytes()).hexdigest() for name in kit["files"]}
            content = {**kit, "files": files}
            page = mutated_json(content, generator) if kind < 0.4 else json.dumps(content).encode()
            (trial / KIT_FILE).write_bytes(page)
            signature = coordinator.authority.key.sign(page, ec.ECDSA(hashes.SHA384()))
            (trial / SIGNATURE_FILE).write_bytes(signature)

        def read() -> object:
            read_authority(folder / "kit" / CA_FILE)
            if changed.name == CA_FILE:
                read_authority(changed)
            return read_kit(trial, authority=authority)

        return read

    return attempt


def ledgers(folder: Path) -> Attempt:
    """A ledger of this end, and one that the other end sent."""
    written = Ledger(folder / "seed")
    for number in range(4):
        written.append(
            "asked", round=number, site="sms", coordinator="ab" * 32, details={"codes": ["FM-M302"]}
        )
    names = ("ledger.jsonl", "ledger.head")
    seed = {name: (folder / "seed" / name).read_bytes() for name in names}
    trial = folder / "trial"
    trial.mkdir()

    def attempt(generator: random.Random) -> Callable[[], object]:
        for name in names:
            (trial / name).write_bytes(seed[name])
        path = trial / generator.choice((*names[:1] * 4, names[1]))
        if path.name == names[0] and generator.random() < 0.5:
            lines = seed[names[0]].splitlines()
            lines[generator.randrange(4)] = mutated_json(json.loads(lines[0]), generator)
            path.write_bytes(b"\n".join([*lines, b""]))
        else:
            path.write_bytes(mutated_bytes(path.read_bytes(), generator))
        return lambda: _use_ledger(trial)

    return attempt


def _use_ledger(folder: Path) -> None:
    """All that is done with one; what refuses is no reason not to ask for the rest."""
    refused: FedminetError | None = None
    ledger = Ledger(folder)
    for use in (
        ledger.verify,
        lambda: [record_as_text(record) for record in ledger.records()],
        lambda: heads_held(folder / "ledger.jsonl", key="coordinator", where={"site": "sms"}),
        ledger.head,
        lambda: ledger.append("asked", round=9),
    ):
        try:
            use()  # type: ignore[operator]
        except FedminetError as failure:
            refused = failure
    if refused is not None:
        raise refused


def figures(folder: Path) -> Attempt:
    """What a reply says in numbers, and the code of one that failed. `folder` stays empty."""
    agreed = {name: 0.5 if not figure.whole else 1 for name, figure in messages.TRAIN_FIGURES.items()}

    def attempt(generator: random.Random) -> Callable[[], object]:
        received: Any = mutated_tree(agreed, generator)
        code = generator.choice((*ODD, *SNIPPETS, "FM-M302", "FM-X1\n", 3))

        def read() -> object:
            messages.checked_code(code)
            if not isinstance(received, dict):
                return None
            found = messages.checked_figures(received, agreed=messages.TRAIN_FIGURES)
            messages.rounded_figures(found, agreed=messages.TRAIN_FIGURES)
            return messages.head_in(found), messages.without_head(found)

        return read

    return attempt
