"""Files in safetensors, and what is refused in their place."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from safetensors.torch import save

from leray.errors import LerayError
from leray.runs.tensors import check_tensors, open_tensors

WHOLE = save({"weight": torch.arange(6.0).reshape(2, 3)})


class Trap:
    """Runs a command where it is unpickled."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_whole_file_is_read(tmp_path):
    """Oracle: what was written."""
    (tmp_path / "file").write_bytes(WHOLE)
    check_tensors(tmp_path / "file")
    with open_tensors(tmp_path / "file") as file:
        assert file.get_tensor("weight").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_pickle_is_named_and_never_loaded(tmp_path):
    """Golden run: of Python's own kinds and of torch's; what it would run does not run."""
    trap, path = str(tmp_path / "sprung"), tmp_path / "model.safetensors"
    torch.save({"weight": Trap(trap)}, path)
    contents = [path.read_bytes(), *(pickle.dumps(Trap(trap), protocol=k) for k in (2, 4, 5))]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(LerayError, match=r"begins as a pickle does, .* never loaded") as error:
            check_tensors(path)
        assert "\n" not in str(error.value)
    assert not os.path.exists(trap)
    pickle.loads(contents[-1])
    assert os.path.exists(trap), "the trap works"


@pytest.mark.parametrize("content", [b"", b"text", b"(dp0\n.", WHOLE[:20], WHOLE[:-1]])
def test_what_is_no_whole_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(LerayError, match="is no whole safetensors file") as error:
        check_tensors(path)
    assert "\n" not in str(error.value)
    with pytest.raises(LerayError, match="cannot read"):
        check_tensors(tmp_path)
    with pytest.raises(FileNotFoundError):
        check_tensors(tmp_path / "none")
