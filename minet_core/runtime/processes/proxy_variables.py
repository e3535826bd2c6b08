"""The environment's web proxy (HTTPS_PROXY and its like), and the processes that have no use for it.

Whoever speaks HTTP here reads the variables by httpx, which asks the proxy for 127.0.0.1 as well: where a machine has a
proxy, a server would not reach its own SuperLink.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

PROXY_VARIABLES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
"""In capitals or not; the value of the first three may hold a password."""


def without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that speaks with this machine alone.

    Parameters
    ----------
    environment
        Of this process, as a rule.

    Returns
    -------
    dict of str
        Without `PROXY_VARIABLES`, in capitals or not.
    """
    return {name: value for name, value in environment.items() if name.upper() not in PROXY_VARIABLES}


def stay_on_this_machine() -> None:
    """Take the variables out of this process's environment, and so of its children's.

    For a command all of whose connections end on this machine.
    """
    for name in [name for name in os.environ if name.upper() in PROXY_VARIABLES]:
        del os.environ[name]
