"""What the layers of Flower's control interface do for its own requests, and that others pass by them."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import asyncio
from flwr.superlink.routers.control import middlewares
from server.flower import programs

passed = []

async def app(scope, receive, send):
    passed.append(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

async def receive():
    return {"type": "http.request", "body": b"", "more_body": False}

async def send(message):
    pass

dispatched = []
for name in programs.CONTROL_LAYERS:
    layer = getattr(middlewares, name)
    def noting(layer, dispatch=layer.dispatch, name=name):
        async def noted(self, request, call_next):
            dispatched.append((name, request.url.path))
            return await call_next(request)
        return noted
    layer.dispatch = noting(layer)

programs._pass_by_control_layers()
for path in ("/v1/fleet/pull-object", "/v1/runtime/pull-object", "/v1/control/start-run", "/health"):
    for name in programs.CONTROL_LAYERS:
        scope = {"type": "http", "path": path, "method": "POST", "headers": [], "query_string": b"",
                 "server": ("here", 1), "scheme": "http"}
        asyncio.run(getattr(middlewares, name)(app)(scope, receive, send))
print(len(passed), *sorted({path for _, path in dispatched}), len(dispatched))
"""


def test_only_others_requests_pass_by_the_control_layers() -> None:
    """In a process of its own: they are changed for good."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["16", "/health", "/v1/control/start-run", "8"]
