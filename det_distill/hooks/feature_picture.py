"""What a feature term compares, as pictures: the student's adapted map, the teacher's, and their difference."""

import torch
from mmdet.structures import DetDataSample

from det_distill.distiller import Distiller
from det_distill.pictures import draw
from det_distill.pictures.grid import grid, zoom_for
from det_distill.stills import as_batch
from det_distill.terms.feature.imitation import FeatureImitation

COLOURS = {"student, adapted": (240, 110, 20), "teacher": (0, 170, 120), "difference": (215, 60, 160)}


@torch.no_grad()
def feature_picture(model: Distiller, name: str, image: draw.Picture, sample: DetDataSample) -> draw.Picture:
    """A grid: a row for each of the three, a column per level of the term.

    A cell is as bright as the norm of its features over the channels, on one scale for the three pictures of a level,
    whose end is the largest norm of either net. The difference is that of the vectors, not of their norms.

    Args:
        model: In eval mode, for one image says nothing to batch norm.
        name: Of a `FeatureImitation` term.
        image: (H, W, 3) uint8 RGB, as the student's pipeline resizes it.
        sample: Its data sample.
    """
    term = model.terms[name]
    assert isinstance(term, FeatureImitation)
    data = model.data_preprocessor(as_batch(image, sample), False)
    whole, small, _ = model.shrink(data["inputs"], data["data_samples"])
    own = model.view.run(small, [term.tap])
    its = model.teachers[term.teachers[0]].watch(whole, data["data_samples"], [term.tap], None)

    height, width = whole.shape[2:]
    zoom = zoom_for(width)
    canvas = draw.resize(draw.pad(image, (height, width)), zoom)
    cells: list[list[draw.Picture]] = [[] for _ in COLOURS]
    captions: list[list[str]] = [[] for _ in COLOURS]
    strides = [pair.strides[1] for pair in term.pairs]
    for (student, teacher), stride in zip(term.compared(own, its), strides, strict=True):
        norms = [one[0].norm(dim=0).cpu().numpy() for one in (student, teacher, student - teacher)]  # (h, w) each
        most = max(norms[0].max(), norms[1].max(), 1e-12)
        for row, (norm, colour) in enumerate(zip(norms, COLOURS.values(), strict=True)):
            cells[row].append(draw.heat(canvas, norm / most, (stride * zoom, stride * zoom), colour))
            captions[row].append(f"mean {norm.mean():.3g}, at most {norm.max():.3g}")
    columns = [f"stride {stride}" for stride in strides]
    return grid(cells, columns, list(COLOURS), captions, f"loss_{name}: norms of '{term.tap}'")
