"""Models that `transformers` makes, with parameters that show mistakes."""

import pytest


@pytest.fixture(scope='session')
def perturb():
  """Returns a function that gives a torch model random parameters."""
  import torch

  torch.set_num_threads(1)

  def apply(model, seed=0, scale=0.3):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
      random = torch.randn(parameter.shape, generator=generator)
      # Norms are not 1, so that one in another's place is seen.
      centre = 1.0 if parameter.ndim == 1 and 'bias' not in name else 0.0
      parameter.data = centre + scale * random
    return model.eval()

  return apply
