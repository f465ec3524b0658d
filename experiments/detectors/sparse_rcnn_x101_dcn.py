# Sparse R-CNN ResNeXt-101 64x4d 3x with deformable convolutions, 300 proposals, 480-960, as in the release.
_base_ = "./sparse_rcnn_r101_dcn.py"

model = dict(
    backbone=dict(
        type="ResNeXt",
        groups=64,
        base_width=4,
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://resnext101_64x4d"),
    ),
)
