"""Detectors at work. `OnnxDetector` needs numpy and onnxruntime alone."""

from kws.detector.onnx_runner import OnnxDetector

__all__ = ["OnnxDetector"]
