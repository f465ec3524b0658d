# Synthetic street scenes in Cityscapes' raw layout, converted like the real ones. Fake: see docs/data.md.
folder = "mini_cityscapes"
make = dict(type="mini_cityscapes", train_images=240, val_images=80, seed=0)
convert = dict(train="train", test="val")
classes = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
train = dict(
    ann_file="annotations/instancesonly_filtered_gtFine_train.json",
    img="leftImg8bit/train/",
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="Resize", scale=(256, 128), keep_ratio=False),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackDetInputs"),
    ],
)
test = dict(
    ann_file="annotations/instancesonly_filtered_gtFine_val.json",
    img="leftImg8bit/val/",
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=(256, 128), keep_ratio=False),
        dict(
            type="PackDetInputs",
            meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
        ),
    ],
)
