# DETR R50, 150 epochs. mmdet: 2 images on each of 8 GPUs; here 4 on each of 4, the same batch. No adapter:
# docs/any_detector.md.
_base_ = "mmdet::detr/detr_r50_8xb2-150e_coco.py"

train_dataloader = dict(batch_size=4)

correlation = dict(at="model.bbox_head", scope="batch")

# Trained from scratch in minutes: features of a finer stride, few queries, no dropout, many short epochs.
mini_attention = dict(embed_dims=64, num_heads=4, dropout=0.0)
mini_ffn = dict(embed_dims=64, feedforward_channels=128, ffn_drop=0.0)
mini = dict(
    epochs=24,
    model=dict(
        num_queries=20,
        backbone=dict(out_indices=(2,), norm_cfg=dict(requires_grad=True)),
        neck=dict(in_channels=[64], out_channels=64),
        encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=mini_attention, ffn_cfg=mini_ffn)),
        decoder=dict(
            num_layers=3,
            layer_cfg=dict(self_attn_cfg=mini_attention, cross_attn_cfg=mini_attention, ffn_cfg=mini_ffn),
        ),
        positional_encoding=dict(num_feats=32),
        bbox_head=dict(embed_dims=64),
        test_cfg=dict(max_per_img=20),
    ),
)
