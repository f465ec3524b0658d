# Cascade R-CNN R50 1x, 4 images per GPU on 4 GPUs. No adapter: docs/any_detector.md. The loss of a stage has
# the weight of the stage's other losses: 1, 0.5, 0.25.
_base_ = "mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py"

train_dataloader = dict(batch_size=4)

correlation = dict(at="model.roi_head.bbox_head", scope="batch")

mini_stage = dict(in_channels=32, fc_out_channels=128)
mini_samples = dict(sampler=dict(num=64))
mini = dict(  # no channels_last: mmcv's RoIAlign reads such features wrongly on a CPU
    model=dict(
        neck=dict(num_outs=4),
        rpn_head=dict(
            in_channels=32, feat_channels=32, anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32])
        ),
        roi_head=dict(
            bbox_roi_extractor=dict(out_channels=32, roi_layer=dict(sampling_ratio=1)),
            bbox_head={"0": mini_stage, "1": mini_stage, "2": mini_stage},
        ),
        train_cfg=dict(
            rpn_proposal=dict(nms_pre=200, max_per_img=100),
            rcnn={"0": mini_samples, "1": mini_samples, "2": mini_samples},
        ),
        test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)),
    ),
)
