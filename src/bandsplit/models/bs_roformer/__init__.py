"""BS-RoFormer and Mel-Band RoFormer: transformers with rotary embedding along frames and bands."""
