# COCO 2017: train2017 (the paper's trainval35k) and val2017 (the paper's minival).
folder = "coco"
num_classes = 80  # mmdet's CocoDataset knows their names
check_images = "sample"  # all files must exist; a sample of them is decoded
train = dict(ann_file="annotations/instances_train2017.json", img="train2017/", expected="coco_2017_train")
test = dict(ann_file="annotations/instances_val2017.json", img="val2017/", expected="coco_2017_val")
