"""Federation files with which a coordinator would measure patients, or take a site's machine."""

from __future__ import annotations

from minet_core.settings.federation import FederationSettings
from minet_core.settings.yaml_file import parse_settings

SITE = "sms"


def quick(**changes: object) -> FederationSettings:
    """The quick preset with changes; a section's settings are merged."""
    content = FederationSettings(name="study", sites=(SITE, "umr"), participation={"quorum": 1}).model_dump(
        mode="json"
    )
    for key, value in changes.items():
        content[key] = (
            {**content.get(key, {}), **value} if isinstance(value, dict) and key != "local_work" else value
        )
    return parse_settings(content, FederationSettings, source="a crafted file")


def training(**changes: object) -> dict[str, object]:
    return {"training": changes}


CRAFTED: dict[str, tuple[dict[str, object], str]] = {
    "batches of one": (training(batch_size=1), "min_batch"),
    "patches of 2 px": (training(patch_px=2), "min_patch_px"),
    "patches below what was attacked": (training(patch_px=46), "min_patch_px"),
    "one step": (training(local_steps=1), "min_steps"),
    "one step of this site alone": ({"local_work": {SITE: {"local_steps": 1}}}, "min_steps"),
    "one patch of 2 px in one step": (training(batch_size=1, patch_px=2, local_steps=1), "min_batch"),
    "no time to train": (training(local_steps=None, local_seconds=0.001), "min_seconds"),
    "the gradient of one sample by SCAFFOLD": (
        {"algorithm": {"name": "scaffold"}, **training(batch_size=1, local_steps=1)},
        "algorithms",
    ),
    "SCAFFOLD at honest sizes": ({"algorithm": {"name": "scaffold"}}, "algorithms"),
    "a billion rounds": ({"rounds": 10**9}, "max_rounds"),
    "batches of 20,000": (training(batch_size=20_000), "max_batch"),
    "a billion steps": (training(local_steps=10**9), "max_steps"),
    "a million epochs": (training(local_steps=None, local_epochs=10**6), "max_steps"),
    "a million seconds": (training(local_steps=None, local_seconds=1e6), "max_seconds"),
    "endless seconds": (training(local_steps=None, local_seconds=1e300), "max_seconds"),
    "a model that fills the memory": ({"model": {"n_features": 4000}}, "max_parameters"),
    "a model of a million blocks": (
        {"model": {"n_groups": 1000, "n_blocks": 1000}},
        "n_groups x model.n_blocks",
    ),
    "a model of endless channels": ({"model": {"n_features": 10**9}}, "n_features"),
    "a step that fills the memory": (
        {
            "model": {"n_groups": 6, "n_blocks": 20, "n_features": 128, "reduction": 16},
            **training(patch_px=256, batch_size=64, local_steps=5),
        },
        "max_memory_gb",
    ),
    "a round that takes a week": (
        {
            "model": {"n_groups": 6, "n_blocks": 6, "n_features": 128, "reduction": 16},
            **training(patch_px=128, local_steps=10_000),
        },
        "max_seconds",
    ),
    "a test of eight networks in eight poses": ({"model": {"members": 8, "self_ensemble": 8}}, "max_passes"),
    "a test of sixteen times the usual length": (
        {"model": {"members": 4, "self_ensemble": 4}},
        "max_passes",
    ),
    "a test that an adaptation's ensemble makes three times as long": (
        {"model": {"self_ensemble": 8}, "adaptation": {"steps": 20}},
        "max_passes",
    ),
    "a personal head that is the trunk": (
        {"algorithm": {"name": "personal-head", "personal": ["target_"]}},
        "personal",
    ),
    "a personal head that is everything": (
        {"algorithm": {"name": "personal-head", "personal": [""]}},
        "personal",
    ),
    "validation on one slice": (training(validation_slices=1), "min_validation_slices"),
    "a learning rate of nothing": (training(learning_rate=1e-12), "min_learning_rate"),
    "an endless learning rate": (training(learning_rate=1e300), "max_learning_rate"),
    "a warm-up without end": (training(warmup_steps=10**9), "warmup_steps"),
    "a gradient clipped to nothing": (training(clip_norm=1e-12), "clip_norm"),
    "a loss of nothing": (training(alpha=1e-9, beta=0.0), "alpha"),
    "an endless loss": (training(alpha=1e300), "alpha"),
    "weights that are held in their place": (
        {"algorithm": {"name": "fedprox", "proximal_mu": 1e9}},
        "proximal_mu",
    ),
}
"""By what it is: the changes of the quick preset, and what the refusal names."""

UNREADABLE: dict[str, dict[str, object]] = {
    "an unknown algorithm": {"algorithm": {"name": "fedsgd"}},
    "no step": training(local_steps=0),
    "a learning rate of zero": training(learning_rate=0.0),
    "a learning rate that is no number": training(learning_rate=float("nan")),
    "an infinite learning rate": training(learning_rate=float("inf")),
    "an infinite loss": training(alpha=float("inf")),
    "infinite seconds": training(local_steps=None, local_seconds=float("inf")),
    "the largest weight alone": {"traffic": {"uplink": "top-k"}},
    "two measures of work": training(local_epochs=1),
}
"""What no federation file can say: refused by the reader of the file, FM-C102."""
