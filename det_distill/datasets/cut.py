"""Cut one list of images into train and val where a data set comes with no lists of its own."""

from dataclasses import dataclass

from det_distill.refusals import suggestion

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Cut:
    """Every so many-th name is val, the rest train.

    Args:
        split: "train" or "val"; None takes every name.
        val_every: With 5 the 5th, 10th, ... name is val.

    Raises:
        ValueError: No such split, or `val_every` below 2.
    """

    split: str | None = None
    val_every: int = 5

    def __post_init__(self) -> None:
        if self.split is not None and self.split not in SPLITS:
            hint = suggestion(str(self.split), SPLITS)
            raise ValueError(f"split={self.split!r} is unknown{hint}; known: {', '.join(SPLITS)}")
        if self.val_every < 2:
            raise ValueError(f"val_every is {self.val_every}, expected at least 2")

    def of(self, names: list[str], what: str) -> list[str]:
        """The names of the split, in order.

        Args:
            names: Of all images.
            what: What the names stand for and where, for messages.

        Raises:
            ValueError: Too few names for any to be val.
        """
        if self.split is None:
            return names
        if len(names) < self.val_every:
            raise ValueError(f"val_every={self.val_every} leaves no val among {len(names)} {what}")
        return [name for i, name in enumerate(names, 1) if (i % self.val_every == 0) == (self.split == "val")]
