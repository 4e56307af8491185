"""`dtmm profile`: where a model's cycles go, layer by layer; with --table a run's table."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from dtmm.errors import ConfigError

if TYPE_CHECKING:
    from dtmm.deploy.profile import Profile

HOTTEST = 5
_NAME_WIDTH, _FILE_WIDTH = 24, 160


def with_model(stage: click.Command) -> click.Command:
    """The stage verb `profile` behind --table, and besides it the profile of one MODEL."""

    @click.command("profile")
    @click.option("--table", "as_stage", is_flag=True,
                  help="Instead, the stage that measures the latency table of a run.")  # fmt: skip
    @click.option("--device", "where", metavar="NAME", default="qemu", show_default=True,
                  help="qemu, fvp or board; see `dtmm devices`.")  # fmt: skip
    @click.option("--fvp", type=click.Path(path_type=Path), envvar="DTMM_FVP", metavar="PROGRAM",
                  help="With --device fvp: the program, if it is not on PATH.")  # fmt: skip
    @click.option("--dense", is_flag=True, help="Of a run: the network before pruning.")
    @click.option("--hot", is_flag=False, flag_value=HOTTEST, default=0, metavar="[N]",
                  type=click.IntRange(0),
                  help=f"Also the N (default {HOTTEST}) hottest blocks, disassembled.")  # fmt: skip
    @click.option("--csv", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
                  help="Write the layers as a table.")  # fmt: skip
    @click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
                  help="Write a stacked bar per layer (.svg, .png or .pdf).")  # fmt: skip
    @click.pass_context
    def profile(
        context: click.Context,
        /,
        overrides: tuple[str, ...],
        as_stage: bool,
        where: str,
        fvp: Path | None,
        dense: bool,
        hot: int,
        csv: Path | None,
        plot: Path | None,
        **stage_options: Any,
    ) -> None:
        """Where the cycles of MODEL go, layer by layer, in both memory scenarios.

        MODEL is an int8 .tflite file, a saved QuantizedNetwork or Deployment (.dtmm), a run's
        name or folder, or a model's name. With --table it is no MODEL but a stage: the latency
        table of a run is measured, under the run's options and [SECTION.KEY=VALUE]...
        """
        if as_stage:
            _refuse_given(context, ("where", "fvp", "dense", "hot", "csv", "plot"), "--table")
            context.invoke(stage, overrides=overrides, **stage_options)
            return
        _refuse_given(context, [n for n in stage_options if n != "as_json"], "a MODEL")
        if len(overrides) != 1:
            raise ConfigError(
                f"{len(overrides)} models given, expected one, or --table for a run's latency table"
            )
        if plot is not None:
            _require_format(plot)
        found, described = _profile(overrides[0], where, fvp, dense, hot)
        if csv is not None:
            _write_csv(csv, found, described)
        if plot is not None:
            _write_plot(plot, found)
        if stage_options["as_json"]:
            click.echo(json.dumps({"model": described, **profile_dict(found)}, indent=1))
            return
        _show(found, described)
        for path in (csv, plot):
            if path is not None:
                click.echo(f"written: {path}")

    argument = click.Argument(
        ["overrides"], nargs=-1, metavar="MODEL | --table [SECTION.KEY=VALUE]..."
    )
    options = [p for p in stage.params if not isinstance(p, click.Argument)]
    profile.params = [argument, *profile.params, *options]
    return profile


def _refuse_given(context: click.Context, names: Any, beside: str) -> None:
    """Raises ConfigError when an option was given on the command line that does not belong."""
    flags = {p.name: p.opts[0] for p in context.command.params}
    for name in names:
        source = context.get_parameter_source(name)
        if source is click.core.ParameterSource.COMMANDLINE:
            raise ConfigError(f"{flags[name]} does not go with {beside}")


def _profile(
    source: str, where: str, fvp: Path | None, dense: bool, hot: int
) -> tuple[Profile, str]:
    from dtmm.deploy.profile import profile as run_profile
    from dtmm.pipeline.model_source import find_model

    if fvp is not None:
        from dtmm.device.fvp import use_fvp

        use_fvp(fvp)
    found = find_model(source, dense)
    click.echo(f"{found.description}: one inference on {where}", err=True)
    return run_profile(found.deployment, where=where, hot=hot), found.description


def profile_dict(found: Profile) -> dict[str, Any]:
    """A profile as JSON values: every step's share and rate beside its figures, and totals."""
    from dtmm.report.profile import profile_rows

    return {
        "network": found.network,
        "device": found.device,
        "models": list(found.models),
        "layers": profile_rows(found),
        "total": {
            "instructions": _sum(found, "instructions"),
            "macs": _sum(found, "macs"),
            "bytes_read": _sum(found, "bytes_read"),
            "bytes_written": _sum(found, "bytes_written"),
            "cycles": {model: found.total(model) for model in found.models},
        },
        "hot": [asdict(block) for block in found.hot],
        "stack": found.stack,
        "provenance": dict(found.provenance),
    }


