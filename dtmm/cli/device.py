"""`dtmm devices` and `dtmm measure`: what firmware can run on, and what any ELF costs."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def devices(as_json: bool) -> None:
    """What firmware can run on here, and what each device measures and does not."""
    from dtmm.device import devices as known

    found = [
        {
            "name": device.name,
            "available": device.available,
            "description": device.description,
            "measures": device.measures,
            "does_not_measure": device.lacks,
        }
        for device in known()
    ]
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    table = Table()
    for heading in ("device", "", "what it is", "what it measures", "what it does not"):
        table.add_column(heading, overflow="fold")
    for row in found:
        state = "[green]ready[/green]" if row["available"] else "[yellow]absent[/yellow]"
        words = (str(row[key]) for key in ("description", "measures", "does_not_measure"))
        table.add_row(str(row["name"]), state, *words)
    Console(highlight=False).print(table)


@click.command()
@click.argument("elf", type=click.Path(path_type=Path))
@click.option("--from", "start", required=True, metavar="SYMBOL", help="Count from its first call.")
@click.option("--to", "stop", metavar="SYMBOL", help="Stop before it is called; default: the end.")
@click.option("--timeout", default=600.0, show_default=True, metavar="SECONDS", help="Of this PC.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def measure(elf: Path, start: str, stop: str | None, timeout: float, as_json: bool) -> None:
    """Instructions and modelled cycles of any ELF for the simulated Cortex-M55 (mps3-an547).

    The firmware needs no markers and none of our code; it must end itself by semihosting.
    """
    from dtmm.device import CycleModel
    from dtmm.device.any_elf import measure_elf
    from dtmm.device.elf import compiler_comment
    from dtmm.device.provenance import dtmm_version, git_commit
    from dtmm.device.toolchain import require_tool

    model = CycleModel()
    cost = measure_elf(elf, start, stop, model, timeout)
    provenance = {
        "compiler": compiler_comment(elf),
        "qemu": f"{require_tool('qemu-system-arm').version} mps3-an547",
        "cycle_model": model.full_name,
        "memory": model.memory_text,
        "dtmm_version": dtmm_version(),
        "commit": git_commit(),
    }
    symbols = sorted(cost.by_symbol.items(), key=lambda item: -item[1].cycles)
    if as_json:
        result = {
            "elf": str(elf),
            "from": start,
            "to": stop,
            "cycle_model": model.full_name,
            "provenance": provenance,
            "instructions": cost.instructions,
            "cycles": cost.cycles,
            "functions": [
                {"name": name, "instructions": each.instructions, "cycles": each.cycles}
                for name, each in symbols
            ],
        }
        click.echo(json.dumps(result, indent=1))
        return
    table = Table(title=f"{elf.name} from {start} to {stop or 'the end'}, {model.full_name}")
    for heading in ("function", "instructions", f"cycles ({model.name})", "share"):
        table.add_column(heading, justify="left" if heading == "function" else "right")
    for name, each in symbols:
        share = f"{each.cycles / cost.cycles:.1%}"
        table.add_row(name, f"{each.instructions:,}", f"{each.cycles:,.0f}", share)
    table.add_section()
    table.add_row("all", f"{cost.instructions:,}", f"{cost.cycles:,.0f}", "")
    Console(highlight=False).print(table)
