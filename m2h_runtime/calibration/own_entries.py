"""The entries of ours that either file format may carry; other readers pass over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m2h_runtime.calibration.calibration import Calibration
    from m2h_runtime.calibration.entries import Entries

OWN = "m2h"


def own_entries(entries: Entries) -> dict[str, Any]:
    """Fields of `Calibration` under the key m2h: `depth_scale` and `frame_id`, both optional.

    Raises:
        CalibrationError: an entry is unknown or wrong.
    """
    if OWN not in entries:
        return {}
    own = entries.child(OWN)
    own.refuse_unknown(("depth_scale", "frame_id"))
    fields: dict[str, Any] = {}
    if "depth_scale" in own:
        fields["depth_scale"] = own.number("depth_scale")
    if "frame_id" in own:
        fields["frame_id"] = own.text("frame_id")
    return fields


def own_values(calibration: Calibration) -> dict[str, Any]:
    """What `own_entries` reads back; nothing where all is as it is by default."""
    values: dict[str, Any] = {}
    if calibration.depth_scale != 1.0:
        values["depth_scale"] = calibration.depth_scale
    if calibration.frame_id is not None:
        values["frame_id"] = calibration.frame_id
    return {OWN: values} if values else {}
