"""Plots of how a cost grows, and of learning curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Curve = Sequence[tuple[int, float]]  # epochs and scores


def plot(of: str, points: Sequence[tuple[float, float, float]], slopes: tuple[float, float], file: Path) -> None:
    """Write a plot of the times of a student's own step and of the distilled one, both axes logarithmic.

    Args:
        of: What grows.
        points: Amount, seconds of the student's own step, seconds of the distilled step.
        slopes: Of the distilled step, and of what distilling adds.
        file: A new picture.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xscale="log", yscale="log", xlabel=of, ylabel="seconds a step")
    amounts, own, whole = zip(*points, strict=True)
    axes.plot(amounts, whole, "o-", label=f"distilled, slope {slopes[0]:.2f}")
    axes.plot(amounts, own, "o-", label="student alone")
    added = [(amount, more) for amount, less, both in points if (more := both - less) > 0]
    if added:
        axes.plot(*zip(*added, strict=True), "o--", label=f"what distilling adds, slope {slopes[1]:.2f}")
    linear = [whole[0] * amount / amounts[0] for amount in amounts]
    axes.plot(amounts, linear, ":", color="grey", label="linear, slope 1")
    axes.set_xticks(amounts, [f"{amount:g}" for amount in amounts])
    axes.minorticks_off()
    axes.legend()
    figure.savefig(file, dpi=100)


def plot_curves(curves: Mapping[str, Sequence[Curve]], teacher: Curve, file: Path) -> None:
    """Write a plot of validation scores over epochs, of each method the mean over its runs.

    Args:
        curves: Of each method its runs; an epoch counts where every run of a method has it.
        teacher: Its own, of whose end there is a line across.
        file: A new picture; none where no method has a curve.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="epoch", ylabel="AP on the validation split, %")
    for name, runs in curves.items():
        begun = [dict(run) for run in runs if run]
        epochs = sorted(set.intersection(*(set(run) for run in begun))) if begun else []
        if epochs:
            axes.plot(epochs, [mean(run[epoch] for run in begun) for epoch in epochs], "o-", label=name, markersize=3)
    if not axes.lines:
        return
    if teacher:
        axes.axhline(teacher[-1][1], linestyle=":", color="grey", label="teacher, at its end")
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=100)
