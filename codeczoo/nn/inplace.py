"""Whether a block may write into a tensor.

Blocks write over what they no longer need, because memory that is not fetched is most of what speed there is. Where
PyTorch records for gradients, some of it is needed once more, and such a block makes new tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor


def overwritable(*tensors: Tensor) -> bool:
    """Whether none of the tensors is recorded for gradients."""
    return not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))
