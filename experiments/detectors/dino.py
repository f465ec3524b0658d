# DINO R50, 4 scales, 12 epochs. mmdet: 2 images on each of 8 GPUs; here 4 on each of 4, the same batch. No
# adapter: docs/any_detector.md.
_base_ = "mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py"

train_dataloader = dict(batch_size=4)

correlation = dict(at="model.bbox_head", scope="batch")

# Trained from scratch in minutes: fewer levels, layers and queries. mmdet's decoder needs 256 channels.
mini_deformable = dict(num_levels=3, num_points=2)
mini_ffn = dict(feedforward_channels=256)
mini = dict(
    model=dict(
        num_queries=30,
        num_feature_levels=3,
        backbone=dict(norm_cfg=dict(requires_grad=True)),
        neck=dict(in_channels=[32, 64, 128], out_channels=256, num_outs=3),
        encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=mini_deformable, ffn_cfg=mini_ffn)),
        decoder=dict(num_layers=2, layer_cfg=dict(cross_attn_cfg=mini_deformable, ffn_cfg=mini_ffn)),
        dn_cfg=dict(group_cfg=dict(num_dn_queries=20)),
        test_cfg=dict(max_per_img=30),
    ),
)
