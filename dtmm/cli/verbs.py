"""`dtmm VERB`: every stage of a run, the whole of it, and what a user asks before and after."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

import dtmm
from dtmm.cli import device, explain, imports, pareto, profile, runs, scheduler
from dtmm.config import Config, load_config
from dtmm.errors import DtmmError
from dtmm.pipeline.engine import open_run, run_until
from dtmm.pipeline.progress import Progress
from dtmm.pipeline.stages import STAGES, stages

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS = (
    ("flash", "budget.flash"),
    ("sram", "budget.sram"),
    ("max_loss", "budget.max_loss"),
    ("layout", "deploy.layout"),
)
"""Options that stand for a setting; not every verb has every one."""


def _run_options(function: Function) -> Function:
    """The options of every verb that works on a run folder."""
    for decorate in (
        click.argument("overrides", nargs=-1, metavar="[SECTION.KEY=VALUE]..."),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout."),
        click.option(
            "--max-loss",
            metavar="NATS",
            help="Budget: estimated loss increase in nats, in place of budget.loss_slack.",
        ),
        click.option("--sram", metavar="SIZE", help="Budget: SRAM, e.g. 128KiB."),
        click.option("--flash", metavar="SIZE", help="Budget: flash, e.g. 256KiB."),
        click.option("--config", type=click.Path(path_type=Path), help="A YAML file of settings."),
        click.option("--name", help="The run's name: its folder under runs/."),
    ):
        function = decorate(function)
    return function


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(dtmm.__version__, prog_name="dtmm")
def cli() -> None:
    """Pruned int8 networks on Cortex-M55 microcontrollers.

    `dtmm demo` shows the whole path. Every stage is a verb of its own: it reads and writes a run
    folder, runs the stages before it where they are missing or out of date, and stops there.
    """


def _config(
    name: str | None,
    config: Path | None,
    overrides: tuple[str, ...],
    options: dict[str, str | None],
) -> Config:
    """Settings of a run: its saved ones, then the file, then the options and overrides."""
    given = list(overrides)
    given += [
        f"{key}={options[option]}" for option, key in _OPTIONS if options.get(option) is not None
    ]
    if name is not None:
        given.append(f"run.name={name}")
    first = load_config(config, given)
    saved = Path(first.run.folder) / first.run.name / "config.yaml"
    if config is None and saved.is_file():
        return load_config(saved, given)
    return first


def _stage_verb(stage: str, title: str) -> click.Command:
    """The verb that runs a stage and, where needed, the ones before it."""

    @_run_options
    def verb(
        overrides: tuple[str, ...],
        as_json: bool,
        name: str | None,
        config: Path | None,
        **budgets: str | None,
    ) -> None:
        from dtmm.pipeline.summary import stage_summary

        context = open_run(_config(name, config, overrides, budgets), Progress())
        run_until(context, stages(context.config), stage)
        summary = stage_summary(context, stage)
        if as_json:
            click.echo(json.dumps(summary, indent=1))
        else:
            click.echo(f"{stage}: {', '.join(summary['outputs'])}")

    verb.__doc__ = f"{title[0].upper()}{title[1:]}."
    command = click.command(stage)(verb)
    if stage == "deploy":
        command.params.append(imports.layout_option())
    return command


def _print_report(report: dict[str, Any]) -> None:
    from dtmm.report.rows import (
        comparison_rows,
        cycle_model,
        layer_rows,
        pool_line,
        schedule_line,
        title,
    )

    console = Console(highlight=False)
    table = Table(title=title(report))
    for column in ("", "dense int8", "DTMM", ""):
        table.add_column(column, justify="left" if not table.columns else "right")
    for row in comparison_rows(report):
        table.add_row(*row)
    console.print(table)
    layers = Table(title="what stays")
    model = cycle_model(report)
    for heading in ("convolution", "kernel", "filters", "filterlets", f"kilocycles ({model})"):
        layers.add_column(heading, justify="left" if not layers.columns else "right")
    for layer in layer_rows(report):
        layers.add_row(*layer)
    console.print(layers)
    console.print(schedule_line(report))
    console.print(pool_line(report))
    for sentence in report["memory"]["sentences"]:
        console.print(sentence, soft_wrap=True)
    console.print(
        f"bit-exact on {report['device_images']} images (device, host C library, integer "
        f"reference): {'yes' if report['bit_exact'] else 'NO'}"
    )


def _whole_run(config: Config, as_json: bool) -> None:
    context = open_run(config, Progress())
    run_until(context, stages(config), "report")
    report = json.loads(context.folder.file("report.json").read_text())
    if as_json:
        click.echo(json.dumps(report, indent=1))
        return
    _print_report(report)
    click.echo(f"report: {context.folder.file('report.html')}")
    click.echo(f"C project: {context.folder.file('project')}")


@cli.command()
@_run_options
def demo(
    overrides: tuple[str, ...],
    as_json: bool,
    name: str | None,
    config: Path | None,
    **budgets: str | None,
) -> None:
    """ResNet-12 on Fashion-MNIST: all stages, dense int8 against DTMM."""
    _whole_run(_config(name or "demo", config, overrides, budgets), as_json)


@cli.command()
@_run_options
def compress(
    overrides: tuple[str, ...],
    as_json: bool,
    name: str | None,
    config: Path | None,
    **budgets: str | None,
) -> None:
    """All stages under your own settings (--config, --flash, --sram, --max-loss, KEY=VALUE)."""
    _whole_run(_config(name, config, overrides, budgets), as_json)


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), help="The checkpoint (.safetensors).")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
@click.option("--config", type=click.Path(path_type=Path), help="A YAML file of settings.")
@click.argument("overrides", nargs=-1, metavar="[SECTION.KEY=VALUE]...")
def train(out: Path | None, as_json: bool, config: Path | None, overrides: tuple[str, ...]) -> None:
    """Train a dense float network and write its checkpoint."""
    from dtmm.pipeline.train import train_checkpoint

    result = train_checkpoint(load_config(config, overrides), out, Progress())
    if as_json:
        click.echo(json.dumps(result, indent=1))
    else:
        share = f"{100 * result['accuracy']:.2f} % test {result['measure']}"
        click.echo(f"{result['checkpoint']}: {share}")


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def doctor(as_json: bool) -> None:
    """What is installed, which versions, what is missing and how to get it."""
    from dtmm.doctor import examine

    findings = examine()
    if as_json:
        click.echo(json.dumps([finding.as_dict() for finding in findings], indent=1))
    else:
        table = Table()
        for heading in ("", "what", "version", "needed for", "how to get it"):
            table.add_column(heading, overflow="fold")
        for finding in findings:
            mark = "[green]ok[/green]" if finding.found else "[red]missing[/red]"
            how = "" if finding.found else finding.how_to_get
            table.add_row(mark, finding.name, finding.version or "", finding.needed_for, how)
        Console(highlight=False).print(table)
    if not all(finding.found or finding.optional for finding in findings):
        sys.exit(1)


for _stage in STAGES:
    cli.add_command(_stage_verb(_stage.name, _stage.title))
cli.add_command(scheduler.with_instances(cli.commands["schedule"]))
cli.add_command(profile.with_model(cli.commands["profile"]))
cli.add_command(scheduler.solvers)
cli.add_command(pareto.pareto)
cli.add_command(explain.explain)
cli.add_command(imports.import_)
cli.add_command(device.devices)
cli.add_command(device.measure)
cli.add_command(runs.runs)


def main() -> None:
    """Entry point: a DtmmError is one line on stderr and exit status 1."""
    try:
        cli(standalone_mode=True)
    except DtmmError as error:
        click.echo(f"dtmm: {error}", err=True)
        sys.exit(1)
