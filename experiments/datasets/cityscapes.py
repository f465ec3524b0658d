# Cityscapes gtFine, the eight classes that are evaluated by instance. Its folder holds the raw layout; the
# annotation files are converted from it. No recipe was released: this one is ours (docs/recipes.md).
folder = "cityscapes"
convert = dict(train="train", test="val")
classes = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
check_images = "all"
train = dict(
    ann_file="annotations/instancesonly_filtered_gtFine_train.json",
    img="leftImg8bit/train/",
    expected="cityscapes_train",
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="RandomResize", scale=[(2048, 800), (2048, 1024)], keep_ratio=True),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackDetInputs"),
    ],
)
test = dict(
    ann_file="annotations/instancesonly_filtered_gtFine_val.json",
    img="leftImg8bit/val/",
    expected="cityscapes_val",
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=(2048, 1024), keep_ratio=True),
        dict(
            type="PackDetInputs",
            meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
        ),
    ],
)
overrides = dict(
    train_cfg=dict(max_epochs=64),  # 8 times 8, as in mmdet's Cityscapes configs
    param_scheduler=[
        dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
        dict(type="MultiStepLR", begin=0, end=64, by_epoch=True, milestones=[56], gamma=0.1),
    ],
)
