"""Models in and out of folders in Hugging Face's form.

config.json, *.safetensors (sharded or not) and tokenizer.json, of GPT-2, Llama, Qwen2, Qwen3 and SmolLM
(1 and 2 are Llama's shape; 3 leaves rotations out of some layers). Nothing is unpickled, and nothing is
fetched: name a folder.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..expect import expect
from .fields import expect_field, expect_folder
from .families import read_config, read_json, their_config, their_tensors
from ..tokenizer import Tokenizer
from ..transformer import Config, Transformer

SHIPPED = {name: Path(__file__).parents[1] / "checkpoints" / name
           for name in ("base", "tuned", "player", "caller")}
BASE = SHIPPED["base"]
# Tables that older files hold beside the weights.
BUFFERS = re.compile(r"(.*\.)?(rotary_emb\.inv_freq|h\.\d+\.attn\.(bias|masked_bias))")
FLOATS = ("F64", "F32", "F16", "BF16")


def load(folder: str | os.PathLike = "base", device: torch.device | str = "cpu",
         dtype: torch.dtype = torch.float32, context: int | None = None) -> tuple[Transformer, Tokenizer]:
    """(model, tokenizer) from a folder, as `load_model`; "base", "tuned", "player" and "caller" are shipped.

    A tokenizer from elsewhere has none of the course's marks (`add_marks` gives them); its `end` is the
    configuration's eos_token_id.
    """
    path = SHIPPED.get(str(folder)) or expect_folder(folder)
    if not (path / "tokenizer.json").is_file():
        _expect_files(path)
        raise FileNotFoundError(f"{path / 'tokenizer.json'} is not there: give the tokenizer in this form, "
                                "or use load_model for the model alone")
    model = load_model(path, device, dtype, context)
    V, config = model.config.vocab_size, path / "config.json"
    written, place = read_json(config), str(config)
    kind = [int] if isinstance(written.get("eos_token_id"), list) else int
    ends = expect_field(written, "eos_token_id", kind, None, low=0, high=V - 1, place=place)
    expect(ends != [], f"{place}: eos_token_id", "[]", "give an id of the vocabulary")
    end = ends[0] if isinstance(ends, list) else ends
    return model, Tokenizer.load(path / "tokenizer.json", end, V)


def load_model(folder: str | os.PathLike = "base", device: torch.device | str = "cpu",
               dtype: torch.dtype = torch.float32, context: int | None = None) -> Transformer:
    """The model of a folder, its weights in `dtype` on `device`.

    context: the longest text, where less than the model's is enough.

    Raises FileNotFoundError naming a missing file or shard, ValueError naming what is not as it must be: an
    unknown architecture, a damaged file, a tensor that is missing, of another shape or, in `dtype`, not
    finite.
    """
    path = SHIPPED.get(str(folder)) or expect_folder(folder)
    _expect_files(path)
    config = read_config(path / "config.json")
    if context is not None:
        positive = isinstance(context, int) and 1 <= context
        expect(positive, "context", context, "give a positive number of tokens")
        # Learned places are weights: they cannot be cut before they are read.
        table = config.family.positions == "learned"
        short = replace(config, context=min(context, config.context))
        config = config if table else short
    read: dict[str, Tensor] = {}
    with _Weights(path) as weights:
        # What the configuration promises is held to the files' headers before anything of its size is made.
        layers, held, place = config.n_layers, len(weights.where), path / "config.json"
        expect(layers <= held, f"{place}: number of layers", layers, f"{weights.name} holds {held} tensors")
        theirs_to_ours = their_tensors(config)
        weights.expect_names(set(theirs_to_ours), config.tied)
        for theirs, (ours, transposed) in theirs_to_ours.items():
            weights.expect_header(theirs, _joined(config, ours, transposed))
        for theirs, (ours, transposed) in theirs_to_ours.items():
            tensor = weights.tensor(theirs, dtype)
            rows = [_shape(config, name)[0] for name in ours]
            for name, part in zip(ours, (tensor.t() if transposed else tensor).split(rows)):
                read[name] = part.contiguous()
        if config.tied and "lm_head.weight" in weights.where:
            same = torch.equal(weights.tensor("lm_head.weight", dtype), read["embed.weight"])
            expect(same, f"{place}: tie_word_embeddings", "true",
                   f"{weights.name} has an lm_head.weight that is not the embedding: give false")
    with torch.device("meta"):  # shapes without memory: the weights are those that were read
        model = Transformer(config, seed=None)
    model.load_state_dict(read, assign=True)
    if context is not None and context < config.context:
        model.config = short
        model.places.weight = nn.Parameter(model.places.weight.detach()[:context].clone())
    for p in model.parameters():
        p.requires_grad_(True)
    return model.to(device).eval()


def save(model: Transformer, tokenizer: Tokenizer | None, folder: str | os.PathLike,
         shard_bytes: int = 5 * 10**9, by: str = "minillm") -> None:
    """Write config.json, the weights as they are and tokenizer.json; `transformers` reads them.

    shard_bytes: the most that a file of weights holds. by: who writes; see `expect_own`. Raises ValueError,
    before a file is touched, for weights that are not finite, for a model that no family's files can hold,
    and for a folder that somebody else's model is in. OSError where the disk does not take them.
    """
    folder = expect_folder(folder)
    own_size = tokenizer is None or tokenizer.vocab_size == model.config.vocab_size
    expect(own_size, "tokenizer", f"of {tokenizer.vocab_size if tokenizer else 0} tokens",
           f"the model has {model.config.vocab_size}")
    expect(shard_bytes > 0, "shard_bytes", shard_bytes, "give a positive number of bytes")
    config, own = their_config(model.config), dict(model.named_parameters())
    lost = [name for ours, _ in their_tensors(model.config).values() for name in ours if name not in own]
    remedy = ("merge its adapters (or save_adapters writes them alone), "
              "and dequantize what is kept in few bits")
    expect(not lost, "model", f"without {lost[0] if lost else ''}", remedy)
    for name, weight in own.items():
        finite = bool(weight.isfinite().all())
        expect(finite, f"model: {name}", "not made of finite numbers", "save them from before they were lost")
    end = tokenizer.end if tokenizer else None
    dtype = str(model.embed.weight.dtype).removeprefix("torch.")
    config |= {"bos_token_id": end, "eos_token_id": end, "pad_token_id": None, "dtype": dtype}
    config["torch_dtype"] = config["dtype"]  # the name before transformers 5
    config["saved_by"] = by
    shards: list[dict[str, tuple]] = [{}]
    filled = 0
    for theirs, (ours, transposed) in their_tensors(model.config).items():
        size = sum(own[name].numel() * own[name].element_size() for name in ours)
        if shards[-1] and filled + size > shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][theirs], filled = (ours, transposed), filled + size
    expect_own(folder, by)
    folder.mkdir(parents=True, exist_ok=True)
    files = ["model.safetensors"]
    if len(shards) > 1:
        files = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]

    def put(name: str, write) -> None:
        beside = folder / f".minillm-{name}"
        try:
            write(beside)
            beside.chmod(0o644)  # the writer of safetensors leaves files that only their owner can read
            os.replace(beside, folder / name)
        except OSError:
            raise
        except Exception as error:  # the writers of weights and of tokenizers raise their own for a full disk
            raise OSError(f"{folder / name} cannot be written ({error})") from None
        finally:
            beside.unlink(missing_ok=True)

    config_text = json.dumps(config, indent=2) + "\n"

    def put_config() -> None:
        put("config.json", lambda path: path.write_text(config_text, encoding="utf-8"))

    # Last where a model is there, which so stays whole; else first: what a kill leaves is known as ours.
    if not (folder / "config.json").exists():
        put_config()
    for file, shard in zip(files, shards):
        tensors = {}
        for theirs, (ours, transposed) in shard.items():
            joined = torch.cat([own[name].detach().cpu() for name in ours])
            tensors[theirs] = (joined.t() if transposed else joined).contiguous()
        put(file, lambda path: save_file(tensors, path, {"format": "pt"}))
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(p.numel() * p.element_size() for p in own.values())},
                 "weight_map": {theirs: file for file, shard in zip(files, shards) for theirs in shard}}
        text = json.dumps(index, indent=2) + "\n"
        put("model.safetensors.index.json", lambda path: path.write_text(text, encoding="utf-8"))
    put_config()
    if tokenizer is not None:
        put("tokenizer.json", tokenizer.save)
    for old in _weights_in(folder):  # of an earlier save in this folder, in more or fewer files
        if old.name not in files and not (len(shards) > 1 and old.name == "model.safetensors.index.json"):
            old.unlink()


def expect_own(folder: str | os.PathLike, by: str = "minillm") -> None:
    """Raise ValueError where `save` would write over, or delete, a model that this writer did not save.

    config.json says who saved it. "minillm" may write over what any part of this package saved,
    "minillm.journey" only over what a journey did; and the shipped models are their own.
    """
    folder = Path(folder)
    there = [*_weights_in(folder), folder / "config.json", folder / "tokenizer.json"]
    there = [file for file in there if os.path.lexists(file)]
    odd = [file.name for file in there if not file.is_file()]
    remedy = "name another folder, or move that away"
    expect(not odd, str(folder), f"with {', '.join(odd[:1])}, which is no file", remedy)
    shipped = folder.resolve() in SHIPPED.values()
    ours = not there or shipped or _saved_by(folder / "config.json").startswith(by)
    expect(ours, str(folder), f"the place of a model that {by} did not save", remedy)


def _weights_in(folder: Path) -> list[Path]:
    """The files of weights, and their index, that `save` may have written there."""
    return [file for file in sorted(folder.glob("model*.safetensors*"))
            if re.fullmatch(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?", file.name)]


def _saved_by(config: Path) -> str:
    """Who a config.json says saved it; "" where it does not, or where another library made it from ours."""
    try:
        written = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    ours = isinstance(written, dict) and "transformers_version" not in written
    return str(written.get("saved_by", "")) if ours else ""


def add_marks(model: Transformer, tokenizer: Tokenizer) -> None:
    """Give a checkpoint from elsewhere the course's marks (who speaks, thoughts, calls), in place.

    Their ids come after its own. Their vectors start at the mean of all others with a little noise
    (Hewitt 2021), and are learned by tuning. Does nothing twice.
    """
    kind = type(tokenizer).__name__
    expect(isinstance(tokenizer, Tokenizer), "tokenizer", kind,
           "give the tokenizer that was loaded with the model")
    new = tokenizer.add_marks()
    if not new:
        return
    V, generator = max(model.config.vocab_size, max(new) + 1), torch.Generator().manual_seed(0)
    for module in [model.embed] + ([] if model.config.tied else [model.head]):
        old = module.weight.detach()
        others = old[[i for i in range(len(old)) if i not in new]].float().cpu()
        weight = torch.cat([old, old.new_zeros(V - len(old), old.shape[1])])
        noise = torch.randn(len(new), old.shape[1], generator=generator) * others.std(0) / 10
        weight[new] = (others.mean(0) + noise).to(weight)
        finite = bool(weight[new].isfinite().all())
        expect(finite, "model", "of weights whose mean or spread is not finite", "load another")
        module.weight = nn.Parameter(weight)
    model.config = replace(model.config, vocab_size=V)
    tokenizer.vocab_size = V


def _expect_files(path: Path) -> None:
    """Raise FileNotFoundError unless there are a configuration and weights that can be read."""
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{path / 'config.json'} is not there: name a folder with config.json, "
                                'model.safetensors and tokenizer.json, or "base"')
    if not any((path / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        pickled = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in path.glob(pattern))
        remedy = ", nor its index"
        if pickled:
            remedy = (f": {pickled[0]} is a pickle, which can run code when it is opened; "
                      "convert it to safetensors")
        raise FileNotFoundError(f"{path / 'model.safetensors'} is not there{remedy}")


def _shape(config: Config, name: str) -> tuple[int, ...]:
    """Of a parameter of ours, by arithmetic alone: what Transformer(config) will make, without making it."""
    c, (part, kind) = config, name.split(".")[-2:]
    D, E, W = c.d_model, c.d_head, c.d_ff
    shapes = {"embed": (c.vocab_size, D), "head": (c.vocab_size, D), "places": (c.context, D),
              "norm": (D,), "norm1": (D,), "norm2": (D,), "q_norm": (E,), "k_norm": (E,),
              "q": (c.n_heads * E, D), "o": (D, c.n_heads * E),
              "k": (c.n_kv_heads * E, D), "v": (c.n_kv_heads * E, D),
              "gate": (W, D), "up": (W, D), "down": (D, W)}
    return shapes[part] if kind == "weight" else shapes[part][:1]


def _joined(config: Config, ours: tuple[str, ...], transposed: bool) -> tuple[int, ...]:
    """The shape of their tensor, which joins these of ours."""
    shapes = [_shape(config, name) for name in ours]
    joined = (sum(shape[0] for shape in shapes), *shapes[0][1:])
    return joined[::-1] if transposed else joined


def _some(names: list[str], most: int = 4) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


class _Weights:
    """The tensors of a folder, by their names, from one file or from shards."""

    def __init__(self, path: Path):
        self.path, self.open = path, {}
        index = path / "model.safetensors.index.json"
        if (path / "model.safetensors").is_file():
            files, self.name = {"model.safetensors"}, str(path / "model.safetensors")
        else:
            self.name = str(index)
            where = read_json(index).get("weight_map")
            names = isinstance(where, dict) and where and all(isinstance(f, str) for f in where.values())
            expect(names, f"{index}: weight_map", type(where).__name__, "give the shard of each tensor")
            files = set(where.values())
        for file in sorted(files):
            plain = re.fullmatch(r"[ -~]{1,200}", file) and os.path.basename(file) == file
            expect(plain and file not in (".", ".."), str(index), f"pointing at {file[:80]!r}",
                   "a shard lies in the folder itself")
            if not (path / file).is_file():
                raise FileNotFoundError(
                    f"{path / file} is not there, and {index.name} names it: fetch the missing shard")
            try:
                self.open[file] = safe_open(path / file, "pt").__enter__()
            except (SafetensorError, OSError) as error:
                self.__exit__()
                raise ValueError(f"{path / file} is damaged or cut short ({error}): fetch it again") from None
        self.where = {name: file for file, opened in self.open.items() for name in opened.keys()}
        if "model.safetensors" not in files:  # a shard holds what the index says that it holds
            lost = sorted(name for name, file in where.items() if name not in self.open[file].keys())
            expect(not lost, str(index), f"naming {lost[:3]}", "its shards hold no such: fetch them again")
            self.where |= where
        self.prefix = ""

    def expect_names(self, wanted: set[str], tied: bool) -> None:
        """Raise ValueError unless the files hold these tensors and no others."""
        there = {name for name in self.where
                 if not BUFFERS.fullmatch(name) and not (tied and name == "lm_head.weight")}
        # A model saved without its head has no such prefix.
        prefix = min(wanted - {"lm_head.weight"}).split(".")[0] + "."
        if there and not any(name.startswith(prefix) for name in there):
            self.prefix = prefix
            there = {name if name == "lm_head.weight" else prefix + name for name in there}
        missing, strange = sorted(wanted - there), sorted(there - wanted)
        expect(not missing, self.name, f"without {_some(missing)}", "give the weights of this configuration")
        expect(not strange, self.name, f"with {_some(strange)}", "config.json has no place for them")

    def _find(self, name: str) -> tuple[str, str]:
        """(file, the name in it) of one of their tensors."""
        inside = name if name in self.where else name.removeprefix(self.prefix)
        return self.where[inside], inside

    def expect_header(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless a file's header gives a tensor this shape, and a dtype that is read."""
        file, inside = self._find(name)
        piece, place = self.open[file].get_slice(inside), f"{self.path / file}: {inside}"
        there = tuple(piece.get_shape())
        expect(there == shape, place, f"of shape {there}", f"the configuration asks for {shape}")
        dtype = piece.get_dtype()
        expect(dtype in FLOATS, place, f"of dtype {dtype}", f"this package reads {', '.join(FLOATS)}")

    def tensor(self, name: str, dtype: torch.dtype) -> Tensor:
        """One tensor in a dtype, in which its numbers are finite: 1e300 in float64 is infinite in float32."""
        file, inside = self._find(name)
        tensor = self.open[file].get_tensor(inside).to(dtype)
        finite, place = bool(tensor.isfinite().all()), f"{self.path / file}: {inside}"
        expect(finite, place, f"not made of finite numbers in {dtype}",
               "give weights that were trained without a NaN, or load them in a wider dtype")
        return tensor

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for opened in self.open.values():
            opened.__exit__(None, None, None)
