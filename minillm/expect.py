"""Argument checks: an error names the argument, its value and the remedy. Nothing is mended in silence."""

from __future__ import annotations

import math

import torch

KINDS = {
    "float": lambda t: t.is_floating_point(),
    "integer": lambda t: t.dtype in (torch.int64, torch.int32),
    "bool": lambda t: t.dtype == torch.bool,
}
KINDS["finite"] = KINDS["float"]  # and none of its numbers is NaN or infinite


def expect(ok: bool, argument: str, value, remedy: str) -> None:
    """Raise ValueError("argument is value: remedy") unless ok."""
    if not ok:
        raise ValueError(f"{argument} is {value}: {remedy}")


def expect_tensor(argument: str, tensor, shape: str, kind: str, **sizes: int) -> None:
    """Hold a tensor to a shape in letters ("B T") and a kind; `sizes` fixes letters: B=4.

    Raises ValueError for a wrong type, rank, kind or size, and for an empty tensor.
    """
    letters = shape.split()
    wanted = "(" + ", ".join(letters) + ")"
    expect(isinstance(tensor, torch.Tensor), argument, type(tensor).__name__,
           f"give a torch tensor of shape {wanted}")
    expect(tensor.ndim == len(letters), argument, f"of shape {tuple(tensor.shape)}", f"give shape {wanted}")
    wanted = "float" if kind == "finite" else kind
    expect(KINDS[kind](tensor), argument, f"of dtype {tensor.dtype}", f"give a {wanted} tensor")
    expect(tensor.numel() > 0, argument, f"empty, of shape {tuple(tensor.shape)}",
           "give at least one row and one token")
    for letter, size in zip(letters, tensor.shape):
        if letter in sizes:
            expect(size == sizes[letter], argument, f"of shape {tuple(tensor.shape)}",
                   f"its {letter} must be {sizes[letter]}, as in the other arguments")
    if kind == "finite":
        expect_finite(argument, tensor.detach())


def expect_finite(argument: str, tensor: torch.Tensor, inside: torch.Tensor | None = None) -> None:
    """Raise ValueError where a value is NaN or infinite, naming the first place.

    inside: a mask (B, T) of where to look in (B, T) or (B, T, V); everywhere by default.
    """
    bad = ~torch.isfinite(tensor)
    if inside is not None:
        bad &= inside if tensor.ndim == 2 else inside[..., None]
    if bad.any():
        place = tuple(bad.nonzero()[0].tolist())
        remedy = "find what made it non-finite before you use it"
        raise ValueError(f"{argument}{list(place)} is {tensor[place].item()}: {remedy}")


def expect_numbers(argument: str, tensor: torch.Tensor) -> None:
    """Raise ValueError where a value is NaN, naming the first place. −inf, the log of 0, may stand."""
    expect_finite(argument, tensor.where(~tensor.isinf(), 0.0))


def expect_some_response(response_mask: torch.Tensor) -> None:
    """Raise ValueError for a row in which no token is True: it would count in the mean and teach nothing."""
    empty = (~response_mask.any(dim=1)).nonzero().flatten()
    if len(empty):
        remedy = "drop rows that hold no response token"
        raise ValueError(f"response_mask[{empty[0].item()}] is False everywhere: {remedy}")


def expect_aligned(response_mask: torch.Tensor, **tensors: torch.Tensor) -> tuple[int, int]:
    """Hold named float tensors to the shape (B, T) of response_mask, which must have a True in each row;
    returns B and T."""
    expect_tensor("response_mask", response_mask, "B T", "bool")
    expect_some_response(response_mask)
    B, T = response_mask.shape
    for name, tensor in tensors.items():
        expect_tensor(name, tensor, "B T", "float", B=B, T=T)
    return B, T


