# FoveaBox R50 1x. Release: 4 images per GPU on 4 GPUs, SGD 0.01, positives pooled over the batch.
_base_ = "mmdet::foveabox/fovea_r50_fpn_4xb4-1x_coco.py"

train_dataloader = dict(batch_size=4)

correlation = dict(head="CorrelationFoveaHead", at="model.bbox_head", scope="batch")

mini = dict(
    epochs=11,
    channels_last=True,  # convolutions with few channels are a quarter faster in this layout on a CPU
    model=dict(
        neck=dict(num_outs=3),
        bbox_head=dict(
            in_channels=32,
            feat_channels=32,
            stacked_convs=2,
            strides=[8, 16, 32],
            base_edge_list=[16, 32, 64],
            scale_ranges=((1, 32), (16, 64), (32, 256)),
        ),
    ),
)
