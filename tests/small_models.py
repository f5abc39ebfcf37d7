"""Small sizes of the built-in architectures: options, the shape of a sample, and outputs."""

SMALL = {
    "resnet18": ({}, (3, 8, 8), 10),
    "vit": ({"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 24}, (1, 8, 8), 10),
    "transformer": ({"num_layers": 2, "num_heads": 2, "width": 16}, (12,), 9),
}