def expect_whole(low: int, below: float = math.inf, **values: int) -> None:
    """Hold arguments to whole numbers from `low`, and below another number: expect_whole(1, rows=rows)."""
    for name, value in values.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        remedy = f"give a whole number from {low}" + (f" to {below - 1}" if below < math.inf else "")
        expect(whole and low <= value < below, name, value, remedy)


def expect_positive(**values: float) -> None:
    """Hold arguments to numbers above 0: expect_positive(beta=beta). Infinity may stand."""
    for name, value in values.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        expect(number and value > 0, name, value, "give a positive number")


def expect_ids(name: str, ids: torch.Tensor, vocab_size: int) -> None:
    """Hold token ids to those of a vocabulary."""
    low, high = int(ids.min()), int(ids.max())
    expect(low >= 0 and high < vocab_size, name, f"from {low} to {high}",
           f"ids run from 0 to {vocab_size - 1}")


def expect_groups(rewards: torch.Tensor, group: torch.Tensor, least: int = 1) -> None:
    """One finite reward an answer, (B,), and its prompt's number, (B,): so many answers to each prompt."""
    expect_tensor("rewards", rewards, "B", "finite")
    expect_tensor("group", group, "B", "integer", B=len(rewards))
    prompts, count = group.unique(return_counts=True)
    few = prompts[count < least].tolist()[:3]
    expect(not few, "group", f"{few}, with one answer each", f"draw at least {least} answers to each prompt")


def expect_halves(name: str, rows: torch.Tensor, what: str = "the chosen answers, then the rejected") -> None:
    """Hold rows to an even number: two halves of one length."""
    expect(len(rows) % 2 == 0, name, f"of {len(rows)} rows", f"give {what}")


def expect_settings(logits: torch.Tensor, temperature: float, top_k: int | None, top_p: float | None) -> None:
    """What `logprob.warp` takes."""
    expect(temperature >= 0, "temperature", temperature, "give 0 (greedy) or more")
    whole = top_k is None or isinstance(top_k, int) and top_k >= 1
    expect(whole, "top_k", top_k, "give 1 or more, or None for all")
    expect(top_p is None or 0 < top_p <= 1, "top_p", top_p, "give a share in (0, 1], or None for all")
    known = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    floats = isinstance(logits, torch.Tensor) and logits.is_floating_point() and logits.numel() > 0
    expect(floats, "logits", known, "give a float tensor (..., V)")


def expect_prompts(prompts, max_new_tokens: int, context: int) -> None:
    """Lists of ids, none of them empty, with room in the context for what is written behind the longest."""
    expect(len(prompts) > 0, "prompts", "empty", "give at least one prompt")
    expect_whole(1, max_new_tokens=max_new_tokens)
    for i, prompt in enumerate(prompts):
        expect(hasattr(prompt, "__len__"), f"prompts[{i}]", prompt, "give a list of ids")
        expect(len(prompt) > 0, f"prompts[{i}]", "empty",
               "begin it with a special token, such as END or USER")
    longest = max(map(len, prompts))
    remedy = f"the longest prompt has {longest} tokens and the context is {context}: ask for at most"
    fits = longest + max_new_tokens <= context
    expect(fits, "max_new_tokens", max_new_tokens, f"{remedy} {context - longest}")


def expect_conversations(conversations, argument: str) -> None:
    """Lists of (prompt, response), each of them a list of ids that is not empty."""
    expect(len(conversations) > 0, argument, "empty", "give at least one")
    for i, turns in enumerate(conversations):
        place = f"{argument}[{i}]"
        expect(len(turns) > 0, place, "empty", "give at least one (prompt, response)")
        for prompt, response in turns:
            lists = hasattr(prompt, "__len__") and hasattr(response, "__len__")
            expect(lists, place, (prompt, response), "give two lists of ids")
            expect(len(prompt) > 0, place, "without a prompt",
                   "begin it with a special token, such as END or USER")
            expect(len(response) > 0, place, "without a response", "give at least the end token")


