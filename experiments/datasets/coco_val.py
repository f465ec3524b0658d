# COCO's val2017 alone, for detectors that are not trained here.
folder = "coco"
num_classes = 80  # mmdet's CocoDataset knows their names
check_images = "sample"  # all files must exist; a sample of them is decoded
test = dict(ann_file="annotations/instances_val2017.json", img="val2017/", expected="coco_2017_val")
