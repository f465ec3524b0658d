# RTMDet-l, 300 epochs from scratch. mmdet: 32 images on each of 8 GPUs; here 64 on each of 4, the same batch.
# No adapter: docs/any_detector.md.
_base_ = "mmdet::rtmdet/rtmdet_l_8xb32-300e_coco.py"

# Left out, with and without the loss: the mean of the weights, and the last 20 epochs without mosaic.
custom_hooks = []

train_dataloader = dict(batch_size=64)

correlation = dict(at="model.bbox_head", scope="batch")

mini_norm = dict(type="BN")
mini = dict(
    channels_last=True,
    model=dict(
        backbone=dict(
            _delete_=True,
            type="CSPNeXt",
            arch="P5",
            expand_ratio=0.5,
            deepen_factor=0.167,
            widen_factor=0.125,
            channel_attention=True,
            norm_cfg=mini_norm,
            act_cfg=dict(type="SiLU", inplace=True),
        ),
        neck=dict(in_channels=[32, 64, 128], out_channels=32, num_csp_blocks=1, norm_cfg=mini_norm),
        bbox_head=dict(in_channels=32, feat_channels=32, norm_cfg=mini_norm),
        test_cfg=dict(nms_pre=1000),
    ),
)
