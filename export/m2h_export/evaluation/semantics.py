"""Semantic segmentation and human parsing: one confusion matrix over all pixels of all pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from m2h_export.data.sample import IGNORE
from m2h_export.evaluation.checks import check_choice, check_pair, share
from m2h_runtime.errors import ContractError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Absent = Literal["zero", "exclude"]
ABSENT = ("zero", "exclude")
HUMAN_PARTS = ("background", "head", "torso", "upper arm", "lower arm", "upper leg", "lower leg")


class SemanticsMeter:
    """Pooled counts of (truth, prediction) pairs.

    Args:
        num_classes: C; labels are 0..C-1, `IGNORE` in the truth is left out whatever was predicted there.
        absent: "zero" counts a class without any pixel in truth or prediction as IoU 0 (InvPT, TaskPrompter,
            MTMamba, SAK, MTI-Net); "exclude" leaves it out of the mean (Cityscapes, mmsegmentation).
    """

    def __init__(self, num_classes: int, absent: Absent = "zero") -> None:
        if not 1 <= num_classes < IGNORE:
            raise InputError(f"{num_classes} classes: expected 1..{IGNORE - 1}, for {IGNORE} means ignored")
        check_choice("absent", absent, ABSENT)
        self.num_classes = num_classes
        self.absent: Absent = absent
        self.images = 0
        # The last column holds predictions outside 0..C-1: wrong for their true class, of no class themselves.
        self.confusion = np.zeros((num_classes, num_classes + 1), np.int64)

    def add(self, prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Count one picture; both uint8 (H, W).

        Raises:
            ContractError: the shapes differ, or the truth holds a label that is neither a class nor `IGNORE`.
        """
        check_pair("semantics", prediction, truth)
        valid = truth != IGNORE
        actual = truth[valid].astype(np.int64)
        if actual.size and actual.max() >= self.num_classes:
            raise ContractError(
                f"semantics: the truth holds label {actual.max()}, but there are {self.num_classes} classes; "
                "give the data set's own class names"
            )
        predicted = np.minimum(prediction[valid].astype(np.int64), self.num_classes)
        pairs = actual * (self.num_classes + 1) + predicted
        self.confusion += np.bincount(pairs, minlength=self.confusion.size).reshape(self.confusion.shape)
        self.images += 1

    def merge(self, other: SemanticsMeter) -> None:
        """Add the counts of another meter of the same kind.

        Raises:
            InputError: it counts other classes, or scores absent ones otherwise.
        """
        if (other.num_classes, other.absent) != (self.num_classes, self.absent):
            raise InputError("semantics: meters of different classes or variants cannot be merged")
        self.confusion += other.confusion
        self.images += other.images

    def class_iou(self) -> NDArray[np.float64]:
        """(C,) TP / (TP + FP + FN); NaN where a class is in neither truth nor prediction."""
        square = self.confusion[:, :-1]
        true_positive = np.diag(square).astype(np.float64)
        union = self.confusion.sum(axis=1) + square.sum(axis=0) - np.diag(square)
        iou: NDArray[np.float64] = np.full(self.num_classes, np.nan)
        np.divide(true_positive, union, out=iou, where=union > 0)
        return iou

    def result(self) -> dict[str, float]:
        """`mIoU`, `pixel_accuracy` and `mean_class_accuracy` as fractions; NaN if no pixel counted."""
        correct = np.diag(self.confusion[:, :-1])
        actual = self.confusion.sum(axis=1)
        total = int(actual.sum())
        if not total:
            return dict.fromkeys(("mIoU", "pixel_accuracy", "mean_class_accuracy"), float("nan"))
        iou = self.class_iou()
        iou = np.nan_to_num(iou, nan=0.0) if self.absent == "zero" else iou[~np.isnan(iou)]
        present = actual > 0
        return {
            "mIoU": float(iou.mean()),
            "pixel_accuracy": share(correct.sum(), total),
            "mean_class_accuracy": float((correct[present] / actual[present]).mean()),
        }

    @property
    def pixels(self) -> int:
        """How many pixels counted."""
        return int(self.confusion.sum())


class HumanPartsMeter(SemanticsMeter):
    """The seven parts of PASCAL-Context; a picture without an annotated person is ignored whole."""

    def __init__(self, absent: Absent = "zero") -> None:
        super().__init__(len(HUMAN_PARTS), absent)

    def add(self, prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Count one picture, uint8 (H, W); nothing if `truth` holds only background and `IGNORE`."""
        if np.isin(truth, (0, IGNORE)).all():
            check_pair("human parts", prediction, truth)
            return
        super().add(prediction, truth)
