"""How a term's weight changes over training: a factor in [0, 1] or beyond, times the weight.

Each is a pure function of the step (or the epoch, `by_epoch=True`), counted from 0 as MMEngine does, so a
resumed run finds the same factor without any state.
"""

from collections.abc import Callable

from mmdet.registry import TASK_UTILS
from mmengine.logging import MessageHub


def factor(schedule: Callable[[int, int], float] | None) -> float:
    """A schedule's factor at the running step and epoch (0 and 0 outside a Runner); 1 without one."""
    if schedule is None:
        return 1.0
    hub = MessageHub.get_current_instance()
    return schedule(int(hub.get_info("iter", 0)), int(hub.get_info("epoch", 0)))


class _Schedule:
    def __init__(self, by_epoch: bool) -> None:
        self.by_epoch = by_epoch

    def factor(self, now: int) -> float:
        raise NotImplementedError

    def __call__(self, step: int, epoch: int) -> float:
        """The factor at a step of an epoch, both counted from 0."""
        return self.factor(epoch if self.by_epoch else step)


def _ordered(begin: float, end: float) -> None:
    if not 0 <= begin < end:
        raise ValueError(f"a schedule needs 0 <= begin < end, got begin={begin}, end={end}")


@TASK_UTILS.register_module()
class Ramp(_Schedule):
    """From `start` to `stop` in a straight line between `begin` and `end`, constant outside.

    Example:
        >>> [Ramp(1, 0, begin=10, end=20)(step, epoch=0) for step in (0, 10, 15, 20, 99)]
        [1.0, 1.0, 0.5, 0.0, 0.0]
    """

    def __init__(self, start: float, stop: float, begin: int, end: int, by_epoch: bool = False) -> None:
        super().__init__(by_epoch)
        _ordered(begin, end)
        self.start, self.stop, self.begin, self.end = start, stop, begin, end

    def factor(self, now: int) -> float:
        share = min(1.0, max(0.0, (now - self.begin) / (self.end - self.begin)))
        return self.start + (self.stop - self.start) * share


@TASK_UTILS.register_module()
class Warmup(Ramp):
    """From 0 to 1 between `begin` and `end`.

    Example:
        >>> [Warmup(end=400)(step, epoch=0) for step in (0, 100, 400)]
        [0.0, 0.25, 1.0]
    """

    def __init__(self, end: int, begin: int = 0, by_epoch: bool = False) -> None:
        super().__init__(0, 1, begin, end, by_epoch)


@TASK_UTILS.register_module()
class Decay(_Schedule):
    """Times `gamma` every `interval`, from `begin` on.

    Example:
        >>> [Decay(gamma=0.5, interval=10)(step, epoch=0) for step in (0, 9, 10, 25)]
        [1.0, 1.0, 0.5, 0.25]
    """

    def __init__(self, gamma: float, interval: int = 1, begin: int = 0, by_epoch: bool = False) -> None:
        super().__init__(by_epoch)
        if gamma < 0 or interval < 1:
            raise ValueError(f"Decay needs gamma >= 0 and interval >= 1, got gamma={gamma}, interval={interval}")
        self.gamma, self.interval, self.begin = gamma, interval, begin

    def factor(self, now: int) -> float:
        return float(self.gamma ** (max(0, now - self.begin) // self.interval))


@TASK_UTILS.register_module()
class Window(_Schedule):
    """1 from `begin` up to, not including, `end`; 0 elsewhere. Without `end`, 1 for good.

    Example:
        >>> [Window(begin=2, end=4, by_epoch=True)(0, epoch) for epoch in range(5)]
        [0.0, 0.0, 1.0, 1.0, 0.0]
    """

    def __init__(self, begin: int = 0, end: int | None = None, by_epoch: bool = False) -> None:
        super().__init__(by_epoch)
        if end is not None:
            _ordered(begin, end)
        self.begin, self.end = begin, end

    def factor(self, now: int) -> float:
        return float(self.begin <= now and (self.end is None or now < self.end))
