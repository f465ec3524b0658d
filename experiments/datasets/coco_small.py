# A sample of COCO 2017 for one GPU: 10,000 images of train2017 that keep the shares of classes and object
# sizes, at half the recipes' image size, tested on all of val2017 (docs/small_scale.md).
folder = "coco"
num_classes = 80  # mmdet's CocoDataset knows their names
check_images = "sample"  # all files must exist; a sample of them is decoded
sample = dict(
    images=10_000,
    seed=0,
    of=dict(ann_file="annotations/instances_train2017.json", img="train2017/", expected="coco_2017_train"),
)
train = dict(
    ann_file="annotations/instances_small2017.json",
    img="small2017/",  # links into train2017 where that is on disk
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="Resize", scale=(667, 400), keep_ratio=True),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackDetInputs"),
    ],
)
test = dict(
    ann_file="annotations/instances_val2017.json",
    img="val2017/",
    expected="coco_2017_val",
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=(667, 400), keep_ratio=True),
        dict(
            type="PackDetInputs",
            meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
        ),
    ],
)
