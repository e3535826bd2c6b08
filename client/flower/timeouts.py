"""How soon the processes of a site notice that another one is gone: seconds, where Flower waits for a minute.

Flower 1.42 has no option for it. A node says how often it gives a sign of life (30 s), and its server takes it for
gone after two that are missing; a node does the same with its tasks. Whoever lost a connection tries again after a
pause that grows to 20 s. Each process of a site that runs Flower's code sets shorter times in its own memory
before it starts.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from minet_core.errors import HostError

HEARTBEAT_S = 10
"""The shortest that a server accepts: flwr.common.constant.HEARTBEAT_MIN_INTERVAL. Gone after 20 s."""

MAX_RETRY_PAUSE_S = 2

IDLE_PAUSE_S = 0.25
"""Between two looks of an idle node for a message, where the server answers at once; 3 s as shipped."""

HELD_LOOK_S = 1.0
"""A look that took so long was held by the server until there would be a message: the next one follows at once."""

HELD_PAUSE_S = 0.02

REPLY_PAUSE_S = 0.05
"""Between two looks of a node for its own task's reply, in its own memory; 0.5 s as shipped."""

REQUEST_PARTS_S = 30
"""How long a request whose parts do not come is waited for. Its server ended while it sent them, or will not end."""

INTERVALS: tuple[tuple[str, str, int], ...] = (
    ("flwr.supercore.heartbeat", "HEARTBEAT_DEFAULT_INTERVAL", HEARTBEAT_S),  # how often a sign is given
    (
        "flwr.supernode.fleet_http_connection",
        "HEARTBEAT_DEFAULT_INTERVAL",
        HEARTBEAT_S,
    ),  # what the server is told
    ("flwr.supercore.corestate.in_memory_corestate", "HEARTBEAT_DEFAULT_INTERVAL", HEARTBEAT_S),  # of a task
    ("flwr.supercore.retry.http_retry", "MAX_RETRY_DELAY", MAX_RETRY_PAUSE_S),
)


def patch_timeouts() -> None:
    """Set the shorter times in this process. Raises HostError (FM-S500) where this Flower has no such time."""
    for name, constant, value in INTERVALS:
        module: Any = importlib.import_module(name)
        if not hasattr(module, constant):
            raise HostError(f"{name} of the installed Flower has no {constant}", expected="flwr 1.42")
        setattr(module, constant, value)
    _retry_signs_of_life_sooner()


def _retry_signs_of_life_sooner() -> None:
    """A node whose server was away for 10 s would give its next sign up to 20 s after it is back, and be taken for
    gone until then: Flower's sender has that pause as a number of its own, in its one call of `exponential`.
    """
    sender: Any = importlib.import_module("flwr.supercore.heartbeat")
    if "exponential(max_delay=20)" not in inspect.getsource(sender.HeartbeatSender):
        raise HostError(
            "the signs of life of the installed Flower are retried otherwise", expected="flwr 1.42"
        )
    pauses = importlib.import_module("flwr.supercore.retry").exponential
    sender.exponential = lambda max_delay: pauses(max_delay=min(max_delay, MAX_RETRY_PAUSE_S))


def shorten_idle_pause(on_idle: Callable[[], None] = lambda: None) -> None:
    """Let a SuperNode look more often for messages and for its task's reply: Flower's loop has the 3 s and the 0.5 s
    as numbers of its own.

    on_idle: called where a look has found no message.
    """
    loop: Any = importlib.import_module("flwr.supernode.start_client_internal")
    source = inspect.getsource(loop)
    if "time.sleep(3)" not in source or "time.sleep(0.5)" not in source:
        raise HostError("the SuperNode of the installed Flower waits otherwise", expected="flwr 1.42")
    began = math.inf  # when the last look at the server began, where nothing but that look came after it

    def sleep(seconds: float) -> None:
        nonlocal began
        if seconds == 0.5:
            began = math.inf
            time.sleep(REPLY_PAUSE_S)
        elif seconds == 3:
            held = time.monotonic() - began >= HELD_LOOK_S
            on_idle()
            time.sleep(HELD_PAUSE_S if held else IDLE_PAUSE_S)
            began = time.monotonic()
        else:
            time.sleep(seconds)

    loop.time = SimpleNamespace(**{**vars(time), "sleep": sleep})


def abort_incomplete_requests() -> None:
    """Let a SuperNode leave a request whose server ended while it sent it: Flower waits for three minutes or more,
    and takes nothing else meanwhile. The server that goes on with the run asks anew.
    """
    loop: Any = importlib.import_module("flwr.supernode.start_client_internal")
    if "max_time" not in inspect.signature(getattr(loop, "pull_objects", patch_timeouts)).parameters:
        raise HostError(
            "the SuperNode of the installed Flower takes requests otherwise", expected="flwr 1.42"
        )
    loop.pull_objects = functools.partial(loop.pull_objects, max_time=REQUEST_PARTS_S)
