"""The SuperLink's list of sites, brought in line with the coordinator's folder."""

from __future__ import annotations

from minet_core.errors import ServerUnreachable
from server.admission.enrolment import admitted_sites, node_keys
from server.admission.pki import ca_files
from server.admission.revocation import changing, revocations, write_node_map
from server.flower.superlink_control import SuperLinkControl
from server.server_home import ServerHome, local_address


def sync_registered_nodes(home: ServerHome, control: SuperLinkControl) -> list[str]:
    """Unregister the nodes of revoked sites, and register the admitted ones; the names of those unregistered.

    The proxy's map is written too, without which no site is let through: that needs no key of the authority.
    Raises AdmissionRefused (FM-F404), ServerUnreachable (FM-S502).
    """
    gone = control.unregister({revocation.node_fingerprint for revocation in revocations(home.pki)})
    control.register(admitted_sites(home))
    with changing(home.pki):
        write_node_map(home.pki, node_keys(home))
    return gone


def try_sync_registered_nodes(home: ServerHome) -> bool:
    """`sync_registered_nodes` where the SuperLink answers from here; False where the started server has to do it."""
    try:
        sync_registered_nodes(home, SuperLinkControl(local_address(home), ca=ca_files(home.pki).certificate))
    except ServerUnreachable:
        return False
    return True
