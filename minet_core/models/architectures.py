"""The learned methods by name, and the settings that each takes: what a federation file is checked against.

Nothing here loads torch, so a settings file is read in a fraction of the time that torch takes to load. The classes
stand in `registry.py`, under the same names; a test holds both pages to each other.
"""

from __future__ import annotations

SETTINGS_OF: dict[str, frozenset[str]] = {
    "minet": frozenset(
        {
            *("n_groups", "n_blocks", "n_features", "reduction", "integration", "bicubic_skip"),
            *("use_reference", "use_integration", "use_attention", "align_reference"),
        }
    ),
    "late-fusion": frozenset({"n_blocks", "n_features", "use_reference", "bicubic_skip"}),
    "edsr": frozenset({"n_blocks", "n_features", "residual_scale", "bicubic_skip"}),
    "smore": frozenset({"n_blocks", "n_features", "residual_scale"}),
    "zeng": frozenset({"n_blocks", "n_features", "bicubic_skip"}),
    "lyu": frozenset({"n_blocks", "n_features", "bicubic_skip"}),
}
"""Those fields of `minet_core.settings.federation.ModelSettings` that are arguments of the method's class.

Every other argument but the scale keeps its default.
"""
