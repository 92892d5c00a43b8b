"""VGG11 at 688 pixels teaches itself at 344 (Chen et al., 2017); VOC 07+12.

The net is [ours]: [paper] AlexNet 57.2 at 688, 53.2 at 344, 56.7 at 344 distilled. No terms of the RPN, whose anchors
differ [ours].

[paper] NIPS 2017, [quoted] the paper second-hand, [ours] a decision.
"""

_base_ = ["../voc0712/faster-rcnn_vgg11_344px.py", "../_base_/distill.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student=dict(model={{_base_.model}}, scale=0.5),
    teacher=dict(
        config="configs/voc0712/faster-rcnn_vgg11_688px.py",
        checkpoint="data/teachers/faster-rcnn_vgg11_688px_voc0712.pth",
    ),
    terms=dict(
        roi_soft=dict(type="WeightedSoftLabels", head="roi", background_weight=1.5, weight=0.5),  # [quoted]; 1 - mu
        roi_bounded=dict(type="BoundedRegression", head="roi", margin=0.0, nu=0.5),  # [ours], nu [quoted]
        hint=dict(
            type="FeatureImitation",
            tap="backbone",  # [paper] the last shared map
            adapter=dict(type="ConvAdapter", kernel=1),  # [paper]
            mask=dict(type="FullMask"),
            distance="l2",  # [ours] its mean over elements
            resize=True,  # [ours] to the teacher's grid; [quoted] the paper pads
            weight=0.5,  # [quoted] gamma
        ),
    ),
    task_weights=dict(loss_cls=0.5),  # mu, [ours]
)

# The whole image, of which the student is fed a copy at its scale.
_base_.train_dataloader.dataset.dataset.datasets[0].pipeline[2].scale = (1146, 688)
_base_.train_dataloader.dataset.dataset.datasets[1].pipeline[2].scale = (1146, 688)
