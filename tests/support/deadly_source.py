"""A data set in which one clip kills whoever reads it: what a crash of a decoder looks like."""

from __future__ import annotations

import os
import signal

from codeczoo.data.files import FileSource
from codeczoo.data.open import Content, Entry


class Deadly(FileSource):
    """Files, of which `deadly` (an id) ends every process but `main_process`, which has to plan."""

    deadly = ""
    main_process = 0

    def read(self, entry: Entry) -> Content:
        if entry.id == self.deadly and os.getpid() != self.main_process:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(entry)
