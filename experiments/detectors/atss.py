# ATSS R50 1x with its centerness branch. Release: 4 images per GPU on 4 GPUs, SGD 0.01.
_base_ = "mmdet::atss/atss_r50_fpn_1x_coco.py"

train_dataloader = dict(batch_size=4)

correlation = dict(head="CorrelationATSSHead", at="model.bbox_head", scope="batch")

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
