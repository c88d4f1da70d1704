"""A codec's encoder and decoder as ONNX files, for engines that run without PyTorch."""
