"""Detectors of transformers with random weights, small enough for a test."""

import pytest
import torch

pytest.importorskip("transformers")
from transformers import (
    ConditionalDetrConfig,
    ConditionalDetrForObjectDetection,
    DeformableDetrConfig,
    DeformableDetrForObjectDetection,
    DetrConfig,
    DetrForObjectDetection,
    DFineConfig,
    DFineForObjectDetection,
    ResNetConfig,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrResNetConfig,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
)

LAYERS, QUERIES, CLASSES = 2, 12, 4
_BACKBONE = dict(
    embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic",
    out_features=["stage2", "stage3", "stage4"],
)  # fmt: skip
_DETR = dict(
    encoder_layers=1, decoder_layers=LAYERS, encoder_attention_heads=2, decoder_attention_heads=2,
    encoder_ffn_dim=32, decoder_ffn_dim=32, d_model=32, num_queries=QUERIES, num_labels=CLASSES,
)  # fmt: skip
_RT_DETR = _DETR | dict(
    encoder_hidden_dim=32, encoder_in_channels=[16, 24, 32], decoder_in_channels=[32, 32, 32],
    num_denoising=8,
)  # fmt: skip
MODELS = {
    "detr": (DetrForObjectDetection, DetrConfig, _DETR | dict(dropout=0.0)),
    "conditional_detr": (ConditionalDetrForObjectDetection, ConditionalDetrConfig, _DETR | dict(dropout=0.0)),
    "deformable_detr": (
        DeformableDetrForObjectDetection,
        DeformableDetrConfig,
        _DETR | dict(dropout=0.0, num_feature_levels=3),
    ),
    "rt_detr": (RTDetrForObjectDetection, RTDetrConfig, _RT_DETR),
    "rt_detr_v2": (RTDetrV2ForObjectDetection, RTDetrV2Config, _RT_DETR),
    "d_fine": (DFineForObjectDetection, DFineConfig, _RT_DETR),
}


def tiny(name, seed=0, **changes):
    """A model in training mode with auxiliary losses."""
    torch.manual_seed(seed)
    model, config, settings = MODELS[name]
    backbone = ResNetConfig if name.endswith("detr") and not name.startswith("rt") else RTDetrResNetConfig
    backbone = backbone(**_BACKBONE)
    arguments = dict(backbone_config=backbone, auxiliary_loss=True) | settings | changes
    if name in ("detr", "conditional_detr", "deformable_detr"):
        arguments |= dict(use_timm_backbone=False, use_pretrained_backbone=False, backbone=None)
    return model(config(**arguments)).train()
