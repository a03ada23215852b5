"""Toys of Qwen-Image. No size is a real one's scaled."""

from dataclasses import replace

from tests.pipelines.toy_model import DYNAMIC, Part, Toy

SCHEDULE = {
    **DYNAMIC, "shift": 1.0, "base_shift": 0.4, "max_shift": 0.9, "max_image_seq_len": 8192, "shift_terminal": 0.02,
}  # fmt: skip
TRANSFORMER = Part("diffusers", "QwenImageTransformer2DModel", {
    "patch_size": 2, "in_channels": 20, "out_channels": 5, "num_layers": 2, "attention_head_dim": 12,
    "num_attention_heads": 3, "joint_attention_dim": 24, "axes_dims_rope": [2, 4, 6],
})  # fmt: skip
# The size stands where real ones have none, and the reference leaves it out.
VAE = Part("diffusers", "AutoencoderKLQwenImage", {
    "base_dim": 6, "z_dim": 5, "dim_mult": [1, 2], "num_res_blocks": 1, "temperal_downsample": [True],
    "latents_mean": [0.1, 0.2, -0.3, 0.4, 0.5], "latents_std": [1.5, 2.0, 0.7, 1.1, 0.4], "sample_size": 64,
})  # fmt: skip
ENCODER = Part("transformers", "Qwen2_5_VLForConditionalGeneration", {
    "model_type": "qwen2_5_vl",
    "text_config": {
        "model_type": "qwen2_5_vl_text", "vocab_size": 420, "hidden_size": 24, "intermediate_size": 40,
        "num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 1, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5, "bos_token_id": 400, "eos_token_id": 402, "use_sliding_window": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e4, "mrope_section": [1, 1, 2]},
    },
    "vision_config": {
        "model_type": "qwen2_5_vl", "depth": 2, "hidden_size": 40, "intermediate_size": 28, "num_heads": 2, "patch_size": 6,
        "window_size": 36, "out_hidden_size": 24, "fullatt_block_indexes": [1], "in_channels": 3,
        "spatial_merge_size": 2, "temporal_patch_size": 2,
    },
    "vision_start_token_id": 405, "vision_end_token_id": 406, "image_token_id": 407, "video_token_id": 408,
    "tie_word_embeddings": False,
})  # fmt: skip

PROCESSOR = {
    "image_processor_type": "Qwen2VLImageProcessor", "patch_size": 6, "temporal_patch_size": 2, "merge_size": 2,
    "size": {"shortest_edge": 12 * 12 * 4, "longest_edge": 12 * 12 * 60}, "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.3, 0.2, 0.25],
}  # fmt: skip
STILL = Part("diffusers", "QwenImageTransformer2DModel", {**TRANSFORMER.config, "zero_cond_t": True})
DRAWS = Toy(
    "QwenImagePipeline",
    {"transformer": TRANSFORMER, "vae": VAE, "text_encoder": ENCODER},
    SCHEDULE,
    {"tokenizer": "qwen_vl"},
)
QWEN_TOYS = {
    "qwen-image": DRAWS,
    "qwen-image-edit": replace(DRAWS, pipeline="QwenImageEditPipeline", processor=PROCESSOR),
    "qwen-image-edit-2509": replace(DRAWS, pipeline="QwenImageEditPlusPipeline", processor=PROCESSOR),
    "qwen-image-edit-2511": replace(
        DRAWS,
        pipeline="QwenImageEditPlusPipeline",
        processor=PROCESSOR,
        parts={**DRAWS.parts, "transformer": STILL},
    ),
}
