"""First equal, then fast: how far a contestant is from PyTorch fp32, by a comparison that is shown to be able to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m2h_runtime.engine.parity import compare, summary, violations

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from m2h_runtime.engine.parity import DenseOutputs

TOLD = ("depth_rel", "label_agreement", "normal_deg", "edge_mae")


def proof(
    infer: Callable[[NDArray[np.uint8]], DenseOutputs],
    image: NDArray[np.uint8],
    reference: DenseOutputs,
    numerics: str,
) -> dict[str, Any]:
    """The figures for `image` and what breaks the limits of `numerics` ("fp32", "fp16", "bf16").

    Raises:
        SystemExit: the outputs for the mirrored image pass as well, so the comparison proves nothing.
    """
    mirrored = infer(np.ascontiguousarray(image[:, ::-1]))
    if not violations(*summary([compare(mirrored, reference)]), numerics):
        raise SystemExit("the mirrored image passes, so the comparison proves nothing")
    mean, worst = summary([compare(infer(image), reference)])
    return {
        "numerics": numerics,
        **{name: mean[name] for name in TOLD},
        "problems": violations(mean, worst, numerics),
    }
