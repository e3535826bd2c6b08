"""The processes that make sites: forked from one that has imported what they need, once for all of them.

Nothing large is imported here, so that the imports of that one begin before those of the command that waits for it.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running

from minet_core.runtime.processes.single_threaded import one_thread_each

_PRELOADED = ["fedminet.single_machine.sites"]


def begin_site_workers() -> ForkServerContext:
    """Start what forks them, with one thread each, and do not wait for its imports; the context for a pool of them.

    It waits in some 200 MB, most of them shared with what it forks, and ends with this process.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with one_thread_each():
        ensure_running()
    return context
