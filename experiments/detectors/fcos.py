# FCOS R50 1x, 4 images per GPU on 4 GPUs. No adapter: mmdet's own head is observed; see docs/any_detector.md.
_base_ = "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_4xb4-1x_coco.py"

correlation = dict(at="model.bbox_head", scope="batch")

mini = dict(
    channels_last=True,  # convolutions with few channels are a quarter faster in this layout on a CPU
    model=dict(
        backbone=dict(norm_cfg=dict(requires_grad=True)),  # no pretrained weights to preserve
        neck=dict(num_outs=3),
        bbox_head=dict(
            in_channels=32,
            feat_channels=32,
            stacked_convs=2,
            strides=[8, 16, 32],
            regress_ranges=((-1, 32), (32, 64), (64, 256)),
            norm_cfg=dict(type="GN", num_groups=8, requires_grad=True),
        ),
    ),
)
