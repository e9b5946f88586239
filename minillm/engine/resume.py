"""What a run needs to go on as if it had not been stopped: weights, optimisers, generators, metrics.

Left out: several checkpoints of one run, and what a `draw` remembers by itself (seed it by the step). A file
is written in a folder of its own, flushed to the disk and renamed, so whenever a process is killed the old
file or the new one stands, never half of one. What is read is compared whole, by a checksum too, before
anything of it is copied; what is there already and was not written here is refused, and left as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import stat
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from . import parallel
from ..expect import expect

STATE, METRICS = "state.safetensors", "metrics.jsonl"
UNFINISHED = ".minillm-unfinished"  # a folder beside the file that is written
MARK = "written-by-minillm"  # an empty file in it: a folder without it is somebody else's
# What an optimiser keeps of each weight that had a gradient.
KEPT = {"AdamW": ("step", "exp_avg", "exp_avg_sq"), "Muon": ("momentum_buffer",)}
ROW = 1_000  # bytes of a step's metrics, in both files, generously


def generators(device: torch.device) -> dict[str, Tensor]:
    """The state of every global generator: torch's, the device's, Python's as numbers. Not NumPy's."""
    version, numbers, gauss = random.getstate()
    found = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor([version, *numbers]),
        "gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
    }
    return (
        found
        if device.type == "cpu"
        else found | {device.type: torch.get_device_module(device).get_rng_state()}
    )


def _pythons(generators: dict[str, Tensor]) -> tuple:
    """The state of Python's generator, as random.setstate takes it."""
    version, *numbers = generators["python"].tolist()
    return version, tuple(numbers), *(generators["gauss"].tolist() or [None])


