# Sparse R-CNN R50 1x, 100 proposals. Release: 4 images per GPU on 4 GPUs, AdamW 2.5e-5, clip 1.
_base_ = "mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py"

train_dataloader = dict(batch_size=4)

correlation = dict(head="CorrelationDIIHead", at="model.roi_head.bbox_head", scope="batch")

# On Cityscapes three times the dense detectors' epochs, as its 3x is to their 1x: ours (docs/recipes.md).
cityscapes = dict(
    train_cfg=dict(max_epochs=192),
    param_scheduler=[
        dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
        dict(type="MultiStepLR", begin=0, end=192, by_epoch=True, milestones=[144, 176], gamma=0.1),
    ],
)

# Trained from scratch, a set-based detector needs more iterations and a higher rate than its base has.
mini_stage = dict(
    type="DIIHead",
    num_ffn_fcs=2,
    num_heads=4,
    num_cls_fcs=1,
    num_reg_fcs=2,
    feedforward_channels=128,
    in_channels=64,
    ffn_act_cfg=dict(type="ReLU", inplace=True),
    dynamic_conv_cfg=dict(
        type="DynamicConv",
        in_channels=64,
        feat_channels=16,
        out_channels=64,
        input_feat_shape=5,
        act_cfg=dict(type="ReLU", inplace=True),
        norm_cfg=dict(type="LN"),
    ),
    loss_bbox=dict(type="L1Loss", loss_weight=5.0),
    loss_iou=dict(type="GIoULoss", loss_weight=2.0),
    loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
    bbox_coder=dict(
        type="DeltaXYWHBBoxCoder",
        clip_border=False,
        target_means=[0.0, 0.0, 0.0, 0.0],
        target_stds=[0.5, 0.5, 1.0, 1.0],
    ),
)
mini = dict(  # no channels_last: mmcv's RoIAlign reads such features wrongly on a CPU
    epochs=11,
    model=dict(  # regions of 5 x 5 cells, from stride 8 on: 7 x 7 from stride 4 would add minutes to the demo
        neck=dict(out_channels=64, start_level=1, num_outs=3),
        rpn_head=dict(num_proposals=20, proposal_feature_channel=64),
        roi_head=dict(
            num_stages=3,
            stage_loss_weights=[1, 1, 1],
            proposal_feature_channel=64,
            bbox_roi_extractor=dict(
                out_channels=64, featmap_strides=[8, 16, 32], roi_layer=dict(sampling_ratio=1, output_size=5)
            ),
            bbox_head=[mini_stage] * 3,
        ),
        test_cfg=dict(rcnn=dict(max_per_img=20)),
    ),
)
