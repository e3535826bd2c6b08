"""The hospital's web proxy: which of the site's processes goes through it.

The node speaks with the server by httpx, which reads HTTPS_PROXY, ALL_PROXY and NO_PROXY of its environment and asks
the proxy for a tunnel (CONNECT): TLS is between the site and the server, and the proxy sees the server's name alone.
The other processes of the site speak with the node over loopback. They are not given the variables: a request to
127.0.0.1 would be sent to the proxy, and a task has no need of the proxy's password.
"""

from __future__ import annotations

import re
import urllib.request
from urllib.parse import urlsplit

from minet_core.errors import InvalidSetting

_SCHEMES = ("http", "https", "socks5", "socks5h")


def proxy_for(host: str) -> str | None:
    """The proxy that leads to `host`, `name:port` without user and password; None where none does.

    Raises InvalidSetting (FM-C102), which does not show the value, for what names no proxy.
    """
    proxies = urllib.request.getproxies()
    chosen = proxies.get("https") or proxies.get("all")
    if not chosen or urllib.request.proxy_bypass(host):
        return None
    try:
        parts = urlsplit(chosen if "://" in chosen else f"http://{chosen}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise InvalidSetting(
            "HTTPS_PROXY names no proxy",
            got="a value that is not shown here: it may hold a password",
            expected="http://NAME:PORT or http://USER:PASSWORD@NAME:PORT",
            action="Ask the hospital's network department for the proxy's address",
        )
    return parts.hostname if port is None else f"{parts.hostname}:{port}"


def without_credentials(text: str) -> str:
    """`text` with the user and the password of every address in it left out."""
    return re.sub(r"://[^/\s@]*@", "://", text)
