# Sparse R-CNN R101, 300 proposals, 36 epochs, as its R50: published weights of it are at scale zoo.
_base_ = "./sparse_rcnn_r50_3x.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint="torchvision://resnet101")))
