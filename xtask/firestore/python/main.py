"""Everything that an app does with Firestore through Google's Python client, item by item.

    FIRESTORE_EMULATOR_HOST=127.0.0.1:8080 python main.py [PART OF AN ITEM'S NAME]
"""

from harness import finish

import documents  # noqa: F401
import queries  # noqa: F401
import transactions  # noqa: F401
import listeners  # noqa: F401
import asynchronous  # noqa: F401

finish()
