"""A small convolutional autoencoder, and its training on images.

Encoder: two convolutions of stride 2, with w and 2w channels, and two linear layers; the decoder
mirrors it. ReLU between them. Images are centred at their mean and divided by their standard
deviation, two numbers for each training set. Encoder and decoder are continuous, as S31 requires.
"""

from __future__ import annotations

import torch
from torch import nn

from paper_checks.approximation.rasteriser import SIZE

SMALL = SIZE // 4  # side of the smallest feature map
RATE, BATCH = 5e-3, 64


class AutoEncoder(nn.Module):
    """Images (B, SIZE, SIZE) to codes (B, L) and back."""

    def __init__(self, images: torch.Tensor, latent: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", images.mean(0))
        self.register_buffer("scale", (images - images.mean(0)).square().mean().sqrt())
        features = 2 * width * SMALL**2
        hidden = 8 * width
        self.encoder = nn.Sequential(
            nn.Unflatten(1, (1, SIZE)),
            nn.Conv2d(1, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.ReLU(),
            nn.Linear(hidden, features),
            nn.ReLU(),
            nn.Unflatten(1, (2 * width, SMALL, SMALL)),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
            nn.Flatten(1, 2),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The reconstructions."""
        return self.mean + self.scale * self.decoder(self.codes(images))

    def codes(self, images: torch.Tensor) -> torch.Tensor:
        """The codes (B, L)."""
        return self.encoder((images - self.mean) / self.scale)


def train(images: torch.Tensor, latent: int, width: int, updates: int, seed: int) -> AutoEncoder:
    """An autoencoder after Adam on the mean squared error, with a rate that falls to 0 (cosine)."""
    images = images.float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoEncoder(images, latent, width)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    for _ in range(updates):
        batch = images[torch.randint(len(images), (BATCH,), generator=generator)]
        loss = ((model(batch) - batch) / model.scale).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.eval().requires_grad_(False)
