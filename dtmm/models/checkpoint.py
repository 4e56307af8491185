"""Float checkpoints: a safetensors file of the module's state, with how it was made."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from dtmm.errors import ArtifactError


def shipped_checkpoint(model: str, dataset: str) -> Path:
    """Where this package keeps the checkpoint of a model trained on a dataset, if it ships one."""
    return Path(__file__).parent / "checkpoints" / f"{model}_{dataset}.safetensors"


def save_checkpoint(path: Path, module: nn.Module, metadata: Mapping[str, str]) -> None:
    """Write the module's state atomically; floats are stored in half precision.

    A tensor that half precision cannot hold (a variance above 65504) keeps its own type.

    Args:
        metadata: text to text: model, dataset, accuracy, command, seed, ...

    Raises:
        ArtifactError: the file cannot be written.
    """
    state = {key: _compact(value).contiguous() for key, value in module.state_dict().items()}
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(state, temporary, dict(metadata))
        temporary.chmod(0o644)  # save_file makes it private
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"cannot write checkpoint {path}: {error}") from None
    finally:
        with suppress(OSError):  # it may be gone, or its folder may be a file
            temporary.unlink()


def load_checkpoint(path: Path, module: nn.Module) -> dict[str, str]:
    """Read a checkpoint into `module` and return its metadata.

    Raises:
        ArtifactError: the file is missing, no safetensors file, or holds another model.
    """
    if not path.is_file():
        raise ArtifactError(f"checkpoint {path} does not exist")
    try:
        with safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} is not a safetensors checkpoint: {error}") from None
    expected = module.state_dict()
    for key in sorted(expected.keys() | state.keys()):
        stored = _describe(state.get(key))
        wanted = _describe(expected.get(key))
        if stored != wanted:
            raise ArtifactError(
                f"checkpoint {path} (model {metadata.get('model', 'unknown')}) is of "
                f"another model: {key} is {stored}, expected {wanted}"
            )
    module.load_state_dict({key: value.to(expected[key].dtype) for key, value in state.items()})
    return metadata


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if bool(half.isfinite().all()) else tensor


def _describe(tensor: torch.Tensor | None) -> str:
    return "absent" if tensor is None else f"of shape {list(tensor.shape)}"
