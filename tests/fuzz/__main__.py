"""The table of docs/results/readers.md: `python -m tests.fuzz --inputs 10000`.

Ends with 1 where anything but a value or a coded error came of an input, or it took more than its memory or time.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator

from tests.fuzz import dicom, folders, notes, pages, scans, weights
from tests.fuzz.measure import Reader, Tally, fuzz

READERS = (
    Reader("NIfTI, at ingest", scans.nifti),
    Reader("NIfTI, at inference", scans.nifti_of_inference),
    Reader("fastMRI HDF5", scans.fastmri, limit_s=60.0),
    Reader("DICOM", dicom.dicom),
    Reader("store", folders.stores),
    Reader("federation.yaml", pages.federation_file),
    Reader("site.yaml", pages.site_file),
    Reader("server.yaml", pages.server_file),
    Reader("pair lists", pages.pair_lists),
    Reader("admission requests", pages.requests),
    Reader("kits", pages.kits),
    Reader("parcels of weights", weights.parcels),
    Reader("files of tensors", weights.tensor_files),
    Reader("figures and codes", pages.figures),
    Reader("checkpoints", weights.checkpoints),
    Reader("ONNX files", weights.onnx_files),
    Reader("app bundles", weights.bundles),
    Reader("back-ups", folders.back_ups),
    Reader("ledgers", pages.ledgers),
    Reader("run folders", folders.run_folders),
    Reader("notes of a site", notes.notes_of_a_site),
    Reader("records of an authority", notes.records_of_an_authority),
)
"""fastMRI: the product itself gives HDF5 20 s of processor time for a question, and a file has several."""


def row(name: str, tally: Tally) -> str:
    """A line of the table, Markdown."""
    coded = sorted(item for item in tally.outcomes.items() if item[0].startswith("FM-"))
    refused = ", ".join(f"{code} {n}" for code, n in coded)
    raw = sum(n for kind, n in tally.outcomes.items() if kind.startswith("raw"))
    died = tally.outcomes["hang or crash of the process"]
    cells = (name, tally.inputs, tally.outcomes["accepted"], refused, raw, died)
    measured = f"{tally.peak_bytes / 2**20:.0f} | {tally.slowest_s:.2f} | {tally.seconds:.0f}"
    return "| " + " | ".join(str(cell) for cell in cells) + f" | {measured} |"


HEAD = (
    "| reader | inputs | accepted | refused by code | raw exceptions | crashes, hangs | peak MiB | slowest s | s |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def tallies(*, n_inputs: int, seed: int, only: str) -> Iterator[tuple[str, Tally]]:
    """One reader after another."""
    for reader in READERS:
        if only in reader.name:
            yield reader.name, fuzz(reader, n_inputs=n_inputs, seed=seed)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="readers whose name holds this")
    parser.add_argument("--json", action="store_true", help="a line a reader, for a program")
    options = parser.parse_args()
    logging.disable()  # nibabel says what it thinks of each header
    wrong = []
    if not options.json:
        print(HEAD, flush=True)
    for name, tally in tallies(n_inputs=options.inputs, seed=options.seed, only=options.only):
        wrong += [f"{name}: {what}" for what in tally.wrong]
        if options.json:
            said = {"inputs": tally.inputs, "outcomes": tally.outcomes, "wrong": tally.wrong}
            print(json.dumps({"reader": name, **said}), flush=True)
        else:
            print(row(name, tally), flush=True)
    for what in wrong:
        print(what, file=sys.stderr, flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
