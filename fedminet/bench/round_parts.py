"""A round taken apart: at the moments that events and notes state, and by what a site's task says of itself."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from client.status.current_task import Answered
from fedminet.bench.processor_watch import ProcessorWatch
from minet_core.runtime.machine import machine_facts
from minet_core.runtime.time_spent import Seconds
from minet_core.runtime.versions import version_line

PARTS = {
    "whole": "the whole round",
    "request": "request: polled, sent, task started and request checked",
    "work": "at the site: validation, local steps, answer kept",
    "reply": "reply: handed to the node, sent",
    "taken": "reply: seen by the coordinator, checked, kept",
    "coordinator": "coordinator: mean, checkpoint, records",
}
"""By the clock, of the site whose reply came last: they add up to the whole."""

TASK_PARTS = {
    "start": "its process: message and bundle fetched, application loaded",
    "check": "request checked: federation file, policy, cohort, weights",
    "count": "request counted, kept rounds looked at",
    "load": "model made, weights loaded and held against the last ones",
    "validate": "validation",
    "train": "local steps, with their optimizer",
    "domain": "training domain (measured in the first round)",
    "keep": "answer kept",
    "ledger": "reply packed, written into the ledger",
}
"""Of a site's task, as it says itself (`client.rounds.round`); the first two lie before the site's work begins."""

TRAINING = ("validate", "train")
"""What the same training in one process, without Flower, would take a processor for."""


@dataclass
class Worked:
    """What the sites noted of a run. answered: by round and site. sent: by message, when its reply had gone."""

    answered: dict[tuple[int, str], Answered] = field(default_factory=dict)
    sent: dict[str, float] = field(default_factory=dict)

    def is_whole(self, events: list[dict[str, Any]]) -> bool:
        """Whether nothing is missing of the replies that the coordinator accepted after the first round."""
        accepted = [one for one in events if one["event"] == "reply-accepted" and one["round"] > 1]
        found = [self.answered.get((one["round"], one["site"])) for one in accepted]
        return all(one is not None and one.request.message in self.sent for one in found)


@dataclass(frozen=True)
class OneRound:
    """begin, end: seconds since 1970. seconds: by part of `PARTS`. tasks: of each site, by part of `TASK_PARTS`."""

    begin: float
    end: float
    seconds: Mapping[str, float]
    tasks: tuple[Mapping[str, Seconds], ...]


@dataclass
class RoundParts:
    """One side, over its rounds. seconds: by part of `PARTS`. tasks: by part of `TASK_PARTS`, of every site.

    processor: seconds of all processes, a round. beside: the same over those of the sites' validation and steps alone.
    n_bytes: up and down, a round.
    """

    label: str
    seconds: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})
    tasks: dict[str, list[Seconds]] = field(default_factory=lambda: {part: [] for part in TASK_PARTS})
    processor: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    n_bytes: int = 0

    def add(self, rounds: list[OneRound], processors: ProcessorWatch) -> None:
        """Add a run's rounds."""
        for one in rounds:
            for part in PARTS:
                self.seconds[part].append(one.seconds[part])
            for part in TASK_PARTS:
                self.tasks[part] += [task[part] for task in one.tasks if part in task]
            self.processor.append(processors.between(one.begin, one.end))
            training = sum(task[part][1] for task in one.tasks for part in TRAINING if part in task)
            if training > 0:
                self.beside.append(self.processor[-1] / training)


def parts_of_rounds(events: list[dict[str, Any]], worked: Worked) -> list[OneRound]:
    """The rounds of a run but for the first, whose tasks are the first of the run.

    events: of the run, as the coordinator recorded them. A round ends where the next one starts, or where it was
    completed.
    """
    found = []
    asked = {event["round"]: _moment(event) for event in events if event["event"] == "round-started"}
    for number in sorted(asked)[1:]:
        replies = [one for one in events if one["event"] == "reply-accepted" and one["round"] == number]
        slowest = max(replies, key=_moment)
        task = worked.answered[number, slowest["site"]]
        sent, received = worked.sent[task.request.message], _moment(slowest)
        done = [
            _moment(one) for one in events if one["event"] == "round-completed" and one["round"] == number
        ]
        close = asked.get(number + 1, *done)
        seconds = {
            "whole": close - asked[number],
            "request": task.began - asked[number],
            "work": task.ended - task.began,
            "reply": sent - task.ended,
            "taken": received - sent,
            "coordinator": close - received,
        }
        tasks = tuple(worked.answered[number, one["site"]].parts for one in replies)
        found.append(OneRound(asked[number], close, seconds, tasks))
    return found


def _moment(event: Mapping[str, Any]) -> float:
    return datetime.datetime.fromisoformat(event["time"]).timestamp()


def rounds_table(sides: list[RoundParts]) -> str:
    """The parts in Markdown: of each the median, with the least and the most."""
    machine = machine_facts()
    labels = [side.label for side in sides]
    lines = [
        f"{machine.processor}, {machine.cores} cores, one thread a site; {version_line()}.",
        f"Seconds of a round of three sites on loopback, {len(sides[0].processor)} rounds a side: the median "
        "(least to most). A part is that of the site whose reply came last.",
        "",
        *_head(["part", *labels]),
        *(_row([words, *(_spread(side.seconds[part]) for side in sides)]) for part, words in PARTS.items()),
        _row(["processor seconds of the round, all processes", *(_spread(side.processor) for side in sides)]),
        _row(
            ["... over those of the sites' validation and steps", *(_spread(side.beside) for side in sides)]
        ),
        "",
        "A site's task as it says itself, of every site: the median of its elapsed seconds, and of a processor's.",
        "",
        *_head(["part of the task", *labels]),
        *(_row([words, *(_pair(side.tasks[part]) for side in sides)]) for part, words in TASK_PARTS.items()),
    ]
    return "\n".join(lines) + "\n"


def _head(cells: list[str]) -> list[str]:
    return [_row(cells), "|---" * len(cells) + "|"]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _spread(seconds: list[float]) -> str:
    """Of a commit whose tasks say nothing of it: nothing."""
    if not seconds:
        return ""
    middle, least, most = (of(seconds) for of in (statistics.median, min, max))
    return f"{middle:.2f} ({least:.2f} to {most:.2f})"


def _pair(seconds: list[Seconds]) -> str:
    """Of a commit whose tasks say nothing of it: nothing."""
    if not seconds:
        return ""
    elapsed, processor = (statistics.median(values) for values in zip(*seconds, strict=True))
    return f"{elapsed:.3f}, {processor:.3f}"
