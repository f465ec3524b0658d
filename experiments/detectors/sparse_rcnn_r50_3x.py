# Sparse R-CNN R50 3x, 300 proposals, short side 480-800 with crops. Release: 4 images a GPU on 4 GPUs, AdamW
# 2.5e-5, clip 1, 36 epochs with steps at 27 and 33. It has no section `mini`.
_base_ = "mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_300-proposals_crop-ms-480-800-3x_coco.py"

train_dataloader = dict(batch_size=4)

# Half the size: short side 240-400 with crops; two thirds of the epochs, for main tables within two days.
short_sides = dict(
    type="RandomChoiceResize", scales=[(side, 667) for side in range(240, 401, 16)], keep_ratio=True
)
coco_small = dict(
    train_cfg=dict(max_epochs=24),
    param_scheduler=[
        dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
        dict(type="MultiStepLR", begin=0, end=24, by_epoch=True, milestones=[18, 22], gamma=0.1),
    ],
    train_dataloader=dict(
        dataset=dict(
            pipeline=[
                dict(type="LoadImageFromFile"),
                dict(type="LoadAnnotations", with_bbox=True),
                dict(type="RandomFlip", prob=0.5),
                dict(
                    type="RandomChoice",
                    transforms=[
                        [short_sides],
                        [
                            dict(
                                type="RandomChoiceResize",
                                scales=[(200, 667), (250, 667), (300, 667)],
                                keep_ratio=True,
                            ),
                            dict(
                                type="RandomCrop",
                                crop_type="absolute_range",
                                crop_size=(192, 300),
                                allow_negative_crop=True,
                            ),
                            short_sides,
                        ],
                    ],
                ),
                dict(type="PackDetInputs"),
            ]
        )
    ),
)

correlation = dict(head="CorrelationDIIHead", at="model.roi_head.bbox_head", scope="batch")
