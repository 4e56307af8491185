"""What the cycle model is worth: rules, silicon, sensitivity, second opinion. Measures nothing.

python -m benchmarks.cycle_model              prints the tables from the kept CSVs
python -m benchmarks.cycle_model --markdown   puts them into docs/cycle-model.md

The CSVs are remade by benchmarks.sensitivity and benchmarks.second_opinion; those of code that is
not ours are in benchmarks/external.
"""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks import second_opinion, sensitivity, validation
from benchmarks.markdown import grid, replace_section
from dtmm.device.block_price import RULES
from dtmm.device.cycle_model import CycleModel
from dtmm.errors import DtmmError
from dtmm.table import read_table

DOCUMENT = Path(__file__).parents[1] / "docs" / "cycle-model.md"
MARKS = {
    name: (
        f"<!-- {name}: python -m benchmarks.cycle_model --markdown -->",
        f"<!-- end of {name} -->",
    )
    for name in ("rules", "validation", "sensitivity", "opinion")
}
Section = tuple[str, list[list[str]]]
"""What a table shows, and its rows, the head first; without rows it is text alone."""


def rules() -> list[Section]:
    """The rules of m55-v1 that are not llvm-mca's."""
    rows = [["instructions", "cycles", "why"]]
    for rule in RULES:
        each = f" + {rule.per_register:g} per register" if rule.per_register else ""
        pattern = rule.pattern.replace("|", "\\|")
        rows.append([f"`{pattern}`", f"{rule.cycles:g}{each}", rule.why])
    model = CycleModel()
    penalty = f"{model.branch_penalty:g}"
    rows.append(["each taken edge", penalty, "the pipeline refills; not at a loop end"])
    share = f"blocks of at most {100 * model.cold_share:g} % of a region's instructions"
    rows.append([share, "1 per instruction", "not worth a run of llvm-mca"])
    refused = "a block that llvm-mca refuses: it begins between VPST and its instruction"
    rows.append([refused, "1 per instruction", "rare: parameters of the last channels"])
    return [("Rules besides llvm-mca's prices. The first pattern that matches decides.", rows)]


def validated() -> list[Section]:
    """Against silicon."""
    silicon = validation.load()
    return [(title, make(silicon)) for title, make in validation.SECTIONS]


def sensitive() -> list[Section]:
    """Conclusions by model."""
    layers, made, networks = sensitivity.kept()
    title = (
        "Our cycles over CMSIS-NN's (geometric mean and worst layer), FWCS over our dense kernel "
        f"on the five layers of the 3x3 table. Measured with {made['cycle_model']}, "
        f"QEMU {made['qemu']}, {made['compiler']}; {made['memory_map']}."
    )
    whole = (
        "Whole networks, each step with an empty cache at its start: cycles, and those of pruned "
        "forms over the dense one's (`benchmarks/zoo.py` says how they are pruned)."
    )
    return [
        (title, sensitivity.rows(layers)),
        (sensitivity.verdict(layers), []),
        (whole, sensitivity.network_rows(networks)),
    ]


def second() -> list[Section]:
    """SLOTHY's model on our loops."""
    table, provenance = read_table(second_opinion.RESULTS, text=second_opinion.TEXT)
    title = (
        f"Cycles of one execution of a hot block in a loop, its branches left out. SLOTHY "
        f"{provenance['slothy']}; at most {provenance['timeout_s']} s per attempt; "
        f"{provenance['cycle_model']}."
    )
    return [(title, second_opinion.rows(table)), (second_opinion.verdict(table), [])]


SECTIONS = {"rules": rules, "validation": validated, "sensitivity": sensitive, "opinion": second}


@click.command(help=__doc__.splitlines()[0])
@click.option("--markdown", is_flag=True, help="Write the tables into docs/cycle-model.md.")
def main(markdown: bool) -> None:
    """Command line."""
    try:
        for name, make in SECTIONS.items():
            sections = make()
            if markdown:
                texts = [f"{title}\n\n{grid(rows)}" if rows else title for title, rows in sections]
                replace_section(DOCUMENT, *MARKS[name], "\n\n".join(texts) + "\n")
                continue
            for title, rows in sections:
                table = Table(*(rows[0] if rows else ()), title=title if rows else None)
                for row in rows[1:]:
                    table.add_row(*row)
                Console(width=200).print(table if rows else title)
    except DtmmError as error:
        raise click.ClickException(str(error)) from None
    if markdown:
        click.echo(DOCUMENT)


if __name__ == "__main__":
    main()
