"""Drawing a report anew from what a run left on the disk."""

from __future__ import annotations

from pathlib import Path

from fedminet.single_machine.federation import draw_report, read_panels
from minet_core.report.figures import figure_for_readme
from minet_core.report.render import write_report
from minet_core.report.summary import Summary, read_summary


def report_on(folder: Path, *, picture: Path | None = None) -> tuple[Summary, Path]:
    """Write report.html in `folder` and return its summary and path.

    In the folder of a demonstration or simulation the sites' own images are drawn; in a coordinator's run directory
    there are none. picture: where to write the same images as one PNG. Raises FileMissing (FM-C103) where no run ended.
    """
    summary = read_summary(folder / "summary.json")
    if picture is not None:
        figure_for_readme(read_panels(folder, summary), picture)
    if (folder / "sites").is_dir():
        return summary, draw_report(folder)
    path = folder / "report.html"
    write_report(path, summary, panels={})
    return summary, path
