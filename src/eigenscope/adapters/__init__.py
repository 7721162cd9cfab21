"""LoRA adapters in PEFT's format: extracted from two checkpoints, inspected, resized, merged; without PEFT, offline."""
