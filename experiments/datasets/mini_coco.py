# Synthetic shapes in COCO's format, made by code from a seed. Fake: see docs/data.md.
folder = "mini_coco"
make = dict(type="mini_coco", train_images=400, val_images=200, seed=0)
classes = ("circle", "square", "triangle", "star")
train = dict(
    ann_file="annotations/instances_train.json",
    img="train/",
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="Resize", scale=(128, 128), keep_ratio=False),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackDetInputs"),
    ],
)
test = dict(
    ann_file="annotations/instances_val.json",
    img="val/",
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=(128, 128), keep_ratio=False),
        dict(
            type="PackDetInputs",
            meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
        ),
    ],
)
