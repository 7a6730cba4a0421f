"""What a network distilled at a temperature keeps under the papers' attacks and under adaptive ones, beside one that is not.

    python benchmarks/distillation.py RUN RUN --epsilon 0.3 --l2 1 --samples 100

attacks every run with both protocols and prints Markdown tables, as in docs/reading-robustness.md. It can be interrupted: what
is done stays in `<run>/attack-<protocol>`, from where `tinyrobust report RUN` shows it too.
"""

import argparse
from pathlib import Path

import tinyrobust
from tinyrobust.attacks.specs import Norm
from tinyrobust.cli import console
from tinyrobust.robustness.robustness_record import AttackResult, Proportion, RobustnessRecord

PROTOCOLS = ("paper", "adaptive")
_Row = tuple[str, str]


def main() -> None:
    """Attacks and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run; the columns")
    parser.add_argument("--epsilon", type=float, action="append", required=True, help="an L-inf radius; repeatable")
    parser.add_argument(
        "--l2", type=float, action="append", required=True, help="an L2 radius (C&W, Boundary, ZOO); repeatable"
    )
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    for protocol in PROTOCOLS:
        with console.progress() as progress:
            records = [
                tinyrobust.attack(
                    run,
                    protocol=protocol,
                    epsilons=options.epsilon,
                    l2=options.l2,
                    samples=options.samples,
                    data_dir=options.data_dir,
                    output=run / f"attack-{protocol}",
                    progress=progress,
                )
                for run in options.runs
            ]
        names = [run.resolve().name.rpartition("-")[0] for run in options.runs]
        print("\n".join(["", f"Protocol `{protocol}`:", "", *table(names, records)]), flush=True)


def table(names: list[str], records: list[RobustnessRecord]) -> list[str]:
    """A Markdown table: a column a run; rows for its attacks where each got every sample, their worst case, and the checks."""
    columns = [_cells(record) for record in records]
    rows: list[_Row] = list(dict.fromkeys(row for column in columns for row in column))
    lines = [f"| Attack | Radius | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    lines += [f"| {what} | {near} | {' | '.join(column.get((what, near), '') for column in columns)} |" for what, near in rows]
    return lines


def _cells(record: RobustnessRecord) -> dict[_Row, str]:
    cells = {("none, whole test set", f"on {clean.target}"): _share(clean.test) for clean in record.clean}
    if not record.cascade:  # else a row is about what the attacks before it left, and says little by itself
        cells |= {(_attack(row), _radius(row.norm, row.epsilon)): _share(row.robust) for row in record.attacks}
    cells |= {
        (f"**worst case, {row.target}**", _radius(row.norm, row.epsilon)): f"**{_share(row.robust)}**" for row in record.worst
    }
    raised = ", ".join(check.name for check in record.checks if check.raised)
    return cells | {("checks", ""): f"unreliable: {raised}" if raised else "none raised"}


def _attack(row: AttackResult) -> str:
    return row.attack if row.crafted_on == row.target else f"{row.attack} ({row.crafted_on}, on {row.target})"


def _radius(norm: Norm, epsilon: float) -> str:
    if norm != "linf":
        return f"{norm.upper()} {epsilon:g}"
    levels = epsilon * 255
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-2 and levels < 16 else f"{epsilon:g}"


def _share(share: Proportion) -> str:
    return f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%}, n = {share.n})".replace("%", " %")


if __name__ == "__main__":
    main()
