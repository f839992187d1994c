"""Write LoRA adapters of random weights for the tiny model into folders, as peft does; runs in vLLM's environment."""

import json
import sys
from pathlib import Path

import torch  # type: ignore[import-not-found, unused-ignore]
from safetensors.torch import save_file  # type: ignore[import-not-found, unused-ignore]

RANK = 8
HIDDEN, KV_HIDDEN, LAYERS = 128, 64, 4
"""As tiny_model.py has them: the keys and values of 2 heads of 32 each."""
OUTPUTS = {"q_proj": HIDDEN, "v_proj": KV_HIDDEN}


def write(folder: Path, seed: int) -> None:
    """Write an adapter's two files: its matrices by the names of peft 0.19 (utils/save_and_load.py), and what it is."""
    torch.manual_seed(seed)
    weights = {}
    for layer in range(LAYERS):
        for name, outputs in OUTPUTS.items():
            place = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{place}.lora_A.weight"] = torch.randn(RANK, HIDDEN)
            weights[f"{place}.lora_B.weight"] = torch.randn(outputs, RANK)
    folder.mkdir(parents=True)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": list(OUTPUTS)}))


if __name__ == "__main__":
    for number, path in enumerate(sys.argv[1:]):
        write(Path(path), number)
