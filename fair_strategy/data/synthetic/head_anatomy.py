"""What lies around the brain: face, eyes, air, neck, as bodies in the template's space (RAS mm).

Positions are relative to landmarks of MNI152: nasion about (0, 85, -37), ear canals about
(+-76, -24, -44), foramen magnum about (0, -40, -64), chin about (0, 90, -155).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fair_strategy.data.synthetic.head_shapes import Body, Ellipsoid, Rod, Triple, box_of

Layers = tuple[tuple[str, float], ...]

BONE: Layers = (("bone", 0.0), ("marrow", 1.8))
PLATE: Layers = (("bone", 0.0),)
MUSCLE: Layers = (("muscle", 0.0),)
FAT: Layers = (("fat", 0.0),)
AIR: Layers = (("mucosa", -1.2), ("air", 0.0))


@dataclass(frozen=True)
class Structure:
    """Bodies that are one, painted layer by layer.

    Attributes:
        name: unique.
        bodies: their union is the structure.
        layers: (tissue, depth below the surface in mm), from the outside to the inside.
        paired: the bodies are on the right; the left ones mirror them.
        ragged_mm: amplitude of the surface's irregularity.
        extent_mm: box that holds the bodies; known once a person's have been drawn.
    """

    name: str
    bodies: tuple[Body, ...]
    layers: Layers
    paired: bool = False
    ragged_mm: float = 0.8
    extent_mm: tuple[Triple, Triple] = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def _e(centre: Triple, radii: Triple, tilt: float = 0.0) -> Ellipsoid:
    return Ellipsoid(centre, radii, tilt)


def _r(
    start: Triple, end: Triple, radius: float, last: float | None = None, flat: Triple = (1, 1, 1)
) -> Rod:
    return Rod(start, end, radius, radius if last is None else last, flat)


def _chain(points: list[Triple], radii: list[float], flat: Triple = (1, 1, 1)) -> tuple[Rod, ...]:
    ends = zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True)
    return tuple(_r(a, b, r, s, flat) for a, b, r, s in ends)


# The outer surface below the skull, melted together with the scalp.
OUTLINE: tuple[Body, ...] = (
    _e((0, 22, -82), (64, 62, 74)),
    _e((0, 42, -48), (64, 40, 36)),
    _e((0, 66, -118), (32, 28, 34)),
    _e((0, 74, -145), (22, 18, 18)),
    _r((0, -36, -70), (0, -46, -250), 60, 58, (1, 0.92, 1)),
    _r((0, -60, -245), (0, -60, -300), 60, 60, (2.6, 1, 1)),
    *(
        body
        for right in (
            _e((40, 50, -78), (24, 32, 28)),
            _e((46, 18, -108), (18, 36, 26)),
            _e((33, 63, -42), (15, 15, 13)),
            _e((56, 20, -22), (22, 40, 44)),
        )
        for body in (right, right.mirrored())
    ),
)
# Noses and ears melt less.
APPENDAGES: tuple[Body, ...] = (
    _r((0, 78, -38), (0, 91, -76), 9, 13),
    _e((0, 94, -82), (16, 13, 10)),
    _e((0, 88, -108), (25, 10, 7)),
    _e((0, 87, -122), (23, 9, 6)),
    *(
        body
        for right in (
            _e((76, -36, -42), (4, 17, 29), -12),
            _e((70, -26, -46), (9, 11, 16)),
            _e((73, -27, -62), (6, 8, 11)),
        )
        for body in (right, right.mirrored())
    ),
)

# Painted before the skull, so that the skull lies on top where they overlap.
UNDER_SKULL: tuple[Structure, ...] = (
    Structure(
        "temporal muscle",
        (_e((72, 14, -18), (12, 34, 40)), _r((66, 20, -40), (56, 24, -78), 10, 6)),
        MUSCLE,
        True,
    ),
    Structure("masseter", (_e((58, 16, -96), (8, 18, 30)),), MUSCLE, True),
    Structure("pterygoids", (_e((41, 12, -84), (9, 14, 24)),), MUSCLE, True),
    Structure("parotid", (_e((60, -6, -86), (9, 14, 22)),), (("gland", 0.0),), True),
    Structure("cheek muscle", (_e((36, 66, -96), (10, 8, 20), 10),), MUSCLE, True, 1.5),
    Structure(
        "nape",
        (
            _r((15, -72, -62), (15, -80, -230), 13, 14, (1, 1.2, 1)),
            _r((36, -62, -60), (30, -74, -230), 10, 13),
            _r((18, -52, -66), (22, -62, -230), 10, 10),
        ),
        MUSCLE,
        True,
        1.2,
    ),
    Structure("trapezius", (_r((14, -97, -70), (40, -92, -230), 5, 9, (2, 1, 1)),), MUSCLE, True),
    Structure("levator", (_r((42, -40, -76), (48, -58, -230), 9, 13),), MUSCLE, True, 1.2),
    Structure("sternomastoid", (_r((62, -38, -62), (24, 12, -215), 9, 11),), MUSCLE, True),
    Structure("prevertebral", (_r((10, -8, -66), (11, -16, -230), 6.5, 8),), MUSCLE, True),
    Structure("scalene", (_r((24, -26, -110), (34, -34, -230), 7, 11),), MUSCLE, True),
    Structure("throat", _chain([(0, 6, -68), (0, 4, -120), (0, 4, -230)], [16, 17, 17]), MUSCLE),
    Structure("larynx", (_e((0, 12, -182), (21, 17, 32)),), MUSCLE),
    Structure("lips", (_e((0, 84, -115), (25, 9, 16)),), MUSCLE, False, 1.2),
)

# Painted after the skull.
OVER_SKULL: tuple[Structure, ...] = (
    Structure("central skull base", (_e((0, 12, -46), (22, 22, 13)),), BONE, False, 1.2),
    Structure("clivus", (_r((0, -1, -40), (0, -17, -66), 8, 6),), BONE),
    Structure(
        "petrous bone", (_r((22, -16, -42), (62, -30, -44), 8, 13),), (("bone", 0.0),), True, 1.5
    ),
    Structure("occipital condyle", (_e((19, -32, -66), (7, 11, 6)),), BONE, True),
    Structure("mastoid", (_e((60, -38, -54), (11, 13, 17)),), (("bone", 0), ("cells", 1.5)), True),
    Structure(
        "maxilla",
        (_e((26, 56, -78), (20, 20, 22)), _r((8, 80, -98), (27, 48, -98), 8, 8)),
        BONE,
        True,
        1.0,
    ),
    Structure("cheek bone", (_e((47, 60, -64), (11, 9, 11)),), BONE, True),
    Structure("zygomatic arch", (_r((66, -6, -52), (56, 50, -62), 3.2),), BONE, True),
    Structure(
        "orbital rim",
        _chain([(14, 77, -28), (34, 77, -25), (48, 66, -34), (48, 60, -56)], [6, 6, 5, 5]),
        BONE,
        True,
    ),
    Structure("lateral orbital wall", (_r((48, 58, -42), (27, 26, -42), 4, 5),), BONE, True),
    Structure("orbit floor", (_e((32, 50, -59), (18, 20, 2)),), PLATE, True),
    Structure(
        "orbital fat",
        (_r((33, 57, -42), (14, 22, -38), 18, 5), _e((33, 60, -42), (17, 15, 16))),
        FAT,
        True,
    ),
    Structure(
        "eye muscles",
        (
            _r((20, 54, -42), (14, 26, -39), 2.6, 1.8, (0.8, 1, 1.8)),
            _r((46, 54, -42), (17, 26, -39), 2.6, 1.8, (0.8, 1, 1.8)),
            _r((33, 53, -29), (15, 26, -35), 2.6, 1.8, (1.8, 1, 0.8)),
            _r((33, 53, -55), (15, 26, -43), 2.6, 1.8, (1.8, 1, 0.8)),
        ),
        MUSCLE,
        True,
        0.3,
    ),
    Structure("optic nerve", (_r((32, 52, -42), (12, 20, -36), 2.4),), (("cord", 0.0),), True, 0.2),
    Structure(
        "eye",
        (_e((33, 63, -42), (12.6, 12.6, 12.6)),),
        (("muscle", 0.0), ("vitreous", 1.3)),
        True,
        0.1,
    ),
    Structure("lens", (_e((33.5, 71.5, -42), (4.6, 2, 4.6)),), (("muscle", 0.0),), True, 0.0),
    Structure("nasal bone", (_r((0, 83, -38), (0, 96, -58), 3.5, 2.5),), PLATE),
    Structure(
        "ethmoid", (_e((8.5, 50, -43), (8, 24, 12)),), (("bone", 0.0), ("cells", 0.8)), True, 0.6
    ),
    Structure("sphenoid sinus", (_e((7.5, 21, -46), (8, 13, 9)),), AIR, True, 1.5),
    Structure("maxillary sinus", (_e((30, 52, -77), (13, 17, 17)),), AIR, True, 1.5),
    Structure("frontal sinus", (_e((10, 80, -21), (10, 4.5, 12), -15),), AIR, True, 1.5),
    Structure("nasal cavity", (_e((7, 54, -74), (7.5, 36, 19)),), AIR, True, 1.0),
    Structure(
        "turbinates",
        (_e((8, 52, -84), (3.6, 26, 6)), _e((8, 46, -70), (3.2, 20, 5))),
        (("mucosa", 0.0),),
        True,
        0.8,
    ),
    Structure("septum", (_e((0, 54, -72), (1.6, 38, 22)),), (("mucosa", 0.0),), False, 0.5),
    Structure("mandible", (_r((54, -13, -54), (51, 6, -120), 6, 6.5, (0.8, 2.2, 1)),), BONE, True),
    Structure(
        "jaw body",
        _chain(
            [(50, 8, -122), (34, 54, -140), (12, 82, -147), (0, 84, -148)],
            [9, 9, 9, 9],
            (0.7, 0.7, 1),
        ),
        BONE,
        True,
    ),
    Structure("palate", (_e((0, 58, -95), (23, 30, 2.5), 4),), PLATE),
    Structure("mouth", (_e((0, 56, -99), (21, 27, 4.5), 4),), (("air", 0.0),), False, 1.0),
    Structure(
        "tongue",
        (_e((0, 50, -119), (23, 32, 19)), _e((0, 24, -126), (19, 17, 24))),
        (("tongue", 0.0),),
    ),
    Structure(
        "teeth",
        (
            *_chain([(26, 50, -108), (20, 72, -109), (0, 83, -110)], [4, 3.5, 3]),
            *_chain([(27, 50, -121), (20, 70, -122), (0, 80, -123)], [4, 3.5, 3]),
        ),
        (("tooth", 0.0),),
        True,
        1.2,
    ),
    Structure("mouth floor", (_r((8, 76, -142), (12, 26, -148), 5, 8),), MUSCLE, True),
    Structure("submandibular gland", (_e((34, 24, -140), (9, 15, 11)),), (("gland", 0.0),), True),
    Structure(
        "airway",
        (
            _e((0, 13, -78), (12, 8, 14)),
            *_chain(
                [(0, 8, -88), (0, 3, -120), (0, 6, -150), (0, 8, -180), (0, -2, -260)],
                [6, 5.5, 7, 6, 8.5],
                (1.5, 0.9, 1),
            ),
        ),
        AIR,
        False,
        1.0,
    ),
    Structure("soft palate", (_r((0, 30, -92), (0, 12, -104), 4, 3, (3, 1, 1)),), MUSCLE),
    Structure("ear canal", (_r((50, -24, -43), (78, -24, -45), 3.2, 4),), (("air", 0.0),), True),
    Structure(
        "vessels",
        (_r((24, -6, -58), (29, -2, -230), 3.2, 3.6), _r((34, -12, -62), (36, -4, -230), 4, 6)),
        (("vessel", 0.0),),
        True,
        0.4,
    ),
)


def _vertebrae() -> tuple[Structure, ...]:
    bones: list[Structure] = [
        Structure("dens", (_r((0, -20, -70), (0, -22, -90), 5, 7),), BONE, False, 0.4),
        Structure("atlas", (_e((21, -28, -78), (9, 9, 7)),), BONE, True),
        Structure("atlas arch", (_r((0, -60, -80), (18, -46, -80), 4),), BONE, True),
        Structure("discs", (_r((0, -22, -96), (0, -30, -250), 9, 10),), (("disc", 0.0),), False),
    ]
    for level in range(9):
        z = -94.0 - 18.0 * level
        y = -22.0 - 0.052 * (-94 - z)
        bones.append(Structure(f"body {level}", (_e((0, y, z), (13, 10, 9)),), BONE))
        joint = _e((21, y - 10, z - 2), (7, 8, 10), 30)
        bones.append(Structure(f"joints {level}", (joint,), BONE, True, 1.0))
        spine = (
            _r((0, y - 34, z - 3), (0, y - 52 - 2.0 * level, z - 12), 3.5, 4.5),
            _r((0, y - 35, z - 4), (17, y - 20, z), 3, 3),
            _r((0, y - 35, z - 4), (-17, y - 20, z), 3, 3),
        )
        bones.append(Structure(f"arch {level}", spine, BONE, False, 0.8))
    return tuple(bones)


_CANAL: list[Triple] = [
    (0, -42, -52),
    (0, -43, -78),
    (0, -42, -110),
    (0, -48, -180),
    (0, -58, -260),
]
SPINE: tuple[Structure, ...] = (
    *_vertebrae(),
    Structure("spinal canal", _chain(_CANAL, [12, 10, 8, 8, 8], (1.2, 1, 1)), (("csf", 0.0),)),
    Structure("cord", _chain(_CANAL, [7, 5.5, 4.8, 4.8, 4.5], (1.25, 1, 1)), (("cord", 0.0),)),
)


def draw_structures(
    rng: np.random.Generator, structures: tuple[Structure, ...]
) -> tuple[Structure, ...]:
    """One person's structures: each moved by about 1 mm and scaled by about 6 %, sides apart."""
    return tuple(_drawn(rng, structure) for structure in structures)


def draw_bodies(rng: np.random.Generator, bodies: tuple[Body, ...]) -> tuple[Body, ...]:
    """One person's outline: each body moved by about 1.5 mm and scaled by about 4 %."""
    return tuple(
        body.moved(_within(rng, 3) * 1.5, float(np.exp(0.04 * _within(rng, 1)[0])))
        for body in bodies
    )


def _drawn(rng: np.random.Generator, structure: Structure) -> Structure:
    bodies: list[Body] = []
    sides: tuple[bool, ...] = (False, True) if structure.paired else (False,)
    scale = 0.06 * _within(rng, 1)[0]
    for left in sides:
        own_scale = float(np.exp(scale + 0.03 * _within(rng, 1)[0]))
        offset = _within(rng, 3) * ([0.7, 0.7, 0.7] if structure.paired else [0.3, 0.7, 0.7])
        for body in structure.bodies:
            bodies.append((body.mirrored() if left else body).moved(offset, own_scale))
    return replace(structure, bodies=tuple(bodies), extent_mm=box_of(bodies))


def _within(rng: np.random.Generator, size: int) -> np.ndarray:
    """Standard normal held within 2."""
    return np.clip(rng.standard_normal(size), -2, 2)
