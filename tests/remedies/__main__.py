"""Lists the remedies that no scenario executes; --write puts them on the list of those that wait."""

import sys

from tests.remedies.catalogue import remedies
from tests.remedies.registry import entries, open_remedies, pending, pending_line, write_pending

found = open_remedies()
if "--write" in sys.argv:
    write_pending(pending_line(one) for one in found)
for one in found:
    print(f"{one.where}\n    @remedy({one.clause!r}, {one.message[:70]!r})")
executed = sum(not entry.reason for entry in entries)
print(
    f"{len({(one.clause, one.message) for one in remedies()})} remedies; {executed} executed, "
    f"{len(entries) - executed} excuses, {len(found)} without a scenario ({len(pending())} wait)",
    file=sys.stderr,
)
