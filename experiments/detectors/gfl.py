# GFL R50 1x: Quality Focal Loss and Distribution Focal Loss. The release has the loss in this head, with the
# mean over the feature levels, but no config of it: 4 images per GPU on 4 GPUs, SGD 0.01, as for ATSS.
_base_ = "mmdet::gfl/gfl_r50_fpn_1x_coco.py"

train_dataloader = dict(batch_size=4)

correlation = dict(head="CorrelationGFLHead", at="model.bbox_head", scope="level", reduction="mean")

mini = dict(
    epochs=5,
    channels_last=True,  # convolutions with few channels are a quarter faster in this layout on a CPU
    model=dict(
        neck=dict(num_outs=3),
        bbox_head=dict(
            in_channels=32,
            feat_channels=32,
            stacked_convs=2,
            anchor_generator=dict(octave_base_scale=4, strides=[8, 16, 32]),
        ),
    ),
)
