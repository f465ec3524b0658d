# VFNet R50 1x. In the release's code with no config of it: 4 images a GPU on 4 GPUs, as its other detectors.
# Box whose IoU is correlated: model.bbox_head.correlated_box = "initial", "refined" (the default) or "mean".
_base_ = "mmdet::vfnet/vfnet_r50_fpn_1x_coco.py"

train_dataloader = dict(batch_size=4)

correlation = dict(head="CorrelationVFNetHead", at="model.bbox_head", scope="batch")

mini = dict(  # no channels_last: mmcv's deformable convolution refuses such features on a CPU
    model=dict(
        neck=dict(num_outs=3),
        bbox_head=dict(
            in_channels=32,
            feat_channels=32,
            stacked_convs=2,
            strides=[8, 16, 32],
            regress_ranges=((-1, 32), (32, 64), (64, 256)),
            norm_cfg=dict(type="GN", num_groups=8, requires_grad=True),
            anchor_generator=dict(
                type="AnchorGenerator",
                ratios=[1.0],
                octave_base_scale=4,
                scales_per_octave=1,
                center_offset=0.0,
                strides=[8, 16, 32],
            ),
        ),
    ),
)
