# SPDX-License-Identifier: MIT
"""Medians and spreads, rows, and the table."""
import statistics

median = statistics.median


def percentile(values, share):
    """The smallest value that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


class Row:
    """One line of the table.

    figure  what is compared with the target, as text; value is the same as a number
    spread  least and greatest of the same figure, taken from each fifth of the run
    target  (">=" or "<=", number), None for a line that only informs
    """

    def __init__(self, name, value, unit="", ours="", reference="", spread=(), target=None,
                 note=""):
        self.name, self.value, self.unit = name, value, unit
        self.ours, self.reference = ours, reference
        self.spread, self.target, self.note = spread, target, note

    @property
    def met(self):
        """True, False, or None without a target."""
        if self.target is None:
            return None
        sign, limit = self.target
        value = round(self.value, digits(self.value))  # as printed
        return value >= limit if sign == ">=" else value <= limit

    def cells(self):
        spread = "–".join(show(v) for v in self.spread)
        target = ""
        if self.target:
            target = f"{'≥' if self.target[0] == '>=' else '≤'} {self.target[1]:g}{self.unit}"
        verdict = {True: "met", False: "MISSED", None: ""}[self.met]
        return [self.name, self.ours, self.reference, show(self.value) + self.unit, spread, target,
                verdict]


class Skipped:
    """A bench that could not be run."""

    met = None

    def __init__(self, name, why, failed=False):
        self.name, self.why, self.failed = name, " ".join(why.split())[:160], failed

    def cells(self):
        return [self.name, "", "", "", "", "", f"{'FAILED' if self.failed else 'skipped'}: {self.why}"]


def digits(value):
    return 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 20 else 2


def show(value):
    return f"{value:,.{digits(value)}f}"


def print_table(rows, markdown, who):
    """who is what was measured."""
    head = ["what", who, "reference", "figure", "min–max", "target", ""]
    cells = [head, *(row.cells() for row in rows)]
    width = [max(len(c[i]) for c in cells) for i in range(len(head))]
    print()
    if markdown:
        cells.insert(1, ["---"] * len(head))
        for line in cells:
            print("| " + " | ".join(line) + " |")
        return
    for line in cells:
        print("  ".join(c.ljust(w) for c, w in zip(line, width)).rstrip())


def rate(count, ns):
    """Bytes and nanoseconds as text."""
    return f"{count / ns:.2f} GB/s"


def times(ns):
    """Nanoseconds for people."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.0f} ns"


def fifths(count):
    """Slices that cut a run into five parts, or into its rounds when it has fewer."""
    parts = min(5, count)
    return [slice(k * count // parts, (k + 1) * count // parts) for k in range(parts)]


def speed_ratio(name, ours, reference, target, show_one):
    """Times of the same work, pair by pair: how fast we are, the reference being 1."""
    parts = [median(reference[f]) / median(ours[f]) for f in fifths(len(ours))]
    return Row(name, median(reference) / median(ours), ours=show_one(median(ours)),
               reference=show_one(median(reference)), spread=(min(parts), max(parts)),
               target=target and (">=", target))
