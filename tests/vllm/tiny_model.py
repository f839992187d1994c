"""Write a tiny language model of random weights into a folder, dense or of experts; runs in vLLM's environment."""

import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

CHAT = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


SIZES = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "head_dim": 32}


def write(folder: str, *, has_experts: bool) -> None:
    """Write weights, tokenizer and chat template; text is split into single bytes."""
    bytes_alone = Tokenizer(models.BPE())
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_alone.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bytes_alone.train_from_iterator(
        [], trainers.BpeTrainer(vocab_size=300, special_tokens=["<eos>"], initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_alone, eos_token="<eos>", pad_token="<eos>")
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    end = tokenizer.eos_token_id
    ids = {"vocab_size": len(tokenizer), "eos_token_id": end, "bos_token_id": end}
    if has_experts:
        Qwen3MoeForCausalLM(Qwen3MoeConfig(**ids, **SIZES, **EXPERTS)).save_pretrained(folder)
    else:
        Qwen2ForCausalLM(Qwen2Config(**ids, **SIZES)).save_pretrained(folder)


if __name__ == "__main__":
    write(sys.argv[1], has_experts="experts" in sys.argv[2:])
