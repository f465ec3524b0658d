# YOLACT R50, 55 epochs. Release: 8 images per GPU on 4 GPUs, SGD 4e-3, clip 35, warm-up 1000 iterations; the
# coefficient is computed within each image, and the losses of the 8 images are summed.
_base_ = "mmdet::yolact/yolact_r50_1xb8-55e_coco.py"

optim_wrapper = dict(optimizer=dict(lr=4e-3), clip_grad=dict(max_norm=35, norm_type=2))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=1000),
    dict(type="MultiStepLR", begin=0, end=55, by_epoch=True, milestones=[20, 42, 49, 52], gamma=0.1),
]

# As in the release: mmdet 3.3.0 distorts colours last, which also changes the padding that Expand adds.
mean = [123.68, 116.78, 103.94]
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
            dict(type="FilterAnnotations", min_gt_bbox_wh=(4.0, 4.0)),
            dict(
                type="PhotoMetricDistortion",
                brightness_delta=32,
                contrast_range=(0.5, 1.5),
                saturation_range=(0.5, 1.5),
                hue_delta=18,
            ),
            dict(type="Expand", mean=mean, to_rgb=True, ratio_range=(1, 4)),
            dict(type="MinIoURandomCrop", min_ious=(0.1, 0.3, 0.5, 0.7, 0.9), min_crop_size=0.3),
            dict(type="Resize", scale=(550, 550), keep_ratio=False),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PackDetInputs"),
        ]
    )
)

# At half the size. As in YOLACT's own configs for other sizes, the anchors shrink with the image.
cells = [35, 18, 9, 5, 3]  # of each feature level, along a side of the image
resize = dict(type="Resize", scale=(275, 275), keep_ratio=False)
coco_small = dict(
    train_dataloader=dict(
        dataset=dict(
            pipeline=[resize if s["type"] == "Resize" else s for s in train_dataloader["dataset"]["pipeline"]]
        )
    ),
    test_dataloader=dict(
        dataset=dict(
            pipeline=[
                dict(type="LoadImageFromFile"),
                resize,
                dict(
                    type="PackDetInputs",
                    meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
                ),
            ]
        )
    ),
    model=dict(
        bbox_head=dict(
            anchor_generator=dict(
                base_sizes=[4, 8, 16, 32, 64],
                strides=[275 / count for count in cells],
                centers=[(275 * 0.5 / count, 275 * 0.5 / count) for count in cells],
            )
        )
    ),
)

correlation = dict(head="CorrelationYOLACTHead", at="model.bbox_head", scope="image", reduction="sum")
masks = True

mini = dict(
    epochs=9,
    channels_last=True,  # convolutions with few channels are a quarter faster in this layout on a CPU
    model=dict(
        neck=dict(num_outs=3),
        bbox_head=dict(
            in_channels=32,
            feat_channels=64,
            num_protos=16,
            anchor_generator=dict(
                base_sizes=[6, 12, 24],
                strides=[8, 16, 32],
                centers=None,
            ),
        ),
        mask_head=dict(
            in_channels=32,
            num_protos=16,
            proto_channels=(64, 64, None, 64, 16),
            proto_kernel_sizes=(3, 3, -2, 3, 1),
        ),
        test_cfg=dict(nms_pre=200),
    ),
)
