"""Files that single families have: `.dac`, `.ecdc`, pages of Ogg, NeMo's archives, FunCodec's YAML, S3Tokenizer's ONNX."""
