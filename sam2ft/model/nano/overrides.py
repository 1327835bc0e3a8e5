"""Architecture of the nano SAM 2 model: a stock configuration and Hydra overrides.

`build_sam2` finds configurations only inside the sam2 package, so the nano model is a stock name plus Hydra overrides.
"""

BASE_CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"
IMAGE_SIZE = 256
"""Side in pixels of the square images that the shipped weights were trained on."""

_WIDTH = 128  # d_model: 64 did not learn box prompts in 900 steps, 256 makes the file 2.4 times larger
_TRUNK = "++model.image_encoder.trunk"
_NECK = "++model.image_encoder.neck"
_ATTENTION = "++model.memory_attention"

OVERRIDES: tuple[str, ...] = (
    f"{_TRUNK}.embed_dim=16",
    f"{_TRUNK}.stages=[1,2,3,1]",
    f"{_TRUNK}.global_att_blocks=[4]",
    f"{_NECK}.d_model={_WIDTH}",
    f"{_NECK}.position_encoding.num_pos_feats={_WIDTH}",
    f"{_NECK}.backbone_channel_list=[128,64,32,16]",
    f"{_ATTENTION}.d_model={_WIDTH}",
    f"{_ATTENTION}.num_layers=1",
    f"{_ATTENTION}.layer.d_model={_WIDTH}",
    f"{_ATTENTION}.layer.dim_feedforward=128",
    f"{_ATTENTION}.layer.self_attention.embedding_dim={_WIDTH}",
    f"{_ATTENTION}.layer.self_attention.feat_sizes=[16,16]",
    f"{_ATTENTION}.layer.cross_attention.embedding_dim={_WIDTH}",
    f"{_ATTENTION}.layer.cross_attention.feat_sizes=[16,16]",
    f"++model.memory_encoder.fuser.layer.dim={_WIDTH}",
    f"+model.memory_encoder.in_dim={_WIDTH}",
    f"+model.memory_encoder.mask_downsampler.embed_dim={_WIDTH}",
)
