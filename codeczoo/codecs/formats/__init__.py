"""Files that single families have: `.dac`, `.ecdc`, pages of Ogg, NeMo's archives, FunCodec's YAML, ONNX."""
