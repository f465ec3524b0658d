# RetinaNet R50 with AP Loss: 2 scales x 3 shapes of anchors, 100 epochs at 512 x 512 with SSD's augmentation,
# 8 images per GPU on 4 GPUs, SGD 0.002, tested at 500 x 833. As in aLRP Loss's release; that of
# Correlation Loss has no recipe.
_base_ = "./retinanet.py"

train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(
                type="PhotoMetricDistortion",
                brightness_delta=32,
                contrast_range=(0.5, 1.5),
                saturation_range=(0.5, 1.5),
                hue_delta=18,
            ),
            dict(type="Expand", mean=[123.675, 116.28, 103.53], to_rgb=True, ratio_range=(1, 4)),
            dict(type="MinIoURandomCrop", min_ious=(0.1, 0.3, 0.5, 0.7, 0.9), min_crop_size=0.3),
            dict(type="Resize", scale=(512, 512), keep_ratio=False),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PackDetInputs"),
        ]
    ),
)
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="Resize", scale=(833, 500), keep_ratio=True),
            dict(
                type="PackDetInputs",
                meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
            ),
        ]
    )
)
train_cfg = dict(max_epochs=100)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", begin=0, end=100, by_epoch=True, milestones=[60, 80], gamma=0.1),
]
optim_wrapper = dict(optimizer=dict(lr=0.002))
model = dict(
    bbox_head=dict(
        anchor_generator=dict(scales_per_octave=2),
        bbox_coder=dict(target_stds=[0.1, 0.1, 0.2, 0.2]),
        loss_cls=dict(_delete_=True, type="APLoss", use_sigmoid=True),
        # The release takes the mean over a positive's four offsets, mmdet their sum.
        loss_bbox=dict(_delete_=True, type="SmoothL1Loss", beta=1.0, loss_weight=0.25),
    )
)

correlation = dict(head="CorrelationAPLossRetinaHead")

mini = dict(
    epochs=6,
    # In so short a training the scores stay near their initial value, 0.01.
    model=dict(test_cfg=dict(score_thr=0.02)),
)
