"""The recipe across families: RetinaNet begins as the heaviest part of what Faster R-CNN has before its heads; BCCD.

Fitted to it, then imitation of its maps; the head begins as in stock training. 6 epochs.
"""

_base_ = "../single_stage/bccd_faster-rcnn-r18_retinanet-r18-half.py"

model = dict(
    init_cfg=dict(type="WeightSelection", channels="heaviest", reconstruct=dict(images=96)),
    terms=dict(imitation=dict(adapter=dict(identity=True))),  # the student's channels are its teacher's
)
