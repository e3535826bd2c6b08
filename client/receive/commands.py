"""`fedminet site receive`: take DICOM from a PACS or a scanner into the site's inbox."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from minet_core.runtime.logs import DEFAULT_FORMAT, DEFAULT_LEVEL, FORMAT_VARIABLE, LEVEL_VARIABLE

Home = Annotated[Path, typer.Argument(help="The site's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
LogLevel = Annotated[str, typer.Option(envvar=LEVEL_VARIABLE, help="debug, info, warning or error.")]
LogFormat = Annotated[str, typer.Option(envvar=FORMAT_VARIABLE, help="text, or json: one object a line.")]


def receive(
    home: Home,
    json_output: AsJson = False,
    log_level: LogLevel = DEFAULT_LEVEL,
    log_format: LogFormat = DEFAULT_FORMAT,
) -> None:
    """Receive MR images by DICOM's C-STORE until Ctrl-C. From the peers that `receive` in site.yaml lists."""
    from client.receive.inbox import Inbox
    from client.receive.receiver import Receiver
    from client.site_home import SiteHome
    from minet_core.runtime.logs import set_up_logging
    from sites.store.pseudonym import naming_key

    set_up_logging(level=log_level, form=log_format)
    site = SiteHome.at(home)
    receiver = Receiver(site.settings().receive, Inbox(site.inbox, key=naming_key(site.store)))
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with receiver.running() as port:
        said = {"port": port, "inbox": str(site.inbox / "received")}
        typer.echo(json.dumps(said) if json_output else f"Receiving on port {port} into {said['inbox']}.")
        ended.wait()
    counts = dict(sorted(receiver.counts.items()))
    typer.echo(json.dumps(counts) if json_output else "; ".join(f"{n} {what}" for what, n in counts.items()))
