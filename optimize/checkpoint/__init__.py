"""Checkpoints, read from their files without loading them: size, hash, format, configuration, shapes of tensors."""

from optimize.checkpoint.files import (
    folder_on_disk,
    follow_revision,
    hub_commit,
    hub_name,
    is_hub_id,
    local_folder,
    model_config,
    snapshot_folder,
    tensor_bytes,
    tensors_of,
    weight_files,
)
from optimize.checkpoint.formats import own_answers, quantized_format, unreadable_format
from optimize.checkpoint.generation import defaults_in_words, sampling_defaults
from optimize.checkpoint.hashes import content_hash, file_states, hash_of_files, remember_hash

__all__ = [
    "content_hash", "defaults_in_words", "file_states", "folder_on_disk", "follow_revision", "hash_of_files",
    "hub_commit", "hub_name", "is_hub_id", "local_folder", "model_config", "own_answers", "quantized_format",
    "remember_hash", "sampling_defaults", "snapshot_folder", "tensor_bytes", "tensors_of", "unreadable_format",
    "weight_files",
]  # fmt: skip
