# The images of mini_cityscapes' generator, a handful of them, for tests.
_base_ = "./mini_cityscapes.py"

folder = "smoke_cityscapes"
make = dict(train_images=16, val_images=8)
