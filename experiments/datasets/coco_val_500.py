# 500 images of COCO's val2017 that keep the shares of classes and object sizes, for detectors that are not
# trained here.
_base_ = "./coco_val.py"

sample = dict(
    part="test",
    images=500,
    seed=0,
    of=dict(ann_file="annotations/instances_val2017.json", img="val2017/", expected="coco_2017_val"),
)
test = dict(
    _delete_=True,
    ann_file="annotations/instances_val2017_500.json",
    img="val2017_500/",  # links into val2017 where that is on disk
)
