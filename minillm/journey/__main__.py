"""The command `python -m minillm.journey`: reads its arguments, runs the stages, writes the page. It leaves out what a stage does."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from .. import hub
from ..train import NonFinite
from ..worlds.own import BadFile, read_preferences, read_questions, read_text
from .stages import SCALES, Journey, travel_own, travel_town


def write_page(journey: Journey, path: Path, subtitle: str, stopped: str = "") -> None:
    """One self-contained HTML page with every stage's scores, curve and samples."""
    from jinja2 import Environment, FileSystemLoader

    from ..show.figures import line, smooth, svg
    for stage in journey.stages:
        if stage.curve:
            x, y, xlabel, ylabel = stage.curve
            y = smooth(y) if len(y) > 20 else y
            stage.figure = svg(line(x, y, xlabel, ylabel), f"{ylabel} against {xlabel}: from {y[0]:.3g} at the start to {y[-1]:.3g} at the end")
    environment = Environment(loader=FileSystemLoader(Path(__file__).parents[1] / "show"), autoescape=True)
    footer = (f"Seed {journey.seed}; {journey.device}; PyTorch {torch.__version__}; Python {platform.python_version()}; {platform.machine()}, "
              f"{os.cpu_count()} cores; {sum(s.seconds for s in journey.stages):.0f} seconds in all.")
    html = environment.get_template("journey.html").render(stages=journey.stages, subtitle=subtitle, verdict=journey.verdict, stopped=stopped,
                                                                     footer=footer)
    beside = path.with_suffix(".part")
    beside.write_text(html, encoding="utf-8")
    os.replace(beside, path)


def write_summary(journey: Journey, path: Path, subtitle: str, stopped: str = "") -> None:
    """All that the page shows, as JSON; and by policy (imitation, ppo, dpo, kept) gold, right and kl on the reported questions."""
    summary = {"subtitle": subtitle, "seed": journey.seed, "device": str(journey.device), "torch": torch.__version__,
               "verdict": journey.verdict, "stopped": stopped, "seconds": sum(s.seconds for s in journey.stages),
               "stages": [{name: value for name, value in asdict(s).items() if name != "figure"} for s in journey.stages],
               **journey.policies}
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(summary, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, path)


def main(argv: list[str] | None = None) -> int:
    """The command. Returns 0; 2 for input that cannot be used; 130 after Ctrl-C, with what was learned kept; 1 if training broke."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # arrows and other scripts, on a terminal that is not UTF-8 too
            stream.reconfigure(encoding="utf-8", errors="replace")
    parser = argparse.ArgumentParser(prog="journey", description="One small model from random weights through every stage that the package has.")
    parser.add_argument("--seed", type=int, default=0, help="draws of weights, batches and answers (default 0); the town stays the same")
    parser.add_argument("--scale", choices=sorted(SCALES), default="cpu", help="cpu: minutes on two cores; gpu: a larger model, longer")
    parser.add_argument("--from", dest="start", metavar="base|tuned|FOLDER", help="start from a shipped model, or from a folder that a journey kept")
    parser.add_argument("--text", metavar="FILE", help="your own text, UTF-8, in place of the town")
    parser.add_argument("--qa", metavar="FILE.jsonl", help='your own questions: {"question": …, "answer": …} a line')
    parser.add_argument("--prefs", metavar="FILE.jsonl", help='your own preferences: {"prompt": …, "chosen": …, "rejected": …} a line')
    parser.add_argument("--out", type=Path, default=Path("build"), metavar="FOLDER", help="where the page and the model go (default build)")
    parser.add_argument("--steps", type=int, help="pretraining steps, in place of the scale's")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    args = parser.parse_args(argv)
    scale = SCALES[args.scale]
    if args.steps is not None and args.steps >= 1:
        scale = replace(scale, steps=args.steps, tuning_steps=min(scale.tuning_steps, args.steps))
    model_folder, page = args.out / "journey", args.out / "journey.html"
    journey = Journey(scale, args.seed, progress=not args.quiet)
    names = {key: os.path.basename(path) for key, path in (("text", args.text), ("qa", args.qa), ("prefs", args.prefs)) if path}
    subtitle = f"On {' and '.join(names.values()) or 'the town'}, " + (f"starting from {args.start}." if args.start else "from random weights.")

    def keep(stopped: str = "") -> None:
        args.out.mkdir(parents=True, exist_ok=True)
        if journey.model is not None:
            hub.save(journey.model, journey.tokenizer, model_folder)
            write_summary(journey, model_folder / "summary.json", subtitle, stopped)
        write_page(journey, page, subtitle, stopped)

    try:
        if not 0 <= args.seed < 2**63:
            raise BadFile(f"--seed is {args.seed}: give a whole number from 0 to 2**63 - 1")
        if args.steps is not None and args.steps < 1:
            raise BadFile(f"--steps is {args.steps}: give 1 or more")
        above = next(folder for folder in (args.out, *args.out.resolve().parents) if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise BadFile(f"--out: {above} is not a folder that you may write; name another")
        if page.is_dir() or (model_folder.exists() and not (model_folder.is_dir() and os.access(model_folder, os.W_OK))):
            raise BadFile(f"--out: {args.out} holds something else where {page.name} and the folder {model_folder.name} are to go; name another")
        text = read_text(args.text) if args.text else None
        rows = read_questions(args.qa) if args.qa else None
        preferred = read_preferences(args.prefs) if args.prefs else None
        if not names:
            travel_town(journey, args.start)
        else:
            travel_own(journey, text, rows, preferred, args.start, names)
        keep()
    except (BadFile, OSError) as error:
        print(f"journey: {error}", file=sys.stderr)
        return 2
    except NonFinite as error:
        print(f"journey: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        done = f"Stopped after {len(journey.stages)} finished stage{'' if len(journey.stages) == 1 else 's'}."
        if journey.model is not None:
            keep(done)
            print(f"\n{done} The model as it is: {model_folder}; the page: {page}. Go on with FROM={model_folder}", file=sys.stderr)
        else:
            print("\nStopped before there was a model; nothing was written.", file=sys.stderr)
        return 130
    print(f"\n{journey.verdict}".rstrip())
    print(f"\nThe page: {page}   The model: {model_folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
