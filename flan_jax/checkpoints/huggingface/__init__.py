"""Hugging Face's checkpoints: safetensors, config.json, a tokenizer's files."""
