"""Train the language model: a small Qwen3 that talks about scenes, and that reads the prompts of the picture model."""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from samples.training.examples import talks
from samples.training.loop import Average, Budget, Curve, device, half, rate, set_rate
from samples.training.tokens import VOCABULARY

SHAPE = {
    "hidden_size": 192, "intermediate_size": 384, "num_hidden_layers": 8, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64,
}  # fmt: skip
SMALLEST = {
    "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32,
}  # fmt: skip


def new_model(ends: list[int], pad: int, shape: dict[str, int]) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=VOCABULARY, max_position_embeddings=2048, tie_word_embeddings=True, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, initializer_range=0.05,
        eos_token_id=ends[0], bos_token_id=None, pad_token_id=pad, attention_dropout=0.0, **shape,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    # Greedy: the sample answers a question the same way each time unless it is asked not to.
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=pad)
    return model


def train(
    folder: Path, budget: Budget, count: int, batch: int = 256, shape: dict[str, int] = SHAPE, seed: int = 0
) -> Curve:
    """Write text_encoder into `folder`, where the tokenizer is already."""
    file = folder / "tokenizer" / "tokenizer.json"
    ids = Tokenizer.from_file(str(file))
    pad, end = ids.token_to_id("<|endoftext|>"), ids.token_to_id("<|im_end|>")
    made = list(talks(count, file))
    tokens = torch.from_numpy(np.concatenate([part.tokens for part in made])).to(device())
    weights = torch.from_numpy(np.concatenate([part.weights for part in made])).to(device())
    torch.manual_seed(seed)
    model = new_model([end, pad], pad, shape).to(device())
    print(
        f"language: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M, {len(tokens)} conversations",
        flush=True,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.05)
    average, curve = Average(model), Curve("language")
    lengths = (weights > 0).sum(1)
    for step, done in budget.walk(curve):
        set_rate(optimizer, rate(done, step, 2e-3))
        chosen = torch.randint(len(tokens), (batch,), device=device())
        # Cut to a multiple of 32, so that little of a batch is padding.
        longest = -(-int(lengths[chosen].max()) // 32) * 32
        loss = _loss(model, tokens[chosen, :longest].long(), weights[chosen, :longest].float())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(step)
        curve.add(step, loss.detach())
    average.exchange()
    model.to(torch.float16).save_pretrained(folder / "text_encoder")
    return curve


def _loss(model: Qwen3ForCausalLM, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Padding stands behind the text, where no token that counts can see it: no mask is needed."""
    with half():
        logits = model(input_ids=tokens).logits
    said = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), tokens[:, 1:], reduction="none"
    )
    return (said * weights[:, 1:]).sum() / weights[:, 1:].sum()
