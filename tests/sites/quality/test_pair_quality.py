from __future__ import annotations

import hashlib
import json

from minet_core.settings.yaml_file import parse_settings
from sites.quality.pair_quality import PairQuality, quality_remarks
from sites.store.cohort import LATER_FIELDS, Cohort, PairRecord, make_cohort

FINE = PairQuality(
    occupied=(None, 1.0, 1.0),
    reference_occupied=(None, 1.0, 1.0),
    peak_ratio=1.2,
    reference_step=1.0,
    anatomy_slices=20,
)


def record(number: int, quality: PairQuality | None) -> PairRecord:
    return PairRecord(
        file=f"a{number}-b{number}.h5",
        patient=f"a{number}",
        shape=(20, 320, 320),
        usable_slices=(0, 20),
        resampled=False,
        residual_mm=0.1,
        similarity=1.1,
        quality=quality,
        fingerprint="ab",
        sha256="0" * 64,
    )


def cohort_of(*qualities: PairQuality | None) -> Cohort:
    records = [record(number, quality) for number, quality in enumerate(qualities)]
    splits = {
        one.patient: split for one, split in zip(records, ("training", "validation", "test"), strict=True)
    }
    return make_cohort(records, splits, site="sms", data_kind="real", target="T2", reference="T1")  # type: ignore[arg-type]


def test_a_fine_pair_needs_no_remark() -> None:
    assert quality_remarks([]) == quality_remarks([FINE, FINE]) == []
    assert FINE.as_text() == "frequencies held ? x 1.00 x 1.00"


def test_what_flatters_or_weakens_is_said_with_counts_and_figures_beside_every_figure() -> None:
    changes: list[tuple[dict[str, object], str]] = [
        ({"occupied": (None, 0.94, 0.67)}, "truth of 1 of 3 pairs holds only 0.67 of the row or column"),
        ({"occupied": (None, 0.5, 0.5), "cropped": True}, "1 of 3 pairs were cropped in k-space"),
        ({"occupied": (0.4, 1.0, 1.0)}, "slices of 1 of 3 pairs are interpolated: they hold 0.40"),
        ({"peak_ratio": 2.5}, "maximum of 1 of 3 pairs is 2.5 times the 99.9th percentile"),
        ({"reference_step": 2.4}, "coarser than its target, 2.4 times"),
        (
            {"faulty_slices": 1, "unguided_slices": 2, "cut_off_slices": 7},
            r"10 of 20 slices with anatomy are not used (1 faulty, 2 outside the reference's view, 7 beyond these)",
        ),
        ({"remarks": ("target: 255 distinct values",)}, "1 of 3 pairs: target: 255 distinct values"),
    ]
    for change, expected in changes:
        said = cohort_of(FINE, FINE.model_copy(update=change), FINE).remarks()
        assert any(expected in remark for remark in said), (expected, said)
        assert not any("cropped" in remark for remark in said if "holds only" in remark)


def test_a_cohort_that_was_written_before_there_were_such_figures_is_still_whole() -> None:
    cohort = cohort_of(None, None, None)
    content = cohort.model_dump(mode="json")
    for pair in content["pairs"]:
        for name in LATER_FIELDS:
            if pair[name] is None:
                del pair[name]
    former = parse_settings(json.loads(json.dumps(content)), Cohort, source="cohort.json")
    assert former.computed_digest() == cohort.digest
    # By the form of the digest before: over all that the file holds but the digest itself.
    del content["digest"]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == cohort.digest


def test_the_figures_are_part_of_the_digest_and_come_back_from_the_file() -> None:
    one, other = (
        cohort_of(FINE, FINE.model_copy(update={"peak_ratio": ratio}), FINE) for ratio in (1.3, 1.4)
    )
    assert one.digest != other.digest
    assert parse_settings(json.loads(one.model_dump_json()), Cohort, source="cohort.json") == one
