"""The plan by which PostgreSQL actually ran a query."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import asyncpg

from batchd.db.connection import Connection


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a plan; the numbers are of the whole run, not of one loop."""

    raw: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.raw["Node Type"])

    @property
    def relation(self) -> str | None:
        return self.raw.get("Relation Name")

    @property
    def rows_out(self) -> int:
        return self._in_all_loops(self.raw["Actual Rows"])

    @property
    def rows_looked_at(self) -> int:
        """Rows returned, and rows read but filtered out."""
        removed = sum(
            count for name, count in self.raw.items() if name.startswith("Rows Removed by")
        )
        return self.rows_out + self._in_all_loops(removed)

    def _in_all_loops(self, average: float) -> int:
        return round(average * int(self.raw["Actual Loops"]))

    @property
    def inputs(self) -> "list[Node]":
        return [Node(raw) for raw in self.raw.get("Plans", [])]


@dataclass(frozen=True, slots=True)
class Plan:
    top: Node

    def __iter__(self) -> Iterator[Node]:
        rest = [self.top]
        while rest:
            node = rest.pop()
            yield node
            rest += node.inputs

    @property
    def pages(self) -> int:
        """Pages of tables and indexes that were accessed, counted on each access."""
        return int(self.top.raw["Shared Hit Blocks"] + self.top.raw["Shared Read Blocks"])

    def read_from(self, table: str) -> int:
        """Return how many rows of the table (or of its indexes alone) were read."""
        return sum(node.rows_looked_at for node in self if node.relation == table)

    def sorted_rows(self) -> int:
        """Return how many rows were sorted."""
        return sum(child.rows_out for node in self if "Sort" in node.kind for child in node.inputs)

    def scans(self, table: str) -> set[str]:
        """Return the scan types with which the table was read."""
        return {node.kind for node in self if node.relation == table}

    def __str__(self) -> str:
        return json.dumps(self.top.raw, indent=1)


class Explaining:
    """Stands in for a connection: each query runs as it is, and its plan is kept.

    With `generic`, the plan is the one made without a look at the arguments, which PostgreSQL may
    settle on when a prepared statement has run a few times.
    """

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", *, generic: bool) -> None:
        self._connection = connection
        self._generic = generic
        self.plans: list[Plan] = []

    @property
    def as_connection(self) -> Connection:
        return cast("Connection", self)

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        await self._explain(query, arguments)
        return await self._connection.fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        await self._explain(query, arguments)
        return await self._connection.fetchrow(query, *arguments)

    async def fetchval(self, query: str, *arguments: object) -> Any:
        await self._explain(query, arguments)
        return await self._connection.fetchval(query, *arguments)

    async def _explain(self, query: str, arguments: Sequence[object]) -> None:
        mode = "force_generic_plan" if self._generic else "force_custom_plan"
        await self._connection.execute(
            f"SET plan_cache_mode = {mode}; PREPARE explained AS {query}"
        )
        values = f"({', '.join(map(_literal, arguments))})" if arguments else ""
        text: str = await self._connection.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE explained{values}"
        )
        await self._connection.execute("DEALLOCATE explained")
        self.plans.append(Plan(Node(json.loads(text)[0]["Plan"])))


def _literal(value: object) -> str:
    """Return the value in SQL, without a type: the server infers it."""
    match value:
        case None:
            return "NULL"
        case datetime():
            return f"'{value.isoformat()}'"
        case list():
            return f"'{{{','.join(map(str, value))}}}'"
        case _:
            return f"'{value}'"
