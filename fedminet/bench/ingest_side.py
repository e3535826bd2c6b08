"""One ingest by a checkout's own code, in a process of its own.

    python ingest_side.py CHECKOUT SCANS STORE PROCESSES

Prints a line of JSON: what it took, and of each pair that was taken what registration said and did. CHECKOUT may be
another commit's, so nothing is used here that the commit c98a30d had not. What libraries take to load is not counted.
"""

from __future__ import annotations

import inspect
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

N_POINTS = 500
"""Of a target's foreground, at which the motion that was found is asked where it leads."""
FOREGROUND_LEVEL = 0.1
"""Of the 99th percentile, as the ingest's own."""


def serve(scans: Path, store: Path, n_processes: int) -> None:
    """Ingest once, and say on standard output how that went."""
    import sites.registration.register as registration

    own, made = registration.register, []

    def register(target: Any, reference: Any, **options: Any) -> Any:
        began = time.process_time()
        found = own(target, reference, **options)
        made.append((time.process_time() - began, found, _points_of(target)))
        return found

    registration.register = register
    from sites import ingest as ingesting
    from sites.settings.definitions import definition

    if hasattr(ingesting, "register"):  # a commit that imports it by name at the head of the file
        ingesting.register = register
    chosen: dict[str, Any] = (
        {"n_processes": n_processes}
        if "n_processes" in inspect.signature(ingesting.ingest).parameters
        else {}
    )
    settings = definition("sms").model_copy(update={"allow_few_patients": True})
    began, processor = time.monotonic(), _processor_s()
    report = ingesting.ingest(scans, store, settings, **chosen)
    taken = {"elapsed": time.monotonic() - began, "processor": _processor_s() - processor}
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    pairs = [_pair(one) for one in report.accepted]
    if len(made) == len(pairs):  # made in other processes, it was not seen
        for pair, (_, found, points) in zip(pairs, made, strict=True):
            leads_to: Any = found.transform.TransformPoint
            pair |= {"points": points, "led_to": [leads_to(point) for point in points]}
        taken["registration"] = sum(seconds for seconds, _, _ in made)
    refused = [f"{one.label}: {one.code}" for one in report.refused]
    print(json.dumps({**taken, "peak_bytes": peak * 1024, "pairs": pairs, "refused": refused}))


def _pair(accepted: Any) -> dict[str, Any]:
    names = ("label", "residual_mm", "residual_px", "agreement", "resampled")
    return {name: getattr(accepted, name) for name in names}


def _points_of(target: Any) -> list[list[float]]:
    """World places, mm, of voxels of the foreground, evenly drawn."""
    import numpy as np

    magnitude = np.abs(target.array)
    places = np.argwhere(magnitude > FOREGROUND_LEVEL * np.percentile(magnitude, 99))
    places = places[:: max(1, len(places) // N_POINTS)]
    points: list[list[float]] = (places @ target.affine[:3, :3].T + target.affine[:3, 3]).tolist()
    return points


def _processor_s() -> float:
    """Of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    sys.path[0] = sys.argv[1]
    serve(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
