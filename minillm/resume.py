"""What a run needs to go on as if it had not been stopped: weights, optimisers, random generators, metrics, in one file, written whole.

Left out: several checkpoints of one run, and what a `draw` remembers by itself (seed it by the step). A file is written in a folder
of its own, flushed to the disk and renamed, so whenever a process is killed the old file or the new one stands, never half of one.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from . import parallel
from .expect import expect


def generators(device: torch.device) -> dict[str, Tensor]:
    """The state of every random generator that is global: torch's, the device's, and Python's as numbers. Not NumPy's."""
    version, numbers, gauss = random.getstate()
    found = {"torch": torch.get_rng_state(), "python": torch.tensor([version, *numbers]),
             "gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64)}
    return found if device.type == "cpu" else found | {device.type: torch.get_device_module(device).get_rng_state()}


def _restore(generators: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(generators["torch"])
    version, *numbers = generators["python"].tolist()
    random.setstate((version, tuple(numbers), *(generators["gauss"].tolist() or [None])))
    if device.type in generators:
        torch.get_device_module(device).set_rng_state(generators[device.type])


def tensors_of(model) -> dict[str, Tensor]:
    """Weights, frozen ones too, and the buffers that belong to the model's state."""
    named = dict([*model.named_parameters(), *model.named_buffers()])
    return {name: named[name] for name in model.state_dict() if name in named}


def write(path: Path, fill: Callable[[Path], object]) -> None:
    """fill(new) in a folder of its own, flush it to the disk, rename: a kill or a power cut leaves the old file or the new one, whole."""
    beside = path.parent / "unfinished"
    shutil.rmtree(beside, ignore_errors=True)  # what a killed process left
    try:
        beside.mkdir(parents=True, exist_ok=True)
        fill(beside / path.name)
        with open(beside / path.name, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside / path.name, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    if os.name == "posix":  # the rename, too
        handle = os.open(path.parent, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def write_metrics(folder: Path, rows: list[dict]) -> None:
    """metrics.jsonl: one JSON object a line, one line a step."""
    write(folder / "metrics.jsonl", lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"))


def save(folder: Path, model, optimizers: list[torch.optim.Optimizer], settings, rows: list[dict], random_state: dict[str, Tensor]) -> None:
    """Weights, optimisers, `generators` and the metrics so far to state.safetensors, then the metrics alone to metrics.jsonl.

    Process 0 writes; where weights are sharded the others hand over their parts, so the file is the same for any number of
    processes. settings: a dataclass, kept to refuse another run's state. OSError, with what is needed, where the disk does not take it.
    """
    tensors = {f"model.{name}": t for name, t in tensors_of(model).items()} | {f"generator.{name}": t for name, t in random_state.items()}
    for o, optimizer in enumerate(optimizers):
        for i, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{o}.{i}.{key}": value for key, value in state.items()}
    first = parallel.rank() == 0
    for name, tensor in tensors.items():
        tensor = parallel.full(tensor.detach())
        tensors[name] = tensor.cpu().contiguous() if first else tensor.new_empty(0)
    if not first:
        return
    metadata = {"steps": str(len(rows)), "settings": json.dumps(asdict(settings)), "metrics": json.dumps(rows)}
    try:
        write(folder / "state.safetensors", lambda path: save_file(tensors, path, metadata))
        write_metrics(folder, rows)
    except (OSError, SafetensorError) as error:
        size = sum(t.nbytes for t in tensors.values()) / 1e6
        stands = "its last checkpoint stands" if (folder / "state.safetensors").exists() else "it holds no checkpoint yet"
        raise OSError(f"{folder} did not take the checkpoint after step {len(rows)} ({error}); {stands}. Make room for {size:.1f} MB "
                      "and run the same command again, or name another folder") from None


def load(folder: Path, model, optimizers: list[torch.optim.Optimizer], settings) -> list[dict]:
    """Load what `save` kept and return its metrics; [] in a fresh folder. ValueError for another run's or a damaged state.

    OSError for a folder that cannot be written: metrics.jsonl is written again here, before any step is taken.
    """
    path, rows = folder / "state.safetensors", []
    if os.path.exists(path):
        rows = _read(path, model, optimizers, settings)
    if parallel.rank() == 0:
        try:
            write_metrics(folder, rows)
        except OSError as error:
            raise OSError(f"{folder} cannot be written ({error}): name a folder of your own, on a disk with room") from None
    return rows


def _read(path: Path, model, optimizers: list[torch.optim.Optimizer], settings) -> list[dict]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        kept, rows = json.loads(metadata["settings"]), json.loads(metadata["metrics"])
        random_state = {name: tensors[f"generator.{name}"] for name in ("torch", "python", "gauss")}
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): delete it to begin again") from None
    except KeyError as error:
        raise ValueError(f"{path} has no {error}, so it is not a state of `train`: name a new folder, or delete it") from None
    expect(kept == asdict(settings), "folder", str(path.parent),
           "it keeps a run with other settings: name a new folder, or delete this one")
    own = {f"model.{name}": t for name, t in tensors_of(model).items()}
    expect({name: tuple(t.shape) for name, t in own.items()} ==
           {key: tuple(t.shape) for key, t in tensors.items() if key.startswith("model.")}, "folder", str(path.parent),
           "it keeps a run of a model of another shape: name a new folder, or delete this one")
    with torch.no_grad():
        for name, t in own.items():
            t.copy_(parallel.cut_like(tensors[name], t))
    for o, optimizer in enumerate(optimizers):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        state: dict = {}
        for key, value in tensors.items():
            parts = key.split(".", 3)
            if parts[0] == "optimizer" and int(parts[1]) == o:
                p, value = parameters[int(parts[2])], value.clone()  # what was read is the file's own memory
                state.setdefault(int(parts[2]), {})[parts[3]] = parallel.cut_like(value, p) if value.shape == p.shape else value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    _restore({key.split(".", 1)[1]: t for key, t in tensors.items() if key.startswith("generator.")}, next(model.parameters()).device)
    return rows
