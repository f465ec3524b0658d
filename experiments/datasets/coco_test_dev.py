# COCO test-dev 2017: images without published ground truth. Predicted and packed for the evaluation server.
folder = "coco"
num_classes = 80
check_images = "sample"
test = dict(
    ann_file="annotations/image_info_test-dev2017.json", img="test2017/", expected="coco_2017_test_dev"
)
