"""Label spaces: what a class id is called and which colour shows it. One YAML file each, in `label_spaces/`."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
import yaml

from m2h_runtime.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PEOPLE = {"human", "person", "rider", "dynamic-nonhuman"}
_VEHICLES = {"car", "truck", "bus", "train", "motorcycle", "motorbike", "bicycle"}
_ANIMALS = {"animal", "cat", "dog", "bird", "horse", "cow", "sheep"}
MOVING = frozenset(_PEOPLE | _VEHICLES | _ANIMALS)
"""Names of classes, as label spaces have them, of what moves by itself."""


@dataclass(frozen=True)
class LabelSpace:
    """Names and colours of the class ids 0 .. K-1.

    Attributes:
        name: the label space's name, e.g. "nyudv2_40".
        classes: K class names, by id.
        colors: K (red, green, blue) triples, 0..255, by id.
    """

    name: str
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        """Check that the two lists fit each other and a uint8 id."""
        if len(self.classes) != len(self.colors) or not 1 <= len(self.classes) <= 256:
            raise InputError(
                f"label space {self.name!r}: {len(self.classes)} names and {len(self.colors)} colours; "
                "give as many of each, at most 256"
            )

    @property
    def palette(self) -> NDArray[np.uint8]:
        """uint8 (256, 3), RGB by class id; ids outside the space are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self.colors)] = self.colors
        return table


@lru_cache(maxsize=8)
def moving_table(space: LabelSpace, names: frozenset[str] = MOVING) -> NDArray[np.uint8]:
    """uint8 (256,), 255 for the class ids of `space` that have one of `names`."""
    table = np.zeros(256, np.uint8)
    table[[index for index, name in enumerate(space.classes) if name in names]] = 255
    table.setflags(write=False)
    return table


def generic_label_space(num_classes: int) -> LabelSpace:
    """`num_classes` unnamed classes with well-spread colours."""
    golden = 0.61803398875  # successive hues by the golden ratio never come close to each other
    colors = [
        colorsys.hsv_to_rgb((i * golden) % 1.0, 0.65, 0.95 - 0.35 * (i % 2)) for i in range(num_classes)
    ]
    return LabelSpace(
        f"classes_{num_classes}",
        tuple(f"class_{i}" for i in range(num_classes)),
        tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in colors),
    )


@lru_cache
def load_label_space(name: str) -> LabelSpace:
    """A label space that ships with the package.

    Raises:
        InputError: there is none of that name.
    """
    folder = resources.files("m2h_runtime") / "label_spaces"
    file = folder / f"{name}.yaml"
    if not file.is_file():
        known = sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml"))
        raise InputError(f"no label space {name!r}; there are {', '.join(known)}")
    raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    return LabelSpace(
        raw["name"],
        tuple(entry["name"] for entry in raw["classes"]),
        tuple((entry["rgb"][0], entry["rgb"][1], entry["rgb"][2]) for entry in raw["classes"]),
    )


def default_label_space(num_classes: int) -> LabelSpace:
    """The label space that a head of `num_classes` means in the M2H world, else a generic one."""
    known = {41: "nyudv2_40", 21: "nyud20", 20: "scannet20"}
    return load_label_space(known[num_classes]) if num_classes in known else generic_label_space(num_classes)


@lru_cache
def load_label_map(source: str, target: str) -> NDArray[np.uint8]:
    """The table from one label space to another: uint8 (256,), indexed by source id; ids beyond it give 0.

    Raises:
        InputError: no such table ships with the package.
    """
    folder = resources.files("m2h_runtime") / "label_spaces" / "maps"
    file = folder / f"{source}_to_{target}.yaml"
    if not file.is_file():
        there = sorted(entry.name[:-5].replace("_to_", " to ") for entry in folder.iterdir())
        raise InputError(f"no table from label space {source!r} to {target!r}; there is {', '.join(there)}")
    lut = yaml.safe_load(file.read_text(encoding="utf-8"))["lut"]
    table = np.zeros(256, np.uint8)
    table[: len(lut)] = lut
    table.setflags(write=False)
    return table