def expect_terms(coefficient, logprobs, response_mask, divide_by) -> None:
    """What `identity.surrogate` multiplies: shapes that go together, numbers, and an F without gradient."""
    expect_tensor("response_mask", response_mask, "B T", "bool")
    expect_some_response(response_mask)
    sizes = dict(zip("BT", response_mask.shape))
    for name, tensor in (("logprobs", logprobs), ("coefficient", coefficient)):
        known = isinstance(tensor, torch.Tensor)
        expect(known, name, type(tensor).__name__, "give a tensor (B,), (B, T) or (B, T, V)")
        letters = ("B", "B", "B T", "B T V")[min(tensor.ndim, 3)]
        expect_tensor(name, tensor, letters, "float", **{k: n for k, n in sizes.items() if k in letters})
        expect_finite(name, tensor.detach(), response_mask if tensor.ndim > 1 else None)
    fits = coefficient.shape == logprobs.shape[:coefficient.ndim]
    expect(fits, "coefficient", f"of shape {tuple(coefficient.shape)}",
           f"logprobs are {tuple(logprobs.shape)}: give as many")
    remedy = "detach it: the gradient is F · ∇ log p, not ∇ (F · log p)"
    expect(not coefficient.requires_grad, "coefficient", "part of the graph", remedy)
    one = divide_by is None or divide_by >= 1
    expect(one, "divide_by", divide_by, "give how many pairs (x, y) the batch holds")


def expect_keys(name: str, given, wanted: dict) -> None:
    """A dict with the same keys as another."""
    known = sorted(given) if isinstance(given, dict) else type(given).__name__
    same = isinstance(given, dict) and given.keys() == wanted.keys()
    expect(same, name, known, f"give a dict with the keys {sorted(wanted)}")


def expect_listing(logp, with_gradient: bool = False) -> None:
    """log p of every answer, (..., N): probabilities that sum to one."""
    floats = isinstance(logp, torch.Tensor) and logp.is_floating_point() and logp.ndim > 0
    known = tuple(logp.shape) if isinstance(logp, torch.Tensor) else type(logp).__name__
    expect(floats, "logp", known, "give log p of every answer, (..., N)")
    total = logp.detach().exp().sum(-1).flatten()
    # Float32 over a few thousand answers; a missing end token misses by far more. Of a NaN, too, this is
    # False.
    right = (total - 1).abs() <= 1e-4
    expect(bool(right.all()), "logp", f"a listing whose probabilities sum to {total[~right].tolist()[:3]}",
           "list every answer once, each with its end token")
    learned = not with_gradient or logp.requires_grad
    expect(learned, "logp", "without a gradient", "compute it from parameters that require one")


def expect_answers(name: str, tensor, logp, exactly: bool = True) -> None:
    """One number for each answer of a listing: of the listing's shape and without a gradient, if exactly."""
    known = isinstance(tensor, torch.Tensor)
    expect(known, name, type(tensor).__name__, "give a tensor with one number for each answer")
    fits = tensor.shape == logp.shape if exactly else tensor.shape[-1:] == logp.shape[-1:]
    expect(fits, name, f"of shape {tuple(tensor.shape)}", f"give one for each of logp, {tuple(logp.shape)}")
    number = not (exactly and tensor.requires_grad)
    expect(number, name, "part of the graph", "detach it: F carries no gradient")


def expect_weights(name: str, tensor, shape) -> None:
    """Probabilities, or weights of 0 and more, of a shape."""
    fits = isinstance(tensor, torch.Tensor) and tensor.shape == shape
    known = f"of shape {tuple(tensor.shape)}" if isinstance(tensor, torch.Tensor) else type(tensor).__name__
    expect(fits, name, known, f"give a tensor of shape {tuple(shape)}")
    expect_finite(name, tensor)
    low = tensor.min().item()
    expect(low >= 0, name, f"as low as {low}", "give probabilities, or weights of 0 and more")
