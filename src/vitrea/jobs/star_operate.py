"""``vitrea star operate``: add, change, rename, remove columns; sort rows."""

from __future__ import annotations

from pathlib import Path

from vitrea.jobs.base import Context, Job, parameter
from vitrea.jobs.star_files import StarParameters, StarTable, output_parameter, read_table, writes_to_stdout, written
from vitrea.records.errors import InputError
from vitrea.records.table import Table


class StarOperateParameters(StarParameters):
    """Change the columns of a table; every other block stays as it is.

    What is asked for is done in this order: rename, add, set, --operate, --center, remove, sort. An expression is as in
    vitrea star select, and may give a new column its values: --set "vitreaMeanDefocus = (DefocusU + DefocusV) / 2".
    """

    output: Path = output_parameter()
    rename: list[str] = parameter([], "Column to rename, as old=new; may be repeated.")
    add_column: str = parameter("", "Column to add.", tab="Add")
    add_column_value: str = parameter("", "Its value in all rows.", tab="Add")
    copy_column_from: str = parameter("", "The column whose values it gets.", tab="Add")
    assignments: list[str] = parameter(
        [], 'Column and expression, as "DefocusU = DefocusU + 100"; may be repeated.', options=["--set"]
    )
    operate: str = parameter("", "Column that --set_to, --multiply_by and --add_to change.", tab="Operate")
    operate2: str = parameter("", "A second one.", tab="Operate")
    operate3: str = parameter("", "A third one.", tab="Operate")
    set_to: str = parameter("", "Set them to this value.", tab="Operate")
    multiply_by: float = parameter(1.0, "Multiply them by this.", tab="Operate")
    add_to: float = parameter(0.0, "Add this, after multiplying.", tab="Operate")
    center: bool = parameter(
        False, "Shift particles so that another point of the reference comes to the centre.", tab="Centre"
    )
    center_x: float = parameter(0.0, "Its x.", unit="pixels", options=["--center_X"], tab="Centre")
    center_y: float = parameter(0.0, "Its y.", unit="pixels", options=["--center_Y"], tab="Centre")
    center_z: float = parameter(0.0, "Its z.", unit="pixels", options=["--center_Z"], tab="Centre")
    remove_column: list[str] = parameter([], "Column to remove; may be repeated.")
    sort: list[str] = parameter([], "Column to sort rows by; may be repeated, the first counts most.", tab="Sort")
    descending: bool = parameter(False, "Sort from large to small.", tab="Sort")


def run(parameters: StarOperateParameters, context: Context) -> None:
    """Operate."""
    from vitrea.tables.columns import assign, rename_column, sort_rows

    _check(parameters)
    source = read_table(parameters.input, parameters.block)
    table = source.table
    for text in parameters.rename:
        old, equals, new = text.partition("=")
        if not equals:
            raise InputError(f"--rename {text}: write old=new")
        table = source.checked(rename_column, table, old, new, option="--rename")
    table = _added(source, table, parameters)
    for text in parameters.assignments:
        table = source.checked(assign, table, text, option="--set")
    table = _operated(source, table, parameters)
    if parameters.center:
        table = _centred(source, table, parameters)
    labels = [_find(source, name, table, "--remove_column") for name in parameters.remove_column]
    table = table.without(*labels)
    if not table.columns:
        raise InputError("--remove_column: no column would be left")
    if parameters.sort:
        labels = [_find(source, name, table, "--sort") for name in parameters.sort]
        table = sort_rows(table, labels, parameters.descending)
    source.write(parameters.output, table, context.command)
    context.recorder.event("text", text=written(parameters.output, f"{len(table)} rows, {len(table.columns)} columns"))


def _check(parameters: StarOperateParameters) -> None:
    values = bool(parameters.add_column_value) + bool(parameters.copy_column_from)
    if values != bool(parameters.add_column):
        raise InputError("--add_column goes with either --add_column_value or --copy_column_from")
    changes = bool(parameters.set_to) or parameters.multiply_by != 1.0 or parameters.add_to != 0.0
    if changes != bool(parameters.operate):
        raise InputError("--operate, a column, goes with --set_to, --multiply_by or --add_to")
    if parameters.set_to and (parameters.multiply_by != 1.0 or parameters.add_to != 0.0):
        raise InputError("--set_to replaces the values: --multiply_by and --add_to have no use beside it")
    if any((parameters.center_x, parameters.center_y, parameters.center_z)) and not parameters.center:
        raise InputError("--center_X, --center_Y and --center_Z go with --center")
    asked = (parameters.rename, parameters.add_column, parameters.assignments, changes, parameters.remove_column)
    if not any(asked) and not parameters.sort and not parameters.center:
        raise InputError("nothing to do: give --set, --operate, --add_column, --remove_column, --rename or --sort")


def _find(source: StarTable, name: str, table: Table, option: str) -> str:
    """Return the column of the table as it is by now that a name means."""
    from vitrea.tables.names import find_column

    return source.checked(find_column, name, table.columns, option=option)


def _added(source: StarTable, table: Table, parameters: StarOperateParameters) -> Table:
    from vitrea.tables.columns import constant_column, set_column
    from vitrea.tables.names import new_column

    if not parameters.add_column:
        return table
    label = source.checked(new_column, parameters.add_column, option="--add_column")
    if parameters.add_column_value:
        return source.checked(constant_column, table, label, parameters.add_column_value, option="--add_column_value")
    values = table[_find(source, parameters.copy_column_from, table, "--copy_column_from")]
    return source.checked(set_column, table, label, values, option="--copy_column_from")


def _operated(source: StarTable, table: Table, parameters: StarOperateParameters) -> Table:
    from vitrea.tables.columns import constant_column, scale_columns

    names = [name for name in (parameters.operate, parameters.operate2, parameters.operate3) if name]
    labels = [_find(source, name, table, "--operate") for name in names]
    if not labels:
        return table
    if not parameters.set_to:
        return source.checked(scale_columns, table, labels, parameters.multiply_by, parameters.add_to,
                              option="--operate")  # fmt: skip
    for label in labels:
        table = source.checked(constant_column, table, label, parameters.set_to, option="--set_to")
    return table


def _centred(source: StarTable, table: Table, parameters: StarOperateParameters) -> Table:
    from vitrea.formats.particle_files import block_as_table
    from vitrea.tables.centring import centre_on

    blocks = source.content.blocks
    optics = block_as_table(blocks["optics"]) if "optics" in blocks else None
    point = (parameters.center_x, parameters.center_y, parameters.center_z)
    return source.checked(centre_on, table, optics, point, option="--center")


JOB = Job(
    name="star operate",
    summary="Add, change, rename or remove columns of a STAR file, or sort its rows.",
    parameters=StarOperateParameters,
    run=run,
    examples=(
        'vitrea star operate particles.star shifted.star --set "DefocusU = DefocusU + 100"',
        "vitrea star operate --i particles.star --o subset2.star --operate rlnRandomSubset --set_to 2",
        "vitrea star operate particles.star named.star --rename rlnCoordinateX=myX --remove_column rlnCoordinateY",
        "vitrea star operate particles.star sorted.star --sort MicrographName --sort DefocusU --descending",
    ),
    writes_to_stdout=writes_to_stdout,
)
