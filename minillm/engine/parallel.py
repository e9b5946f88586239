"""One batch on several processes: its rows are cut, its gradients summed, the weights whole or sharded.

Two lines make a script for one process one for many, and `torchrun --nproc-per-node=2 script.py` starts it:

    device = parallel.start()                               # gloo on CPUs, nccl on CUDA cards
    model = parallel.shard(Transformer(config).to(device))  # without this line each process keeps all weights

Every process draws the same batch, and `train` takes its share of the rows; in one process all of this is the
identity. Nothing is cut inside a matrix or between layers (tensor, pipeline).
Sources: Rajbhandari et al. 2020 (ZeRO: who needs which part when); PyTorch's page on
torch.distributed.fsdp.fully_shard.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from ..expect import expect
from . import muon


def start(device: torch.device | str | None = None) -> torch.device:
    """Join the processes that torchrun started, and return this one's device: cuda:LOCAL_RANK if there is
    one, else the CPU."""
    if device is None:
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def rank() -> int:
    """This process's number, from 0. Process 0 writes and prints."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes share the work. ValueError where torchrun started several and nobody called
    `start`."""
    started = int(os.environ.get("WORLD_SIZE", 1))
    expect(dist.is_initialized() or started == 1, "WORLD_SIZE", started,
           "call minillm.engine.parallel.start() before the model is made")
    return dist.get_world_size() if dist.is_initialized() else 1


def shard(model: torch.nn.Module) -> torch.nn.Module:
    """Cut every weight by rows among the processes, in place: gathered block by block when needed, gradients
    summed into the shards.

    Weights, gradients and optimiser states then take 1/size of the memory (ZeRO's stage 3). `model.blocks`
    are gathered one at a time; what stands outside of them (the embedding) stays whole from `hidden` to the
    end of the backward pass.
    """
    if size() == 1:
        return model
    from torch.distributed.device_mesh import init_device_mesh  # here, since it takes a second
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
    alike(model)
    mesh = init_device_mesh(next(model.parameters()).device.type, (size(),))
    for part in (*model.blocks, model):
        fully_shard(part, mesh=mesh)
        part.set_gradient_divide_factor(1.0)  # a sum: the mean over pairs is in the surrogate
        part.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    register_fsdp_forward_method(model, "hidden")
    return model


def is_sharded(model: torch.nn.Module) -> bool:
    """True where `shard` has cut the weights."""
    return any(hasattr(p, "full_tensor") for p in model.parameters())


@contextmanager
def gathered(model: torch.nn.Module) -> Iterator[None]:
    """Within it a sharded model is whole in every process: to draw answers, to score, to save. Enter it in
    all processes alike."""
    parts = (*model.blocks, model) if is_sharded(model) else ()
    for part in parts:
        part.set_reshard_after_forward(False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(part is not model)
            part.reshard()


def full(tensor: Tensor) -> Tensor:
    """The whole of a tensor that is cut among the processes (all must ask); another tensor as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def cut_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, cut as `like` is, on its device."""
    if not hasattr(like, "full_tensor"):
        return tensor.to(like.device)
    from torch.distributed.tensor import distribute_tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def alike(model: torch.nn.Module) -> None:
    """Give all processes the weights of process 0."""
    if size() > 1 and not is_sharded(model):
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor.detach(), 0)


def pieces(B: int, count: int = 1) -> list[tuple[slice, bool]]:
    """This process's rows of a batch of B in `count` pieces, each (rows, counts). Alone and whole:
    [(slice(0, B), True)].

    Pieces differ by one row at most. Where B is too small for all, a piece is row 0 once more, which does not
    count: every process takes part in every exchange.
    """
    n = size() * count
    bounds = [B * i // n for i in range(n + 1)]
    mine = list(zip(bounds, bounds[1:]))[rank() * count:(rank() + 1) * count]
    return [(slice(a, b), True) if b > a else (slice(0, 1), False) for a, b in mine]


def add_up(*tensors: Tensor) -> None:
    """Sum each tensor over the processes, in place, in one exchange."""
    if size() > 1 and tensors:
        flat = torch.cat([t.flatten() for t in tensors])
        dist.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([t.numel() for t in tensors])):
            tensor.copy_(total.view_as(tensor))


def clip_gradients(model: torch.nn.Module, clip: float) -> Tensor:
    """Sum the gradients over the processes (sharded ones are summed already) and cut their norm to clip.
    Returns the norm before the cut. Alone it is torch.nn.utils.clip_grad_norm_."""
    if not is_sharded(model):
        add_up(*(p.grad for p in model.parameters() if p.grad is not None))
    return full(torch.nn.utils.clip_grad_norm_(model.parameters(), clip))


def agree(pressed: list[int], step: int, *tensors: Tensor | None) -> None:
    """Compare step and tensors (whole numbers only) over the processes; stop them all where one was told to.

    ValueError in every process if they differ; KeyboardInterrupt in every process if `pressed` is filled in
    one.
    """
    if size() == 1:
        if pressed:
            raise KeyboardInterrupt
        return
    values = [step]
    for t in tensors:
        if t is not None:
            weight = torch.arange(1, t.numel() + 1, device=t.device)
            values += [*t.shape, int((t.flatten().long() * (weight * 2654435761 % 2**31)).sum() % 2**31)]
    values = (values + [0] * 13)[:13]  # one length in all processes, whatever they drew
    device = f"cuda:{torch.cuda.current_device()}" if dist.get_backend() == "nccl" else "cpu"
    most = torch.tensor([len(pressed), *values, *(-v for v in values)], device=device)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    stop, *most = most.tolist()
    same = [a == -b for a, b in zip(most[:13], most[13:])]
    expect(same[0], "step", f"{step} here and another in another process",
           "give all processes one folder that they all see")
    expect(all(same), "draw", f"another batch in another process at step {step}",
           "draw from generators that are seeded by the step alone")
    if stop:
        raise KeyboardInterrupt


@contextmanager
def pressed_keys(patient: bool = False) -> Iterator[list[int]]:
    """Ctrl-C fills a list in place of raising, so that a run stops where nothing is lost, and many processes
    at one step (`agree`).

    Alone, and not patient, it raises as ever; patient, it raises when it is pressed a second time.
    """
    pressed: list[int] = []
    if (size() == 1 and not patient) or threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def press(number, frame) -> None:
        if pressed and size() == 1:
            raise KeyboardInterrupt
        pressed.append(number)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:  # after the last step: it is done and kept, and the program still ends
        raise KeyboardInterrupt


def muon_for(model: torch.nn.Module) -> type[torch.optim.Muon]:
    """Muon for many matrices at once, or for a sharded model the one below, which takes the same steps."""
    return Muon if is_sharded(model) else muon.Muon


class Muon(torch.optim.Muon):
    """Muon of sharded matrices. Momentum stays sharded; each direction is gathered, made orthogonal whole,
    and cut again.

    PyTorch's own step on the shards runs, but adds partial products in bfloat16, and so takes other steps
    than one process.
    """

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One step, as torch.optim.Muon takes it."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p.grad)
                momentum = state["momentum_buffer"].lerp_(p.grad, 1 - group["momentum"])
                grad = full(p.grad.lerp(momentum, group["momentum"]))
                # From 0, one step of Muon without momentum is −lr · orthogonal(grad).
                whole = torch.zeros_like(grad).requires_grad_()
                whole.grad = grad
                torch.optim.Muon([whole], lr=group["lr"], weight_decay=0.0, momentum=0.0).step()
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(cut_like(whole.detach(), p))
