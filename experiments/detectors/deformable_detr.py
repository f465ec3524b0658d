# Deformable DETR R50, 50 epochs. mmdet: 2 images on each of 16 GPUs; here 8 on each of 4, the same batch. No
# adapter: docs/any_detector.md.
_base_ = "mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py"

train_dataloader = dict(batch_size=8)

correlation = dict(at="model.bbox_head", scope="batch")

# Trained from scratch in minutes: fewer levels, layers and queries, no dropout.
mini_deformable = dict(embed_dims=64, num_heads=4, num_levels=3, num_points=2, dropout=0.0)
mini_attention = dict(embed_dims=64, num_heads=4, dropout=0.0)
mini_ffn = dict(embed_dims=64, feedforward_channels=128, ffn_drop=0.0)
mini = dict(
    epochs=12,
    model=dict(
        num_queries=30,
        num_feature_levels=3,
        backbone=dict(norm_cfg=dict(requires_grad=True)),
        neck=dict(
            in_channels=[32, 64, 128], out_channels=64, norm_cfg=dict(type="GN", num_groups=8), num_outs=3
        ),
        encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=mini_deformable, ffn_cfg=mini_ffn)),
        decoder=dict(
            num_layers=3,
            layer_cfg=dict(self_attn_cfg=mini_attention, cross_attn_cfg=mini_deformable, ffn_cfg=mini_ffn),
        ),
        positional_encoding=dict(num_feats=32),
        bbox_head=dict(embed_dims=64),
        test_cfg=dict(max_per_img=30),
    ),
)
