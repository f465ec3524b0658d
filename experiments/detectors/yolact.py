# YOLACT R50, 55 epochs. Release: 8 images a GPU on 4 GPUs, SGD 4e-3, clip 35, warm-up 1000 iterations;
# the coefficient is computed within one image and summed over the GPU's 8.
_base_ = "mmdet::yolact/yolact_r50_1xb8-55e_coco.py"

optim_wrapper = dict(optimizer=dict(lr=4e-3), clip_grad=dict(max_norm=35, norm_type=2))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=1000),
    dict(type="MultiStepLR", begin=0, end=55, by_epoch=True, milestones=[20, 42, 49, 52], gamma=0.1),
]

correlation = dict(head="CorrelationYOLACTHead", at="model.bbox_head", scope="image", reduction="sum")
masks = True

mini = dict(
    epochs=9,
    channels_last=True,  # convolutions of few channels run a quarter faster so on a CPU
    model=dict(
        neck=dict(num_outs=3),
        bbox_head=dict(
            in_channels=32,
            feat_channels=64,
            num_protos=16,
            anchor_generator=dict(
                base_sizes=[6, 12, 24],
                strides=[8, 16, 32],
                centers=None,
            ),
        ),
        mask_head=dict(
            in_channels=32,
            num_protos=16,
            proto_channels=(64, 64, None, 64, 16),
            proto_kernel_sizes=(3, 3, -2, 3, 1),
        ),
        test_cfg=dict(nms_pre=200),
    ),
)
