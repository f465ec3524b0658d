# TOOD R50 1x. No adapter: mmdet's own head is observed; see docs/any_detector.md.
_base_ = "mmdet::tood/tood_r50_fpn_1x_coco.py"

train_dataloader = dict(batch_size=4)

correlation = dict(at="model.bbox_head", scope="batch")

mini = dict(
    channels_last=True,  # convolutions with few channels are a quarter faster in this layout on a CPU
    model=dict(
        neck=dict(num_outs=3),
        bbox_head=dict(
            in_channels=32,
            feat_channels=32,
            stacked_convs=3,
            norm_cfg=dict(type="GN", num_groups=8, requires_grad=True),
            anchor_generator=dict(octave_base_scale=4, strides=[8, 16, 32]),
        ),
        train_cfg=dict(initial_epoch=2),
    ),
)
