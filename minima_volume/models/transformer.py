"""A small GPT-style transformer for sequences of tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minima_volume.errors import ConfigError

INIT_STD = 0.02


class Transformer(nn.Module):
    """Pre-norm causal transformer that predicts the next token at every place; the output layer is the token embedding.

    Weights are N(0, 0.02^2), those that end a residual branch smaller by sqrt(2 num_layers), biases 0, as in GPT-2. No dropout.

    Args:
        input_shape: (tokens,) of one sample.
        num_outputs: number of different tokens.
        num_layers, num_heads, width: blocks, attention heads, and features of a token; the MLPs are four times as wide.
        bias: whether linear layers and layer normalisations have biases.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; Press and Wolf 2017 for tied embeddings.
    """

    class_axis = -1  # of the logits
    mask: Tensor

    def __init__(
        self,
        input_shape: Sequence[int],
        num_outputs: int,
        num_layers: int = 6,
        num_heads: int = 6,
        width: int = 384,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if len(input_shape) != 1:
            raise ConfigError(f"model transformer needs samples of shape (tokens,), got {tuple(input_shape)}")
        if width % num_heads:
            raise ConfigError(f"model transformer: width {width} must be a multiple of num_heads {num_heads}")
        (tokens,) = input_shape
        self.token_embedding = nn.Embedding(num_outputs, width)
        self.position_embedding = nn.Embedding(tokens, width)
        block = nn.TransformerEncoderLayer(
            width, num_heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, bias=bias
        )
        norm = nn.LayerNorm(width, bias=bias)
        self.blocks = nn.TransformerEncoder(block, num_layers, norm, enable_nested_tensor=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(tokens), persistent=False)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim > 1:
                last = name.endswith(("out_proj.weight", "linear2.weight"))
                nn.init.normal_(parameter, std=INIT_STD / math.sqrt(2 * num_layers) if last else INIT_STD)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (samples, tokens, num_outputs) of integer tokens (samples, tokens)."""
        if x.is_floating_point():
            raise ConfigError(
                f"model transformer needs integer tokens, got {x.dtype}; take a source of tokens, e.g. text"
            )
        count = x.shape[1]
        places = torch.arange(count, device=x.device)
        hidden = self.token_embedding(x) + self.position_embedding(places)
        hidden = self.blocks(hidden, mask=self.mask[:count, :count], is_causal=True)
        return F.linear(hidden, self.token_embedding.weight)
