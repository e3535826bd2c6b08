"""How many weights the federation's model has, as they were counted last.

Counting builds the model, for which torch is loaded: seconds, which `fedminet site status` does not spend on a number
that is the same every time. Whatever admits, starts or trains counts anew (`client.admission.policy`).
"""

from __future__ import annotations

import contextlib
import json
from importlib.metadata import version

from client.site_home import SiteHome
from minet_core.errors import FedminetError
from minet_core.runtime.files.atomic_write import write_json
from minet_core.settings.federation import FederationSettings

MODEL_SIZE_FILE = "model-size.json"
"""In the site's state folder."""


def read_model_size(home: SiteHome, federation: FederationSettings) -> int | None:
    """The weights of this federation file's model; None where this version has not counted them."""
    try:
        content = json.loads((home.state / MODEL_SIZE_FILE).read_bytes())
        n_parameters = content["n_parameters"] if content["of"] == _of(federation) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return n_parameters if type(n_parameters) is int and n_parameters > 0 else None


def keep_model_size(home: SiteHome, federation: FederationSettings, n_parameters: int) -> None:
    """Keep the count for the next `read_model_size`; a disk that takes nothing costs the time of a count alone."""
    if read_model_size(home, federation) == n_parameters or not home.state.is_dir():
        return
    with contextlib.suppress(FedminetError, OSError):
        write_json(home.state / MODEL_SIZE_FILE, {"of": _of(federation), "n_parameters": n_parameters})


def _of(federation: FederationSettings) -> list[str]:
    return [federation.digest(), version("fedminet")]
