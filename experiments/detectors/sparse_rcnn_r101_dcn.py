# Sparse R-CNN R101 3x with deformable convolutions in stages 2-4 of its backbone (mmdet counts from 1; four
# deform groups), 300 proposals, short side 480-960 with crops, as in the release.
_base_ = "./sparse_rcnn_r50_3x.py"

model = dict(
    backbone=dict(
        depth=101,
        dcn=dict(type="DCNv2", deform_groups=4, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True),
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101"),
    ),
)

sizes = [(side, 1333) for side in range(480, 961, 32)]
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(type="RandomFlip", prob=0.5),
            dict(
                type="RandomChoice",
                transforms=[
                    [dict(type="RandomChoiceResize", scales=sizes, keep_ratio=True)],
                    [
                        dict(
                            type="RandomChoiceResize",
                            scales=[(400, 1333), (500, 1333), (600, 1333)],
                            keep_ratio=True,
                        ),
                        dict(
                            type="RandomCrop",
                            crop_type="absolute_range",
                            crop_size=(384, 600),
                            allow_negative_crop=True,
                        ),
                        dict(type="RandomChoiceResize", scales=sizes, keep_ratio=True),
                    ],
                ],
            ),
            dict(type="PackDetInputs"),
        ],
    ),
)