def _restore(generators: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(generators["torch"])
    random.setstate(_pythons(generators))
    if device.type in generators:
        torch.get_device_module(device).set_rng_state(generators[device.type])


def tensors_of(model) -> dict[str, Tensor]:
    """Weights, frozen ones too, and the buffers that belong to the model's state."""
    named = dict([*model.named_parameters(), *model.named_buffers()])
    return {name: named[name] for name in model.state_dict() if name in named}


def write(path: Path, fill: Callable[[Path], object]) -> None:
    """fill(new) in a folder of its own, flush it, rename: a kill leaves the old file or the new one.

    ValueError where that folder's name is taken by something that this function did not make.
    """
    beside = path.parent / UNFINISHED
    _clear(beside)  # what a killed process left
    try:
        beside.mkdir(parents=True)
        (beside / MARK).touch()
        fill(beside / path.name)
        with open(beside / path.name, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside / path.name, path)
    finally:
        _clear(beside)
    if os.name == "posix":  # the rename, too
        handle = os.open(path.parent, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def _clear(beside: Path) -> None:
    """Delete the folder of `write`, its mark last: what a kill leaves of it is still known as ours."""
    if not os.path.lexists(beside):
        return
    files = list(beside.iterdir()) if beside.is_dir() and not beside.is_symlink() else None
    ours = files == []  # a kill before the mark was made
    if files and beside / MARK in files:
        ours = all(stat.S_ISREG(file.lstat().st_mode) for file in files)
    expect(
        ours, str(beside), "there, and not of this package's making", "move it away, or name another folder"
    )
    for file in sorted(files, key=lambda file: file.name == MARK):
        file.unlink()
    beside.rmdir()


def _lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_metrics(folder: Path, rows: list[dict]) -> None:
    """metrics.jsonl: one JSON object a line, one line a step."""
    write(folder / METRICS, lambda path: path.write_text(_lines(rows), encoding="utf-8"))


def _expect_own_metrics(folder: Path, rows: list[dict]) -> None:
    """ValueError for a metrics.jsonl that is not the beginning of this run's: it would be written over."""
    path, own = folder / METRICS, _lines(rows).encode()
    if not os.path.lexists(path):
        return
    kind = os.stat(path) if os.path.exists(path) else None
    regular = kind is not None and stat.S_ISREG(kind.st_mode)
    expect(
        regular and kind.st_size <= len(own) and own.startswith(path.read_bytes()),
        str(path),
        f"not of the {len(rows)} steps that {STATE} holds"
        if rows
        else f"there, and no {STATE} that goes with it",
        "move or delete it, or name a new folder",
    )


def expect_room(folder: Path, needed: int, what: str) -> None:
    """Raise OSError unless the disk of a folder, which need not be there, has room for so many bytes more."""
    there = next((above for above in (folder, *folder.absolute().parents) if above.exists()), folder)
    free = shutil.disk_usage(there).free
    if free < needed:
        raise OSError(
            f"{folder} has room for {free / 1e6:.1f} MB and {what} takes {needed / 1e6:.1f} MB: make room, "
            "or name a folder on another disk"
        )


def _bytes(model, optimizers: list[torch.optim.Optimizer], steps: int) -> int:
    """How large a state will be, at most."""
    size = sum(t.numel() * t.element_size() for t in tensors_of(model).values())
    for optimizer in optimizers:
        copies = len([key for key in KEPT[type(optimizer).__name__] if key != "step"])
        size += copies * sum(p.numel() * p.element_size() for p in _parameters(optimizer))
    return size + ROW * steps + 100_000  # the generators, and the names


def checksum(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 of every name, shape, dtype and byte of a state and of all that is written about it."""
    digest = hashlib.sha256()
    for key in sorted(metadata.keys() - {"checksum"}):
        digest.update(json.dumps([key, metadata[key]]).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _trained(model, optimizers: list[torch.optim.Optimizer]) -> list:
    """[[an optimiser's class, the names of its weights], …]: what the numbers in a state's names count."""
    names = {id(p): name for name, p in model.named_parameters()}
    return [
        [type(optimizer).__name__, [names[id(p)] for p in _parameters(optimizer)]] for optimizer in optimizers
    ]


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """In the order in which its state_dict counts them."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def save(
    folder: Path,
    model,
    optimizers: list[torch.optim.Optimizer],
    settings,
    rows: list[dict],
    random_state: dict[str, Tensor],
) -> None:
    """All that a run needs to state.safetensors, then its metrics alone to metrics.jsonl.

    Process 0 writes; where weights are sharded the others hand over their parts, so the file is the same for
    any number of processes. settings: a dataclass, kept to refuse another run's state. OSError, with what is
    needed, where the disk does not take it.
    """
    tensors = {f"model.{name}": t for name, t in tensors_of(model).items()}
    tensors |= {f"generator.{name}": t for name, t in random_state.items()}
    for o, optimizer in enumerate(optimizers):
        for i, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{o}.{i}.{key}": value for key, value in state.items()}
    first = parallel.rank() == 0
    for name, tensor in tensors.items():
        tensor = parallel.full(tensor.detach())
        tensors[name] = tensor.cpu().contiguous() if first else tensor.new_empty(0)
    if not first:
        return
    metadata = {
        "steps": str(len(rows)),
        "metrics": json.dumps(rows),
        "settings": json.dumps(asdict(settings)),
        "optimizers": json.dumps(_trained(model, optimizers)),
    }
    metadata["checksum"] = checksum(tensors, metadata)
    try:
        write(folder / STATE, lambda path: save_file(tensors, path, metadata))
        write_metrics(folder, rows)
    except (OSError, SafetensorError) as error:
        size = sum(t.nbytes for t in tensors.values()) / 1e6
        stands = "its last checkpoint stands" if (folder / STATE).exists() else "it holds no checkpoint yet"
        raise OSError(
            f"{folder} did not take the checkpoint after step {len(rows)} ({error}); {stands}. Make room for "
            f"{size:.1f} MB and run the same command again, or name another folder"
        ) from None


def load(folder: Path, model, optimizers: list[torch.optim.Optimizer], settings) -> list[dict]:
    """Load what `save` kept and return its metrics; [] in a fresh folder.

    ValueError for another run's or a damaged state, and for what stands in the place of these two files and
    is not of this run: model, optimisers, generators and files are then as they were. OSError for a folder
    that cannot be written, or has no room for a checkpoint: metrics.jsonl is written again here, before any
    step is taken.
    """
    path, rows = folder / STATE, []
    there = os.path.lexists(path)
    if there:
        tensors, metadata = _read(path, 10 * _bytes(model, optimizers, settings.steps))
        rows, states, random_state = _expect_own(path, tensors, metadata, model, optimizers, settings)
    if parallel.rank() == 0:
        _expect_own_metrics(folder, rows)
        if len(rows) < settings.steps:
            expect_room(folder, _bytes(model, optimizers, settings.steps), "a checkpoint")
        try:
            write_metrics(folder, rows)
        except OSError as error:
            raise OSError(
                f"{folder} cannot be written ({error}): name a folder of your own, on a disk with room"
            ) from None
    if there:
        with torch.no_grad():
            for name, t in tensors_of(model).items():
                t.copy_(parallel.cut_like(tensors[f"model.{name}"], t))
        for optimizer, state in zip(optimizers, states):
            optimizer.load_state_dict(
                {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
            )
        _restore(random_state, next(model.parameters()).device)
    return rows


def _read(path: Path, most: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All that a state of at most so many bytes holds. ValueError for what is not whole, or no state."""
    remedy = f"delete it and {METRICS} to begin again, or name a new folder"
    try:
        kind = os.stat(path)  # opening a pipe would wait for its other end
        expect(stat.S_ISREG(kind.st_mode), str(path), "a folder, a pipe or a device", remedy)
        expect(
            kind.st_size <= most,
            str(path),
            f"{kind.st_size / 1e6:.0f} MB, more than ten of this run's states",
            remedy,
        )
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            keys = ("checksum", "metrics", "optimizers", "settings", "steps")
            lacking = [key for key in keys if key not in metadata]
            expect(not lacking, str(path), f"without {', '.join(lacking)}, so no state of `train`", remedy)
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}): {remedy}") from None
    expect(
        metadata["checksum"] == checksum(tensors, metadata),
        str(path),
        "damaged: its checksum is not that of what it holds",
        remedy,
    )
    return tensors, metadata


def _expect_own(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str], model, optimizers: list, settings
) -> tuple[list[dict], list[dict], dict[str, Tensor]]:
    """(metrics, optimisers' states, generators' states) of a state that is this run's in every name."""
    remedy, device = "name a new folder, or delete this one", next(model.parameters()).device
    try:
        kept, trained, rows = (json.loads(metadata[key]) for key in ("settings", "optimizers", "metrics"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not as `save` writes it ({error}): delete it to begin again") from None
    expect(kept == asdict(settings), "folder", path.parent, f"it keeps a run with other settings: {remedy}")
    expect(
        isinstance(rows, list) and str(len(rows)) == metadata["steps"],
        f"{path}: metrics",
        f"not the {metadata['steps']} rows that it tells of",
        remedy,
    )
    for i, row in enumerate(rows):
        numbers = [row.get(key) for key in ("tokens", "seconds")] if isinstance(row, dict) else [None]
        counted = all(type(number) in (int, float) for number in numbers)
        expect(counted, f"{path}: metrics[{i}]", "no row of tokens and seconds", remedy)

    own = {f"model.{name}": t for name, t in tensors_of(model).items()}
    theirs = {name: t for name, t in tensors.items() if name.startswith("model.")}
    shapes = [{name: tuple(t.shape) for name, t in some.items()} for some in (own, theirs)]
    expect(
        shapes[0] == shapes[1], "folder", path.parent, f"it keeps a run of a model of another shape: {remedy}"
    )
    expect(
        trained == _trained(model, optimizers),
        "folder",
        path.parent,
        f"it keeps a run that trains other weights: {remedy}",
    )
    wanted = {name: [(tuple(t.shape), t.dtype)] for name, t in own.items()}
    wanted |= {f"generator.{name}": [(tuple(t.shape), t.dtype)] for name, t in generators(device).items()}
    wanted["generator.gauss"] = [((0,), torch.float64), ((1,), torch.float64)]
    wanted |= _optimizers_form(optimizers, {name.rsplit(".", 1)[0] for name in tensors})
    here = f"generator.{device.type}"  # a run may go on on another device
    lacking = [name for name in wanted if name not in tensors and name != here]
    strange = [name for name in tensors if name not in wanted and not re.fullmatch(r"generator\.\w+", name)]
    expect(not lacking, str(path), f"without {lacking[:1]}", remedy)
    expect(not strange, str(path), f"with {strange[:1]}, for which this run has no place", remedy)
    weights = {f"model.{name}" for name, _ in model.named_parameters()}
    for name, tensor in tensors.items():
        form = (tuple(tensor.shape), tensor.dtype)
        shape, dtype = wanted.get(name, [form])[0]
        expect(
            form in wanted.get(name, [form]),
            f"{path}: {name}",
            f"of shape {form[0]} and {form[1]}",
            f"this run's is of shape {shape} and {dtype}: {remedy}",
        )
        learned = tensor.is_floating_point() and (name in weights or name.startswith("optimizer."))
        finite = not learned or bool(tensor.isfinite().all())
        expect(finite, f"{path}: {name}", "not made of finite numbers", remedy)

    random_state = {name.split(".", 1)[1]: t for name, t in tensors.items() if name.startswith("generator.")}
    try:  # on generators that nobody uses
        random.Random().setstate(_pythons(random_state))
        for name in {"torch", device.type} & random_state.keys():
            torch.Generator("cpu" if name == "torch" else device).set_state(random_state[name])
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} holds no generators' states ({error}): {remedy}") from None
    return rows, [_state_of(o, optimizer, tensors) for o, optimizer in enumerate(optimizers)], random_state


def _optimizers_form(optimizers: list[torch.optim.Optimizer], there: set[str]) -> dict[str, list[tuple]]:
    """Shape and dtype of each optimiser's tensors: all of a weight's, or none: it had no gradient."""
    scalar = torch.promote_types(torch.get_default_dtype(), torch.float32)
    form = {}
    for o, optimizer in enumerate(optimizers):
        for i, p in enumerate(_parameters(optimizer)):
            for key in KEPT[type(optimizer).__name__] if f"optimizer.{o}.{i}" in there else ():
                form[f"optimizer.{o}.{i}.{key}"] = [
                    ((), scalar) if key == "step" else (tuple(p.shape), p.dtype)
                ]
    return form


def _state_of(o: int, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> dict[int, dict]:
    """What `load_state_dict` of optimiser o takes, each tensor cut as its weight is."""
    state: dict[int, dict[str, Tensor]] = {}
    for i, p in enumerate(_parameters(optimizer)):
        for key in KEPT[type(optimizer).__name__]:
            value = tensors.get(f"optimizer.{o}.{i}.{key}")
            if value is not None:
                value = value.clone()  # what was read is the file's own memory
                mine = parallel.cut_like(value, p) if value.shape == p.shape else value
                state.setdefault(i, {})[key] = mine
    return state
