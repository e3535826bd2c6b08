"""Tissues at 3 T: the numbers a spin-echo image is made of.

T1 and T2 are published means at 3 T; proton density (PD) is relative to water. Sources:

- Gold et al., AJR 183:343 (2004), the knee at 3 T: muscle 1420/31.7, cartilage 1240/36.9, synovial fluid 3620/767,
  subcutaneous fat 371/133, marrow fat 365/133 (T1/T2, ms).
- Wright et al., MAGMA 21:121 (2008), T1 at 3 T: white matter 838, grey matter 1607.
- Wansapura et al., JMRI 9:531 (1999), T2 at 3 T: white matter about 80, grey matter 110.
- Lin et al., MRM 45:893 (2001), T1 of cerebrospinal fluid 4.16 s; its T2 at 3 T is 1.5 to 2 s.
- Stanisz et al., MRM 54:507 (2005): blood 1932/275, optic nerve 1083/78.
- Water contents of the brain, Whittall et al., MRM 37:34 (1997): white matter 0.70, grey matter 0.80 to 0.83.

Ligament, meniscus and cortical bone have T2 below the echo times used here (Gatehouse and Bydder, Clin Radiol 58:1,
2003): their values are effective ones that leave the small signal which such images show. Lesions are made to
show in one contrast alone; their values are chosen for that and lie within published ranges.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tissue:
    """One tissue.

    t1_ms, t2_ms: relaxation times at 3 T [ms]; proton_density: relative to water, 0 to 1.
    fat_fraction: share of the signal that fat suppression removes, 0 to 1.
    texture: relative change of PD, and of T2 twice as much, for one standard deviation of the fine texture.
    """

    t1_ms: float
    t2_ms: float
    proton_density: float
    fat_fraction: float = 0.0
    texture: float = 0.0


TISSUES: dict[str, Tissue] = {
    "air": Tissue(1000.0, 50.0, 0.0),
    "skin": Tissue(1000.0, 45.0, 0.70, texture=0.05),
    "fat": Tissue(371.0, 133.0, 0.90, fat_fraction=0.97, texture=0.03),
    "fascia": Tissue(900.0, 22.0, 0.35),
    "muscle": Tissue(1420.0, 31.7, 0.79, texture=0.05),
    "cortical_bone": Tissue(600.0, 12.0, 0.06),
    "diploe": Tissue(450.0, 100.0, 0.60, fat_fraction=0.6, texture=0.08),
    "trabecula": Tissue(500.0, 20.0, 0.20, fat_fraction=0.5),
    "marrow": Tissue(365.0, 133.0, 0.85, fat_fraction=0.86, texture=0.04),
    "dura": Tissue(1000.0, 30.0, 0.45),
    "csf": Tissue(4160.0, 1600.0, 1.0),
    "grey_matter": Tissue(1607.0, 110.0, 0.81, texture=0.015),
    "white_matter": Tissue(838.0, 79.6, 0.70, texture=0.015),
    "deep_grey": Tissue(1350.0, 92.0, 0.79, texture=0.015),
    "pallidum": Tissue(1100.0, 66.0, 0.74, texture=0.015),
    "choroid": Tissue(1500.0, 140.0, 0.85, texture=0.10),
    "optic_nerve": Tissue(1083.0, 78.0, 0.72),
    "vessel": Tissue(1932.0, 275.0, 0.04),  # flowing blood leaves the slice between pulse and echo: a void
    "slow_blood": Tissue(1932.0, 275.0, 0.85),  # veins that stay in the slice
    "cartilage": Tissue(1240.0, 36.9, 0.80, texture=0.04),
    "meniscus": Tissue(900.0, 14.0, 0.50, texture=0.04),
    "ligament": Tissue(900.0, 13.0, 0.45, texture=0.10),
    "synovial_fluid": Tissue(3620.0, 767.0, 1.0),
    "synovium": Tissue(1400.0, 60.0, 0.80, texture=0.06),
    # Seen in the target alone: T2 is long while T1 and PD balance in a T1-weighted image.
    "demyelination": Tissue(1200.0, 165.0, 0.73),
    # Seen in the reference alone: T1 is short (a trace of contrast agent), T2 that of white matter.
    "enhancement": Tissue(260.0, 74.0, 0.76),
    # Seen in the target alone: water replaces marrow fat, at nearly the signal of fat where fat is not suppressed.
    "marrow_oedema": Tissue(1300.0, 110.0, 0.97, fat_fraction=0.45, texture=0.05),
    # Seen in the reference alone: fat between fat-suppressed structures is dark like them.
    "fatty_focus": Tissue(371.0, 133.0, 0.40, fat_fraction=0.97),
}
