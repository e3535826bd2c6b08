"""nginx with the files that the coordinator writes for it, in the smallest configuration that uses them all."""

from __future__ import annotations

import base64
import contextlib
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from client.admission.keys import SiteKeys, read_node_private
from client.site_home import SiteHome

CONFIGURATION = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
worker_shutdown_timeout 5s;
events {{ worker_connections 64; }}
http {{
  log_format calls '$ssl_client_s_dn $ssl_client_serial $ssl_client_verify $uri $status';
  access_log {folder}/access.log calls;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  map "$ssl_client_s_dn:$http_flwr_public_key" $fedminet_site {{ default ""; include {pki}/nodes.map; }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {pki}/server.pem; ssl_certificate_key {pki}/server.key;
    ssl_client_certificate {pki}/ca.pem; ssl_crl {pki}/crl.pem; ssl_verify_client on; ssl_verify_depth 1;
    ssl_session_tickets off; ssl_session_cache off;
    location / {{ return 404; }}
    location /v1/fleet/ {{
      if ($fedminet_site = "") {{ return 403; }}
      proxy_set_header flwr-public-key $http_flwr_public_key;
      proxy_pass {upstream}; proxy_http_version 1.1; proxy_set_header Connection "";
      client_max_body_size 8m; proxy_request_buffering off; proxy_buffering off;
    }}
  }}
}}
"""


@dataclass
class Front:
    """A running nginx."""

    ca: Path
    port: int
    log: Path
    process: subprocess.Popen[bytes]
    reached: list[list[str]] = field(default_factory=list)
    """For an upstream of a test: what came to it."""

    def reload(self) -> None:
        """Read the changed files, and wait until the former workers are gone."""
        before = self._workers()
        self.process.send_signal(signal.SIGHUP)
        ends = time.monotonic() + 120
        while self._workers() & before or not self._workers():
            assert time.monotonic() < ends
            time.sleep(0.02)

    def _workers(self) -> set[str]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return set(children.read_text().split())

    def ask(
        self,
        certificate: SiteHome | None,
        key: SiteHome | str | None,
        *,
        path: str = "/v1/fleet/activate-node",
        more: list[tuple[str, str]] | None = None,
    ) -> int:
        """The answer's status for the TLS certificate of one site and the node key of another."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if certificate is not None:
            context.load_cert_chain(certificate.kit / "site.pem", certificate.keys / "tls.key")
        header = key if isinstance(key, str) or key is None else header_of(key)
        headers = [] if header is None else [(FLEET_HTTP_PUBLIC_KEY_HEADER, header)]
        with httpx.Client(verify=context, trust_env=False, timeout=120.0) as client:
            url = f"https://localhost:{self.port}{path}"
            return client.post(url, headers=[*headers, *(more or [])]).status_code


def header_of(home: SiteHome) -> str:
    """The header with the node's key, made by Flower itself."""
    private = read_node_private(SiteKeys.of(home.keys))
    return base64.b64encode(NodeAuthHttpInterceptor(private, private.public_key())._public_key_bytes).decode()


@contextlib.contextmanager
def nginx_front(pki: Path, folder: Path, *, upstream: str, port: int) -> Iterator[Front]:
    """nginx on `port` of loopback, in front of the URL `upstream`."""
    folder.mkdir()
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, pki=pki, port=port, upstream=upstream))
    process = subprocess.Popen(["nginx", "-c", str(configuration), "-e", str(folder / "error.log")])
    try:
        front = Front(pki / "ca.pem", port, folder / "access.log", process)
        ends = time.monotonic() + 120
        while not front._workers():  # it listens before them, and before it takes signals
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < ends
            time.sleep(0.02)
        yield front
    finally:
        process.terminate()
        process.wait()
