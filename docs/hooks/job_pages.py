"""Write one documentation page for each job from its parameter model, at build time."""

from __future__ import annotations

import inspect
from typing import Any

from mkdocs.structure.files import File, Files

from vitrea.cli.options import OptionSpec, option_specs
from vitrea.jobs import JOBS, load_job
from vitrea.jobs.base import Job


def on_config(config: Any) -> Any:
    """Put the job pages into the navigation."""
    for section in config["nav"]:
        if "Jobs" in section:
            section["Jobs"] = [{entry.name: f"jobs/{entry.slug}.md"} for entry in JOBS]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages to the site."""
    for entry in JOBS:
        files.append(File.generated(config, f"jobs/{entry.slug}.md", content=job_page(load_job(entry.name))))
    return files


def job_page(job: Job) -> str:
    """Write the page of one job as Markdown."""
    specs = option_specs(job.parameters)
    lines = [f"# vitrea {job.name}", "", job.summary, "", inspect.cleandoc(job.parameters.__doc__ or ""), ""]
    if job.examples:
        lines += ["## Examples", "", "```", *job.examples, "```", ""]
    for tab in dict.fromkeys(spec.tab for spec in specs if not spec.expert):
        lines += _section(tab, [spec for spec in specs if spec.tab == tab and not spec.expert])
    lines += _section("Expert options", [spec for spec in specs if spec.expert])
    if job.ignored_options:
        lines += ["## Accepted for RELION's sake", "", "| option | what becomes of it |", "|---|---|"]
        lines += [f"| `{name.rstrip('=')}` | {_cell(note)} |" for name, note in job.ignored_options.items()]
    return "\n".join(lines) + "\n"


def _section(title: str, specs: list[OptionSpec]) -> list[str]:
    if not specs:
        return []
    return [
        f"## {title}",
        "",
        "| option | value | default | meaning |",
        "|---|---|---|---|",
        *(_row(spec) for spec in specs),
        "",
    ]


def _row(spec: OptionSpec) -> str:
    names = list(dict.fromkeys((*spec.names, *spec.relion)))
    value = "on or off" if spec.kind == "flag" else f"{spec.type_name} {spec.unit}".strip()
    if spec.kind == "list":
        value += ", repeated"
    default = "required" if spec.required else spec.default
    notes = [spec.help, f"({spec.limits})" if spec.limits else "", f"cisTEM: {spec.cistem}." if spec.cistem else ""]
    cells = ["<br>".join(f"`{name}`" for name in names), value, default, " ".join(filter(None, notes))]
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    """Keep a text inside one cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