def _sum(found: Profile, name: str) -> int | None:
    values = [getattr(step, name) for step in found.steps]
    return None if any(value is None for value in values) else sum(values)


def _write_csv(path: Path, found: Profile, described: str) -> None:
    import pandas as pd

    from dtmm.report.profile import profile_rows
    from dtmm.table import write_table

    rows = [
        {key: value for key, value in row.items() if key != "cycles"}
        | {f"cycles_{model}": cycles for model, cycles in row["cycles"].items()}
        for row in profile_rows(found)
    ]
    head = {"model": described, "device": found.device, "stack_bytes": found.stack}
    write_table(path, pd.DataFrame(rows), {**head, **found.provenance})


def _require_format(path: Path) -> None:
    if path.suffix not in (".svg", ".png", ".pdf"):
        raise ConfigError(f"--plot {path}: expected a name that ends in .svg, .png or .pdf")


def _write_plot(path: Path, found: Profile) -> None:
    from dtmm.artifact import write_atomic
    from dtmm.report.profile import profile_figure

    write_atomic(path, profile_figure(found, path.suffix.removeprefix(".")))


def _show(found: Profile, described: str) -> None:
    from dtmm.report.profile import UNITS, profile_rows

    models = [f"cycles ({model})" for model in found.models]
    table = Table(title=described)
    for heading in ("layer", "kernel"):
        table.add_column(heading, no_wrap=True, max_width=_NAME_WIDTH)
    for heading in ("instructions", *models, "share", "MAC", "MAC/cycle", "B read"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in profile_rows(found):
        table.add_row(
            row["layer"],
            row["kernel"].removeprefix("conv_"),
            _number(row["instructions"]),
            *(_number(cycles) for cycles in row["cycles"].values()),
            f"{row['share']:.1%}",
            _number(row["macs"]),
            f"{row['mac_per_cycle']:.2f}",
            _number(row["bytes_read"]),
        )
    table.add_section()
    first = found.models[0]
    macs = _sum(found, "macs") or 0
    table.add_row(
        "all",
        "",
        _number(_sum(found, "instructions")),
        *(_number(found.total(model)) for model in found.models),
        "",
        _number(macs),
        f"{macs / found.total(first):.2f}",
        _number(_sum(found, "bytes_read")),
    )
    # a file or a pipe has no width of its own
    width = None if sys.stdout.isatty() else _FILE_WIDTH
    Console(highlight=False, width=width).print(table)
    click.echo(f"share and MAC/cycle by cycles ({first}); stack {found.stack:,} B")
    for model in found.models:
        click.echo(f"cycles ({model}): {found.provenance.get(model, UNITS.get(model, ''))}")
    said = (found.provenance.get(key) for key in ("compiler", "qemu", "cycle_model", "commit"))
    click.echo(f"made with {', '.join(str(words) for words in said if words)}")
    for number, block in enumerate(found.hot, 1):
        share = block.cycles / found.total(first)
        click.echo(
            f"\nblock {number}: {block.function} at {block.address:#x}, {block.executions:,} "
            f"times, {block.cycles:,.0f} cycles ({first}), {share:.1%}; for {_some(block.steps)}"
        )
        click.echo("\n".join(f"    {text}" for text in block.disassembly))


def _some(names: tuple[str, ...], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
