"""Writes docs/model_cards/: a page, an error curve and a sample sheet of each prior that ships.

Usage:
    python launch/model_cards.py [NAME ...] [--no-sheets]

Run it after weights were replaced. Sheets are drawn anew, beside patches of what the prior was validated on: a minute
or two a prior on a CPU.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from polymicros_jax import config
from polymicros_jax.data import repair
from polymicros_jax.data.atomic import replacing
from polymicros_jax.data.patches import MemoryFields, grid_of_patches
from polymicros_jax.experiment import inputs
from polymicros_jax.orientation import representation
from polymicros_jax.training.model_card import error_curve, page
from polymicros_jax.training.prior import load_prior, read_card, shipped
from polymicros_jax.training.sheets import draws, sample_sheet
from polymicros_jax.viz import canvas

FOLDER = Path(__file__).parents[1] / "docs" / "model_cards"


def write(name: str, *, sheets: bool = True) -> None:
    """Writes the page of one prior, and its pictures."""
    card = read_card(name)
    curve, sheet = FOLDER / f"{name}_curve.png", FOLDER / f"{name}_sheet.png"
    if "relative_error" in card["training"]:
        canvas.save(error_curve(card), curve)
    if sheets:
        prior, size = load_prior(name), card["training"]["patch"]
        kind = representation.get(prior.representation)
        source = card["training"]["validated_on"][0].partition(",")[0]
        held_out = inputs.volume(config.volume(source), f"what {name} was validated on")
        field = np.asarray(kind.encode(repair.fill(held_out).quaternions))
        if card["training"].get("centred"):
            field = field - field.mean((0, 1, 2), keepdims=True)
        real = grid_of_patches(MemoryFields((field,)), size=size, stride=size)[:3]
        drawn = np.asarray(draws(jax.random.key(0), prior, count=3, size=size, steps=64))
        canvas.save(sample_sheet(drawn, real, prior.representation, name), sheet)
    with replacing(FOLDER / f"{name}.md") as temporary:
        temporary.write_text(page(name, card, curve.name, sheet.name if sheet.is_file() else ""))
    print(f"wrote {FOLDER / name}.md")


def main() -> None:
    """Writes the cards asked for, by default all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=shipped())
    parser.add_argument("--no-sheets", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.names:
        write(name, sheets=not arguments.no_sheets)


if __name__ == "__main__":
    main()
